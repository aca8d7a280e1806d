"""Imported runs in use: measured by functions of JAX, sketched, stored, attributed, and on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("jax.numpy", reason="the extra jax is not installed")

import jax
import jax.numpy as jnp
from jax_cases import Case, Data, distance, double

import circuitsketch as cs
from circuitsketch import cli

RATE = 0.1


def logits(params, x):
    return jnp.tanh(x @ params["w1"] + params["b"]) @ params["w2"]


def losses(params, x, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], 1)[:, 0]


def new_params(params, batch, keep):
    grads = jax.grad(lambda p: (keep * losses(p, batch["x"], batch["y"])).mean())(params)
    return jax.tree_util.tree_map(lambda p, g: p - RATE * g, params, grads)


def step(state, batch, keep):
    return {"params": new_params(state["params"], batch, keep), "step": state["step"] + 1}


def initial_params():
    rng = np.random.default_rng(5)
    shapes = {"w1": (5, 4), "b": (4,), "w2": (4, 3)}
    return double({name: rng.normal(size=shape) / 2 for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def case():
    state = {"params": initial_params(), "step": 0}
    return Case(step, state, *Data(2).vectors(), lambda p, b: losses(p, b["x"], b["y"]))


X, Y = np.random.default_rng(6).normal(size=(3, 5)), np.array([0, 2, 1])


def test_a_deletion_measured_by_a_loss_in_jax_is_what_jax_retrains(case):
    sketch = cs.sketch(case.run, directions=24, order=3, per_example="series")
    query = sketch.measure(cs.jax.function(losses), X, Y)
    w = np.zeros(case.run.n)
    w[4] = 1.0
    truth = np.asarray(losses(case.retrain(w)["params"], X, Y))
    unchanged = np.asarray(losses(case.retrain(0 * w)["params"], X, Y))
    prediction = query.without([4])
    assert np.abs(prediction.value - truth).max() < 0.02 * np.abs(truth - unchanged).max()


def test_attribute_takes_a_run_and_a_loss_in_jax(case):
    loss = cs.jax.function(lambda p, x, y: losses(p, x, y).mean())
    query = cs.attribute(case.run, loss, X, Y, budget=40)
    w = np.zeros(case.run.n)
    w[[1, 7]] = 1.0
    truth = float(losses(case.retrain(w)["params"], X, Y).mean())
    unchanged = float(losses(case.retrain(0 * w)["params"], X, Y).mean())
    assert abs(query.without([1, 7]).value - truth) < 0.2 * abs(truth - unchanged)


def test_a_stored_sketch_is_measured_without_the_run(case, tmp_path):
    loss = cs.jax.function(losses)
    sketch = cs.sketch(case.run, directions=8, order=2, path=tmp_path / "run.sketch")
    stored = cs.open_sketch(tmp_path / "run.sketch")
    np.testing.assert_array_equal(
        stored.measure(loss, X, Y).without([3]).value, sketch.measure(loss, X, Y).without([3]).value
    )


def test_a_forward_pass_of_jax_trains_under_the_gradient_of_circuits(case):
    loss = cs.jax.function(losses)

    def native(state, batch, keep):
        grads = cs.grad(lambda p: (keep * loss(p, batch["x"], batch["y"])).mean())(state)
        return {name: state[name] - RATE * grads[name] for name in state}

    state = {name: np.asarray(leaf) for name, leaf in case.state["params"].items()}
    run = cs.Training(native, state, case.batches, case.examples)
    w = np.linspace(-0.5, 1.0, run.n)
    assert distance(run.retrain(without=w), case.retrain(w)["params"]) < 1e-13


def test_a_function_of_plain_arrays_is_computed_in_double_precision():
    function = cs.jax.function(lambda x, name, scale: {"y": jnp.exp(x) * scale, "n": len(name)})
    result = function(np.float32(0.1), "abc", 2)
    assert result["y"] == 2 * np.exp(np.float64(np.float32(0.1))) and result["n"] == 3


class Train(NamedTuple):
    """A state like flax's, with a function among its leaves and a number that no step changes."""

    params: dict
    key: jax.Array
    rate: float
    step: int
    apply: object


def test_a_state_may_be_any_pytree_and_comes_back_as_it_was(case):
    def step(state, batch, keep):
        key, drawn = jax.random.split(state.key)
        batch = batch | {"x": batch["x"] + state.rate * jax.random.normal(drawn, batch["x"].shape)}
        params = new_params(state.params, batch, keep)
        return state._replace(params=params, key=key, step=state.step + 1)

    state = Train(case.state["params"], jax.random.key(3), 0.01, 0, logits)
    run = cs.jax.training(step, state, case.batches, case.examples)
    assert run.state_names == [f"state.params.{name}" for name in ("b", "w1", "w2")]
    trained = run.to_jax(run.train())
    for batch, ids in zip(case.batches, case.examples, strict=True):
        state = step(state, batch, jnp.ones(len(ids)))
    assert type(trained) is Train and trained.apply is logits and trained.rate == 0.01
    assert int(trained.step) == len(case.batches)
    np.testing.assert_array_equal(jax.random.key_data(trained.key), jax.random.key_data(state.key))
    assert distance(trained.params, state.params) < 1e-13
    assert distance(run.params(run.train()), state.params) < 1e-13  # state.params, by default


def test_what_no_step_changes_is_a_constant_and_no_data(case):
    def step(state, batch, keep):
        x = jnp.tanh(batch["x"] @ state["frozen"])
        return {"params": new_params(state["params"], batch | {"x": x}, keep), "frozen": state["frozen"]}

    state = {"params": case.state["params"], "frozen": np.linspace(-1, 1, 25).reshape(5, 5)}
    run = cs.jax.training(step, state, case.batches, case.examples)
    features = [batch | {"x": np.tanh(batch["x"] @ state["frozen"])} for batch in case.batches]
    plain = cs.jax.training(
        lambda s, b, keep: {"params": new_params(s["params"], b, keep)},
        {"params": state["params"]},
        features,
        case.examples,
    )
    assert distance(run.train(), plain.train()) < 1e-14
    sizes = [sum(np.size(array) for arrays in batch.values() for array in arrays) for batch in run.batches]
    assert set(sizes) == {sum(np.size(array) for arrays in plain.batches[0].values() for array in arrays)}


def test_batches_of_several_shapes_and_branches_on_data_have_a_circuit_each(case):
    batches = [*case.batches, *[{name: a[:4] for name, a in batch.items()} for batch in case.batches]]
    examples = [*case.examples, *[ids[:4] for ids in case.examples]]

    def step(state, batch, keep):
        params = new_params(state["params"], batch, keep)
        half = jax.tree_util.tree_map(lambda p: p / 2, params)
        return {
            "params": jax.lax.cond(state["step"] % 3 == 2, lambda: half, lambda: params),
            "step": state["step"] + 1,
        }

    run = cs.jax.training(step, case.state, batches, examples)
    assert len(run.circuits) == 4
    state = case.state
    for batch, ids in zip(batches, examples, strict=True):
        state = step(state, batch, jnp.ones(len(ids)))
    assert distance(run.to_jax(run.train()), state) < 1e-13


def test_a_step_in_single_precision_agrees_up_to_its_rounding(case):
    single = jax.tree_util.tree_map(lambda x: jnp.asarray(x, np.float32), case.state["params"])
    run = cs.jax.training(step, {"params": single, "step": 0}, case.batches, case.examples)
    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else jax.experimental.disable_x64():
        state = {"params": single, "step": 0}
        for batch, ids in zip(case.batches, case.examples, strict=True):
            batch = {"x": np.float32(batch["x"]), "y": np.int32(batch["y"])}
            state = step(state, batch, jnp.ones(len(ids), np.float32))
    assert distance(run.train()["params"], state["params"]) < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": lambda s, b, keep: (s, 0.0)}, "without losses or metrics"),
        ({"step": lambda s, b, keep: {**s, "loss": keep.sum()}}, "returns state.loss, which the state has not;"),
        ({"step": lambda s, b, keep: {"params": {}, "step": s["step"]}}, "same structure"),
        ({"step": lambda s, b, keep: s}, "does not depend on keep"),
        ({"step": lambda s, b: s}, r"\(state, batch, keep\)"),
        ({"step": lambda s, b, keep: jax.tree_util.tree_map(lambda x: jnp.stack([x, x]), s)}, "shape"),
        ({"examples": [[0]]}, "one list of ids per step"),
        ({"step": 3}, "must be a function|callable"),
    ],
)
def test_mistakes_are_input_errors(case, change, message):
    arguments = {"step": step, "state": case.state, "batches": case.batches, "examples": case.examples} | change
    with pytest.raises(cs.CircuitSketchError, match=message):
        cs.jax.training(**arguments)


def test_a_measurement_that_is_not_imported_is_told_how_to_be(case):
    with pytest.raises(cs.InputError, match=r"cs\.jax\.function\(f\)$"):
        cs.sketch(case.run, 2, 1).measure(lambda params: losses(params, X, Y).mean())


def test_what_jax_cannot_trace_names_the_line_and_what_to_check(case):
    def of_a_vector(s, b, keep):
        return {"params": jax.grad(lambda p: keep * losses(p, b["x"], b["y"]).mean())(s["params"]), "step": s["step"]}

    def branching(s, b, keep):
        return s if losses(s["params"], b["x"], b["y"]).mean() > 0 else {**s, "step": s["step"] + keep.sum()}

    for wrong, words in ((of_a_vector, "scalar-output.*their mean is a number"), (branching, "jnp.where or lax.cond")):
        line = wrong.__code__.co_firstlineno + 1
        with pytest.raises(cs.TraceError, match=f"test_jax_runs.py:{line}: JAX cannot trace this: .*{words}"):
            cs.jax.training(wrong, case.state, case.batches, case.examples)


def test_importing_the_package_does_not_import_jax_and_without_it_the_extra_is_named():
    program = (
        "import sys, circuitsketch as cs\n"
        "assert 'jax' not in sys.modules\n"
        "sys.modules['jax'] = None\n"
        "try: cs.jax.function(len)\n"
        "except cs.InputError as reason: print(reason)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert "pip install 'circuitsketch[jax]'" in result.stdout


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, circuitsketch as cs

def run():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3))
    def step(w, batch, keep):
        return w - 0.1 * jax.grad(lambda w: (keep * jax.nn.softplus(batch @ w)).mean())(w)
    ids = [[0, 1, 2, 3], [4, 5, 6, 7], [0, 2, 4, 6]]
    return cs.jax.training(step, jnp.ones(3), [x[i] for i in ids], ids)

@cs.jax.function
def loss(w):
    return jnp.square(w).sum()
"""


def test_the_command_line_takes_a_run_and_a_measurement_in_jax(tmp_path, capsys):
    file, store = tmp_path / "model.py", str(tmp_path / "run.sketch")
    file.write_text(PROGRAM)
    for command in (
        ["sketch", f"{file}:run", "--directions", "8", "--order", "2", "--per-example", "--out", store],
        [
            "predict",
            store,
            "--measure",
            f"{file}:loss",
            "--without",
            "2",
            "--retrain",
            "--target",
            f"{file}:run",
            "--json",
            "-",
        ],
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main(command)
        assert not left.value.code
    answer = json.loads(capsys.readouterr().out)
    assert answer["retrained"] == pytest.approx(answer["value"], abs=1e-3)
