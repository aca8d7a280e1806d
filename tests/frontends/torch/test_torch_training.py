"""Training steps of PyTorch as runs: trained and retrained, their series, and deletions, against PyTorch itself."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.tree import unflatten

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'torch==2.13.0+cpu'")

from torch.func import functional_call, grad  # noqa: E402
from torch_steps import BATCH, STEPS, cross_entropy, mlp, training_step, vectors  # noqa: E402

N, TURNS = 12, 4


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


class Case:
    """A step of the table, as a run and in PyTorch."""

    def __init__(self, name: str, seed: int = 7) -> None:
        model, loss, rule, data = STEPS[name]()
        self.step, self.state = training_step(model, loss, rule)
        rng = np.random.default_rng(0)
        self.examples = [rng.permutation(N)[:BATCH] for _ in range(TURNS)]
        everything = data(N)
        self.batches = [tuple(part[ids] for part in everything) for ids in self.examples]
        self.seed = seed
        self.run = cs.torch.training(self.step, self.state, self.batches, self.examples, n=N, seed=seed)

    def retrain(self, w):
        """The parameters that PyTorch trains with downweights w, as one vector."""
        torch.manual_seed(self.seed)
        state = self.state
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for batch, ids in zip(self.batches, self.examples, strict=True):
                state = self.step(state, batch, torch.tensor(1.0 - w[ids]))
        return vector(state["params"])


def vector(params):
    return np.concatenate([np.asarray(part).ravel() for part in params.values()])


def by_reference(run, w, psi=None, order=0):
    """The coefficients of the parameters, (order + 1, p), with downweights w along psi, by the reference evaluator.

    It takes no time to compile; that kernels agree with it is tested elsewhere, and below once.
    """
    values, series = by_reference_state(run, w, psi, order)
    leaves = [np.concatenate([v[None], s[0].real]) if order else v[None] for v, s in zip(values, series, strict=True)]
    return np.stack([vector(run.params(unflatten(run.state_tree, [x[k] for x in leaves]))) for k in range(order + 1)])


def by_reference_state(run, w, psi=None, order=0):
    """The values and the coefficients of the state's leaves, by the reference evaluator."""
    values: list = list(run.state_leaves)
    series: list = [None] * len(values)
    for t, ids in enumerate(run.examples):
        data = run.data_of(t)
        keep = None if psi is None else -np.eye(1, order)[..., None] * psi[ids]
        circuit = run.circuits[run.schedule.program[t]]
        out = reference.run(circuit, [*values, *data, 1.0 - w[ids]], [*series, *[None] * len(data), keep], order)
        values = [part[0, 0].real for part in out]
        series = [part[:, 1:] if order else None for part in out]
    return values, series


@pytest.mark.parametrize("name", STEPS)
def test_a_step_trains_retrains_has_the_series_of_pytorch_and_predicts_a_deletion(name):
    case = Case(name)
    w = np.zeros(N)
    w[[1, 4, 7]] = 1.0, 0.5, -1.0
    for weights in (np.zeros(N), w):
        np.testing.assert_allclose(by_reference(case.run, weights)[0], case.retrain(weights), rtol=0, atol=1e-11)
    psi = np.random.default_rng(1).normal(size=N)
    series = by_reference(case.run, np.zeros(N), psi, 3)
    nodes = np.arange(-4, 5)
    best = np.full(3, np.inf)
    for step in (0.02, 4e-3, 8e-4):  # each order has a step of its own at which its error is least
        values = np.stack([case.retrain(z * step * psi) for z in nodes])
        fit = np.linalg.solve(np.vander(nodes, 9, increasing=True), values)
        errors = [np.abs(fit[k] / step**k - series[k]).max() / np.abs(series[k]).max() for k in (1, 2, 3)]
        best = np.minimum(best, errors)
    assert best[0] < 1e-9 and best[1] < 1e-6 and best[2] < 1e-3, best
    deleted = 0.01 * np.eye(N)[case.examples[0][0]]  # of its weight, so that order 3 is accurate
    predicted = by_reference(case.run, np.zeros(N), deleted, 3)
    truth = case.retrain(deleted)
    change = np.linalg.norm(truth - predicted[0])
    assert np.linalg.norm(truth - predicted.sum(axis=0)) < 0.01 * change and change > 1e-8


@pytest.mark.parametrize("name", ["mlp, relu, sgd", "cnn, max pool, batch norm"])
def test_a_run_with_kinks_is_compiled_and_pushed_without_a_warning(name):
    case = Case(name)
    w, psi = np.zeros(N), np.random.default_rng(1).normal(size=N)
    w[[1, 4]] = 1.0, -0.5
    np.testing.assert_allclose(
        vector(case.run.params(case.run.retrain(without=w))), case.retrain(w), rtol=0, atol=1e-11
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = cs.push(case.run, psi[None], 2).coefficients(
            lambda p: np.concatenate([np.ravel(x) for x in p.values()])
        )
    expected = by_reference(case.run, np.zeros(N), psi, 2)
    np.testing.assert_allclose(series[0], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_deletion_is_predicted_and_retrained_in_pytorch():
    case = Case("activations and layer norm")
    sketch = cs.sketch(case.run, directions=0, order=4, per_example="series")
    x = vectors(20)[0]

    def measure(params):
        model = STEPS["activations and layer norm"]()[0]
        return functional_call(model, params, (x,)).logsumexp(-1).mean()

    answer = sketch.measure(cs.torch.function(measure)).without([3])
    state = case.state
    for batch, ids in zip(case.batches, case.examples, strict=True):
        state = case.step(state, batch, torch.tensor((ids != 3) * 1.0))
    retrained = float(measure(state["params"]))
    assert abs(answer.value - retrained) < 0.02 * abs(answer.value - answer.baseline)
    back = case.run.to_torch(case.run.retrain(without=[3]))
    assert float(measure(back["params"])) == pytest.approx(retrained, rel=1e-12)


OPTIMISERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2, "momentum": 0.5}),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_of_torch_optim_is_that_of_a_usual_loop(name):
    kind, options = OPTIMISERS[name]
    model = mlp(torch.nn.GELU())
    params = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimiser = cs.torch.optimiser(kind, **options)

    def step(state, batch, keep):
        def total(p):
            return (keep * cross_entropy(lambda x: functional_call(model, p, (x,)), *batch)).mean()

        params, inner = optimiser.step(state["params"], grad(total)(state["params"]), state["optimiser"])
        return {"params": params, "optimiser": inner}

    x, y = vectors(N)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)
    examples = [range(0, BATCH), range(BATCH, N)] * 2
    state = {"params": params, "optimiser": optimiser.init(params)}
    run = cs.torch.training(step, state, [*loader, *loader], examples)
    keep = np.ones(N)
    keep[[2, 9]] = 0.0, 0.5
    usual = kind(model.parameters(), **options)
    for batch, ids in zip([*loader, *loader], examples, strict=True):
        usual.zero_grad()
        (torch.tensor(keep[list(ids)]) * cross_entropy(model, *batch)).mean().backward()
        usual.step()
    theirs = vector({key: value.detach() for key, value in model.named_parameters()})
    np.testing.assert_allclose(vector(run.params(run.retrain(without=1.0 - keep))), theirs, rtol=0, atol=1e-14)


def test_what_no_weight_reaches_is_pytorchs():
    """A schedule, a counter, a sort of the data, an argmax of it and a mask that is drawn: none is in the circuit."""

    def step(state, batch, keep):
        x = torch.sort(batch, 1).values * torch.nn.functional.one_hot(batch.argmax(1), 3)
        mask = torch.bernoulli(torch.full_like(x, 0.5))
        rate = 0.1 / (1.0 + state["t"]) * torch.round(batch.sum() * 0.0 + 1.4)
        loss = lambda w: (keep * ((x * mask) @ w - 1.0) ** 2).sum()  # noqa: E731
        return {"w": state["w"] - rate * grad(loss)(state["w"]), "t": state["t"] + 1, "mask": mask[0]}

    data = torch.randn(8, 3)
    state = {"w": torch.ones(3), "t": torch.tensor(0), "mask": torch.zeros(3)}
    batches = [data[i : i + 2] for i in range(0, 8, 2)]
    examples = [[i, i + 1] for i in range(0, 8, 2)]
    run = cs.torch.training(step, state, batches, examples, params=lambda s: s["w"], seed=3)
    assert run.state_names == ["state.w"] and len(run.circuits) == 1
    torch.manual_seed(3)
    for batch in batches:
        state = step(state, batch, torch.tensor([1.0, 0.0]))
    theirs = run.to_torch(run.retrain(without=[1, 3, 5, 7]))
    for key in state:
        torch.testing.assert_close(theirs[key], state[key], rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63, 2**64 - 1])
def test_a_seed_is_any_that_pytorch_takes(seed):
    def draw(state, batch, keep):
        return state + keep.sum() * torch.rand(())

    run = cs.torch.training(draw, torch.zeros(()), [torch.zeros(1)], [[0]], seed=seed)
    torch.manual_seed(seed)
    assert float(run.train()) == float(torch.rand(()))


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 1.0, True])
def test_another_seed_is_refused(seed):
    with pytest.raises(cs.InputError, match="seed must be an integer of at (least|most)"):
        cs.torch.training(lambda s, x, keep: s + keep.sum() * x, torch.zeros(()), [torch.ones(())], [[0]], seed=seed)


def test_running_statistics_are_part_of_the_state():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    def step(state, batch, keep):
        def total(params):
            buffers = {name: buffer.clone() for name, buffer in state["buffers"].items()}
            out = functional_call(model, {**params, **buffers}, (batch,))[:, 0]
            return (keep * out**2).mean(), buffers

        grads, buffers = grad(total, has_aux=True)(state["params"])
        return {"params": {k: state["params"][k] - 0.1 * grads[k] for k in grads}, "buffers": buffers}

    parts = {"params": model.named_parameters(), "buffers": model.named_buffers()}
    state = {part: {name: value.detach().clone() for name, value in leaves} for part, leaves in parts.items()}
    batches = list(torch.randn(3, 4, 3))
    run = cs.torch.training(step, state, batches, [[0, 1, 2, 3]] * 3)
    keep = torch.tensor([1.0, 0.0, 0.5, 2.0])
    for batch in batches:
        state = step(state, batch, keep)
    ours = run.layout.to_torch(unflatten(run.state_tree, by_reference_state(run, 1.0 - keep.numpy())[0]))
    torch.testing.assert_close(ours, state, rtol=0, atol=1e-13)
    assert int(ours["buffers"]["1.num_batches_tracked"]) == 3


def test_a_run_is_grouped_copied_and_pickled_with_its_state():
    step = lambda s, x, keep: {"params": (s["params"][0] + keep.sum() * x, 2), "t": s["t"] + 1}  # noqa: E731
    state = {"params": (torch.zeros(()), 2), "t": torch.tensor(0)}
    run = cs.torch.training(step, state, [torch.tensor(1.0), torch.tensor(10.0)], [[0], [1]])
    for same in (run.grouped(["a", "b"]), pickle.loads(pickle.dumps(run))):
        trained = same.retrain(without=[1])
        assert same.to_torch(trained)["t"] == 2 and same.params(trained)[0] == 1.0
        assert type(same.params(trained)) is tuple
    assert type(run.for_workers()) is cs.Training and not hasattr(run.for_workers(), "layout")


def test_single_precision_is_computed_in_double():
    torch.set_default_dtype(torch.float32)
    case = Case("mlp, gelu, adam")
    ours, theirs = vector(case.run.params(case.run.train())), case.retrain(np.zeros(N).astype(np.float32))
    assert 0 < np.abs(ours - theirs).max() < 1e-4
    assert case.run.to_torch(case.run.train())["params"]["0.weight"].dtype == torch.float32


def refused(step, state=None, batch=None):
    state = {"w": torch.ones(3)} if state is None else state
    return lambda: cs.torch.training(step, state, [torch.ones(2, 3) if batch is None else batch], [[0, 1]])


def branching(state, batch, keep):
    total = (keep * (batch @ state["w"])).sum()
    if total > 0:
        return state
    return {"w": state["w"] * total}


def masked(state, batch, keep):
    return {"w": state["w"] * (keep[0] * batch)[batch > 0.5].sum()}


def rounded(state, batch, keep):
    return {"w": torch.round(state["w"] * keep[0])}


def ordered(state, batch, keep):
    return {"w": torch.sort(state["w"] * keep[0]).values}


def drawn(state, batch, keep):
    w = state["w"] * keep[0]
    return {"w": w + torch.bernoulli(torch.sigmoid(w))}


def counted(state, batch, keep):
    return {"w": state["w"] * (state["w"] * keep[0]).to(torch.int64)}


def solved(state, batch, keep):
    return {"w": torch.linalg.solve(torch.eye(3) * keep[0], state["w"])}


class Own(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, ct):
        return ct * ctx.saved_tensors[0]


def with_its_own_backward(state, batch, keep):
    return {"w": Own.apply(state["w"] * keep[0])}


def by_autograd(state, batch, keep):
    w = state["w"].detach().clone().requires_grad_()
    return {"w": w - torch.autograd.grad((keep * (batch @ w)).sum(), w)[0]}


def by_backward(state, batch, keep):
    w = torch.nn.Parameter(state["w"].detach().clone())
    (keep * (batch @ w)).sum().backward()
    return {"w": w - w.grad}


def of_a_vector(state, batch, keep):
    return {"w": state["w"] - grad(lambda w: keep * (batch @ w).mean())(state["w"])}


@pytest.mark.parametrize(
    "step, words",
    [
        (with_its_own_backward, "calls a torch.autograd.Function"),
        (by_autograd, "by torch.func.grad"),
        (by_backward, "by torch.func.grad"),
        (of_a_vector, "scalar Tensor.*their mean is a number"),
        (branching, "a branch, .item.*torch.where"),
        (masked, "a mask as an index"),
        (rounded, r"aten.round.default .*locally constant"),
        (ordered, r"aten.sort.*the order of its elements"),
        (drawn, r"aten.bernoulli.*fixed distribution"),
        (counted, "to torch.int64: integers are locally"),
        (solved, "decompositions of matrices"),
    ],
)
def test_what_has_no_gate_is_refused_with_its_line_and_a_way_out(step, words):
    line = step.__code__.co_firstlineno
    with pytest.raises(cs.TraceError, match=words) as refusal:
        refused(step)()
    at = int(str(refusal.value).split("test_torch_training.py:")[1].split(" ")[0].rstrip(":"))
    assert line < at <= line + 2


def test_a_loader_that_shuffles_is_refused_and_one_of_a_given_order_is_not():
    data = torch.utils.data.TensorDataset(*vectors(N))
    model, loss, rule, _ = STEPS["mlp, gelu, adam"]()
    step, state = training_step(model, loss, rule)
    order = torch.randperm(N).split(BATCH)
    with pytest.raises(cs.InputError, match="RandomSampler.*batch_sampler=order") as refusal:
        cs.torch.training(step, state, torch.utils.data.DataLoader(data, BATCH, shuffle=True), order)
    assert "examples=order" in str(refusal.value)
    run = cs.torch.training(step, state, torch.utils.data.DataLoader(data, batch_sampler=order), order)
    keep = torch.ones(N)
    keep[[2, 7]] = 0.0
    for ids in order:
        state = step(state, data[ids], keep[ids])
    ours = run.params(run.retrain(without=[2, 7]))
    np.testing.assert_allclose(vector(ours), vector(state["params"]), rtol=0, atol=1e-12)


def test_a_measurement_that_is_not_imported_is_told_how_to_be():
    run = cs.torch.training(lambda s, x, keep: s + keep.sum() * x, torch.ones(3), [torch.ones(3)], [[0]])
    with pytest.raises(cs.InputError, match=r"cs\.torch\.function\(f\)$"):
        cs.sketch(run, 2, 1).measure(lambda w: torch.nn.functional.gelu(w).sum())


def test_a_state_of_another_structure_or_shape_is_refused():
    with pytest.raises(cs.InputError, match="the state contains Linear.*named_parameters"):
        refused(lambda s, b, keep: s, torch.nn.Linear(2, 2))()
    with pytest.raises(cs.InputError, match="returns state.loss, which the state has not.*losses or metrics beside it"):
        refused(lambda s, b, keep: {"w": s["w"] * keep[0], "loss": keep.sum()})()
    with pytest.raises(cs.ShapeError, match=r"step 0 returns state.w of shape \(1, 3\)"):
        refused(lambda s, b, keep: {"w": s["w"][None] * keep[0]})()
    with pytest.raises(cs.InputError, match="does not depend on keep"):
        refused(lambda s, b, keep: {"w": s["w"] * 2.0})()
    with pytest.raises(cs.InputError, match="a class of torch.optim"):
        cs.torch.optimiser("adam")
