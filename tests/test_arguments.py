"""Every argument of every public function, spoiled one at a time: an error of the package comes out, or a result.

In: the signatures, as `inspect` reads them, and one valid call of each. A parameter that is added later is tried by
being there. Nothing else is a right answer: a bare error of NumPy's or Python's says nothing about what to do.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import importlib.util
import inspect
import io
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.directions import Sphere


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Some arguments are names of files and folders: those that are valid are made in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


class Broken:
    """Whatever is asked of it fails."""

    def fail(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("broken on purpose")

    __array__ = __len__ = __iter__ = __repr__ = __eq__ = __bool__ = __float__ = __index__ = __fspath__ = fail
    __hash__ = None  # type: ignore[assignment]


class Liar:
    """Says that it is long, and is not."""

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, i: int) -> int:
        raise IndexError(i)


def object_array() -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [object(), None]
    return array


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


def itself() -> list[Any]:
    nested: list[Any] = [1.0]
    nested.append(nested)
    return nested


# Made anew for each call: some can be gone through only once.
NASTY: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "half": lambda: 0.5,
    "minus half": lambda: -0.5,
    "1e308": lambda: 1e308,
    "1e-320": lambda: 1e-320,
    "10**20": lambda: 10**20,
    "2**63": lambda: 2**63,
    "2**70": lambda: 2**70,
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "-2**70": lambda: -(2**70),
    "True": lambda: True,
    "NumPy's False": lambda: np.False_,
    "empty text": lambda: "",
    "text": lambda: "nonsense",
    "text with NUL": lambda: "x\0y",
    "half a character": lambda: "\ud800",
    "long text": lambda: "z" * 100_000,
    "digits": lambda: "3" * 5000,
    "bytes": lambda: b"x",
    "a bytearray": lambda: bytearray(b"xy"),
    "empty list": lambda: [],
    "empty tuple": lambda: (),
    "empty dict": lambda: {},
    "a dict": lambda: {"a": 1, 2: None},
    "empty set": lambda: set(),
    "a set": lambda: {1, "a"},
    "a frozenset of text": lambda: frozenset({"a"}),
    "a range": lambda: range(3, 0, -1),
    "an object": lambda: object(),
    "a type": lambda: int,
    "a module": lambda: np,
    "a lambda of nothing": lambda: lambda: None,
    "a lambda of anything": lambda: lambda *arguments, **options: None,
    "a lambda that gives text": lambda: lambda *arguments, **options: "text",
    "ragged lists": lambda: [[0], [0, 1], []],
    "ragged deeper": lambda: [[[0]], [0]],
    "nested lists": lambda: [[[[0]]]],
    "a list of None": lambda: [None, None],
    "a list of NaN": lambda: [float("nan"), float("nan")],
    "a list of huge integers": lambda: [10**400, 1],
    "a list of integers above int64": lambda: [2**63, 0],
    "a list of text": lambda: ["a", "b"],
    "a list of mixed": lambda: [1, "a", None],
    "a list of lists of text": lambda: [["a"], ["b"]],
    "a list of sets": lambda: [{0}, {1}],
    "a list of dicts": lambda: [{}, {}],
    "a list of functions": lambda: [len, len],
    "a list of broken things": lambda: [Broken(), Broken()],
    "a list in itself": itself,
    "a list of 100,000 in each other": deep,
    "a generator": lambda: (i for i in range(2)),
    "a generator that fails": lambda: (1 // i for i in (1, 0)),
    "0-d": lambda: np.array(0),
    "0-d float": lambda: np.array(0.5),
    "0-d NaN": lambda: np.array(np.nan),
    "0-d text": lambda: np.array("a"),
    "0-d object": lambda: np.array(None),
    "no entries": lambda: np.zeros(0),
    "no rows": lambda: np.zeros((0, 2)),
    "no columns": lambda: np.zeros((2, 0)),
    "five axes": lambda: np.zeros((1, 1, 1, 1, 1)),
    "NaNs": lambda: np.full((2, 2), np.nan),
    "infinities": lambda: np.full(2, np.inf),
    "complex": lambda: 1j,
    "complex array": lambda: np.array([1j, 2.0]),
    "int8": lambda: np.array([200, 1], dtype=np.uint8),
    "uint64": lambda: np.array([2**64 - 1, 0], dtype=np.uint64),
    "float16": lambda: np.array([1e4, 6e4], dtype=np.float16),
    "longdouble": lambda: np.array([1.0, 2.0], dtype=np.longdouble),
    "text array": lambda: np.array(["a", "b"]),
    "bytes array": lambda: np.array([b"a", b"b"]),
    "object array": object_array,
    "record array": lambda: np.zeros(2, dtype=[("a", int), ("b", float)]),
    "void": lambda: np.void(b"abcd"),
    "dates": lambda: np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
    "a date": lambda: np.datetime64("2020-01-01"),
    "a duration": lambda: np.timedelta64(3, "s"),
    "Python's date": lambda: datetime.date(2020, 1, 1),
    "decimal": lambda: decimal.Decimal("1.5"),
    "decimal NaN": lambda: decimal.Decimal("sNaN"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "NumPy's generator": lambda: np.random.default_rng(0),
    "a file": lambda: io.StringIO("x"),
    "a memoryview": lambda: memoryview(b"abcdefgh"),
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "a slice": lambda: slice(None),
    "an exception": lambda: ValueError("x"),
    "broken": lambda: Broken(),
    "a liar": lambda: Liar(),
}  # fmt: skip
NANS = {"NaN", "0-d NaN", "a list of NaN", "NaNs"}


def step(state: Any, x: Any, keep: Any) -> Any:
    return state + np.tanh(keep.sum() * x - state)


RUN = cs.Training(step, np.zeros(()), [1.0, 2.0, 0.5], [[0], [1], [2]], labels=["a", "b", "a"], items=[1, 2, 3])
SKETCH = cs.sketch(RUN, 3, 2, per_example="series")
QUERY = SKETCH.measure(lambda s: s)
LONG = cs.Training(step, np.zeros(()), np.linspace(0.1, 1.0, 12), [[i] for i in range(12)], labels=list("abcabcabcabc"))
HALVES = np.random.default_rng(0).integers(0, 2, size=(9, 3)) * 0.5 + 0.25
FOLDER = tempfile.TemporaryDirectory()
STORED = cs.sketch(RUN, 3, 2, per_example="series", path=f"{FOLDER.name}/a.sketch")
STORED.measure(lambda s: s).calibrate(HALVES, truth=np.linspace(0.5, 0.6, 9)).keep_calibration()
PLAIN = cs.sketch(RUN, 4, 2, distribution="sphere").measure(lambda s: np.stack([s, s * s]))
ANSWERS = cs.evaluate(QUERY, [[0], [1], [2]], run=RUN, measure=lambda s: s)
CIRCUIT = cs.trace(lambda x: np.exp(x).sum(), np.zeros(2))
COMPILED = cs.compile(CIRCUIT, 2)
PARAMS, GRADS = {"w": np.ones(2)}, {"w": np.full(2, 0.5)}
RULES = {rule: getattr(cs.optim, rule) for rule in ("sgd", "momentum", "adam", "adamw")}
STATES = {rule: getattr(cs.optim, f"{rule}_state")(PARAMS) for rule in RULES}
X = np.array([0.5, 1.5])


def of_one(name: str) -> Callable[[Any], Any]:
    """A function of one array, which has no signature of its own."""
    return lambda x: getattr(cs, name)(x)


# A valid call of each: the function and its arguments by name. Without them, by those that have no default.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Training": (
        cs.Training,
        {"step": step, "state": 0.0, "batches": [1.0, 2.0], "examples": [[0], [1]], "labels": ["a", "b"], "n": 2},
    ),
    "Training.retrain": (RUN.retrain, {"without": [0]}),
    "jax.training": (
        cs.jax.training,
        {
            "step": lambda s, x, keep: s + keep.sum() * x,
            "state": 0.5,
            "batches": [1.0, 2.0],
            "examples": [[0], [1]],
            "labels": ["a", "b"],
            "n": 2,
        },
    ),
    "jax.function": (cs.jax.function, {"f": lambda x: x}),
    "Training.retrain of many": (RUN.retrain, {"without": [[0], [1]]}),
    "Training.grouped": (RUN.grouped, {"labels": ["a", "b", "a"]}),
    "Training.params": (RUN.params, {"state": np.zeros(())}),
    "sketch": (cs.sketch, {"run": RUN, "directions": 3, "order": 2}),
    "sketch with singles": (
        cs.sketch,
        {"run": RUN, "directions": 3, "order": 2, "per_example": "series", "per_example_order": 2},
    ),
    "push": (cs.push, {"run": RUN, "directions": np.eye(3), "order": 2}),
    "local_sketch": (cs.local_sketch, {"function": lambda x: (x * x).sum(), "at": X, "directions": 3, "order": 2}),
    "open_sketch": (cs.open_sketch, {"path": "/nowhere/at/all"}),
    "metagradient": (cs.metagradient, {"run": RUN, "function": lambda s: s}),
    "influence": (cs.influence, {"run": RUN, "function": lambda s: s, "top": 2}),
    "metagradient along": (
        cs.metagradient,
        {"run": RUN, "function": lambda s: s, "directions": np.eye(3), "order": 2, "at": np.zeros(3), "checkpoints": 2},
    ),
    "attribute": (cs.attribute, {"run": LONG, "function": lambda s: s, "budget": 14.0, "size": (1, 3), "seed": 1}),
    "attribute of picked values": (
        cs.attribute,
        {
            "run": LONG,
            "function": lambda s: np.stack([s, s * s]),
            "budget": 20.0,
            "subsets": [[i, i + 1, i + 3] for i in range(9)],
            "values": [0, 1, 0, 1, 0, 1, 0, 1, 0],
        },
    ),
    "sketch with retrained models": (
        cs.sketch,
        {"run": RUN, "directions": 0, "order": 1, "per_example": "retrained"},
    ),
    "executor": (lambda name: cs.executor(name).__enter__(), {"name": "dask://nowhere/at/all"}),
    "plan": (cs.plan, {"epsilon": 0.5, "delta": 0.2, "run": RUN, "seconds_per_gate": 1e-9}),
    "evaluate": (cs.evaluate, {"query": QUERY, "subsets": [[0], [1]], "run": RUN, "measure": lambda s: s}),
    "evaluate with truths": (cs.evaluate, {"query": QUERY, "subsets": [[0], [1]], "truth": [0.1, 0.2]}),
    "retrain_worst": (cs.retrain_worst, {"query": QUERY, "run": RUN, "measure": lambda s: s, "count": 1}),
    "read_datamodels": (cs.read_datamodels, {"folder": "/nowhere/at/all"}),
    "compile": (cs.compile, {"circuit": CIRCUIT}),
    "trace": (lambda function, example: cs.trace(function, example), {"function": np.exp, "example": X}),
    "Compiled": (lambda x: COMPILED(x), {"x": X}),
    "Compiled.series": (COMPILED.series, {"args": (X,), "coefficients": (np.ones((1, 2, 2)),)}),
    "grad": (cs.grad, {"function": lambda x: (x * x).sum()}),
    "grad's function": (lambda x: cs.grad(lambda x: (x * x).sum())(x), {"x": X}),
    "grad in": (lambda argument: cs.grad(lambda x: (x * x).sum(), argument)(X), {"argument": 0}),
    "grad of": (lambda function: cs.grad(function)(X), {"function": np.sum}),
    "value_and_grad": (cs.value_and_grad, {"function": np.sum}),
    "jvp": (cs.jvp, {"function": np.exp, "primals": (X,), "tangents": (X,)}),
    "Sketch.measure": (SKETCH.measure, {"function": lambda s: s}),
    "Sketch.measure with": (lambda arg: SKETCH.measure(lambda s, arg: s, arg), {"arg": 1.0}),
    "Sketch.query": (STORED.query, {"function": lambda s: s, "kind": "given", "size": 1}),
    "Sketch.extend": (SKETCH.extend, {"directions": 4}),
    "Sketch.coefficients": (SKETCH.coefficients, {"function": lambda s: s}),
    "Query": (
        cs.Query,
        {
            "coefficients": QUERY.coefficients,
            "distribution": QUERY.distribution,
            "per_example": QUERY.per_example,
            "similarity": np.eye(3),
            "labels": ["a", "b", "c"],
        },
    ),
    "Query of directions": (cs.Query, {"coefficients": PLAIN.coefficients, "distribution": Sphere(3)}),
    "Query.with_evidence": (QUERY.with_evidence, {"what": [[0], [1]], "values": [0.5, 0.5]}),
    "Query.with_evidence of series": (
        QUERY.with_evidence,
        {"what": [[0], [1]], "coefficients": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]},
    ),
    "Query.calibrate": (QUERY.calibrate, {"subsets": HALVES, "truth": np.linspace(0.5, 0.6, 9)}),
    "Query.evaluate": (QUERY.evaluate, {"subsets": [[0], [1]], "seed": 1}),
    "Query.retrain_worst": (QUERY.retrain_worst, {"count": 1}),
    "Query.explore": (QUERY.explore, {"name": "value", "calibrate": 0}),
    "Prediction.interval": (QUERY.without([0]).interval, {"level": 0.9}),
    "Influence.top": (QUERY.influence().top, {"k": 2}),
    "Stability.alpha": (PLAIN.stability().alpha, {"radius": 2.0}),
    "Stability.decay": (PLAIN.stability().decay, {"length": 2.0}),
    "Evaluation.where": (ANSWERS.where, {"chosen": [True, True, False]}),
    "Evaluation.save": (ANSWERS.save, {"folder": "/dev/null/nowhere"}),
    "cross_entropy": (cs.cross_entropy, {"logits": np.zeros((2, 3)), "labels": np.array([0, 2])}),
    "take": (cs.take, {"x": X, "indices": np.array([0])}),
    "optim.clip_by_norm": (cs.optim.clip_by_norm, {"grads": GRADS, "limit": 1.0}),
    "optim.cosine": (cs.optim.cosine, {"t": np.arange(3), "steps": 5}),
    "optim.warmup": (cs.optim.warmup, {"t": np.arange(3), "steps": 5}),
    "optim.step_decay": (cs.optim.step_decay, {"t": np.arange(3), "boundaries": [1, 2]}),
    "optim.dropout_mask": (cs.optim.dropout_mask, {"shape": (2, 3), "rate": 0.5, "seed": 0, "step": 1}),
    **{
        f"Query.{name} of {kind}": (getattr(query, name), {first: value})
        for kind, query in (("everything", QUERY), ("directions", PLAIN))
        for name, first, value in (
            ("predict", "h", np.ones(3)),
            ("without", "what", [0]),
            ("downweights", "what", [0]),
            ("reweight", "downweights", [0.5, 0.0, 0.0]),
            ("influence", "top", 2),
        )
    },
    "Query.without a group": (QUERY.without, {"label": "a"}),
    **{
        f"optim.{rule}": (function, {"state": STATES[rule], "grads": GRADS, "learning_rate": 0.1})
        for rule, function in RULES.items()
    },
    **{f"optim.{rule}_state": (getattr(cs.optim, f"{rule}_state"), {"params": PARAMS}) for rule in RULES},
    **{
        name: (of_one(name), {"x": X})
        for name in (
            *("erf", "gelu", "relu", "rsqrt", "sigmoid", "silu", "softplus", "stop_gradient", "softmax", "log_softmax"),
        )
    },
}
# Records that are made by the functions above, errors, and what is covered under other names.
OTHERS = {"Circuit", "Evaluation", "Plan", "Prediction", "Sketch", "errors", "extend", "optim", "special", "testing"}


if importlib.util.find_spec("torch"):
    import torch

    STATE = {"w": torch.zeros(())}
    IN_TORCH: dict[str, Any] = {
        "step": lambda state, batch, keep: {"w": state["w"] + (keep * batch).sum()},
        "state": STATE,
        "batches": [torch.ones(1), torch.ones(1)],
        "examples": [[0], [1]],
    }
    CALLS |= {
        "torch.training": (cs.torch.training, {**IN_TORCH, "n": 2, "labels": ["a", "b"], "seed": 1}),
        "torch.function": (cs.torch.function, {"f": torch.sin}),
        "torch.optimiser": (cs.torch.optimiser, {"kind": torch.optim.SGD}),
        "torch.TorchTraining.to_torch": (cs.torch.training(**IN_TORCH).to_torch, {"state": {"w": np.zeros(())}}),
    }


def parameters(function: Callable[..., Any], given: dict[str, Any]) -> list[str]:
    kinds = inspect.signature(function).parameters.values()
    kinds = [one.name for one in kinds if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return [name for name in kinds if name not in ("function",) or name in given] if kinds else list(given)


def spoiled() -> Iterator[tuple[str, str]]:
    for name, (function, given) in CALLS.items():
        for parameter in parameters(function, given):
            yield name, parameter


def call(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(**given)


def is_the_callers_own(reason: BaseException) -> bool:
    """Whether an error comes from inside a function that was given: it is its author's, and goes through."""
    frames = traceback.extract_tb(reason.__traceback__)
    frame = [frame for frame in frames if f"{os.sep}torch{os.sep}fx{os.sep}" not in frame.filename][-1]  # looks on
    return frame.filename == __file__ and frame.name == "<lambda>"


def numbers_in(result: Any) -> list[float]:
    """Every number in a result."""
    if isinstance(result, dict):
        return [number for part in result.values() for number in numbers_in(part)]
    if isinstance(result, tuple | list):
        return [number for part in result for number in numbers_in(part)]
    try:
        return np.ravel(np.asarray(result, dtype=float)).tolist()  # type: ignore[no-any-return]
    except (TypeError, ValueError):
        return []


def kinds_for(number: int) -> list[str]:
    """All kinds with HYPOTHESIS_PROFILE=thorough; else those that most often went wrong and a share of the others."""
    if os.environ.get("HYPOTHESIS_PROFILE") == "thorough":
        return list(NASTY)
    others = [kind for kind in NASTY if kind not in OFTEN]
    return [*OFTEN, *others[number % SHARE :: SHARE]]


SHARE = 10
OFTEN = ("None", "NaN", "minus one", "10**400", "text", "an object", "ragged lists", "NaNs", "text array", "broken")
SPOILED = list(spoiled())


def test_every_public_name_is_called():
    called = {name.split()[0].split(".")[0].split("'")[0] for name in CALLS} | OTHERS
    errors = {name for name in cs.__all__ if inspect.isclass(getattr(cs, name)) and name.endswith(("Error", "Warning"))}
    assert set(cs.__all__) - called - errors == set()
    rules = {name for name, f in vars(cs.optim).items() if inspect.isfunction(f) and f.__module__ == cs.optim.__name__}
    inside = {"zeros_like", "check_state", "add_weight_decay", "numbers", "number", "times", "broadcasts"}
    assert {f"optim.{name}" for name in rules - inside} <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_valid_before_an_argument_is_spoiled(name):
    function, given = CALLS[name]
    if "nowhere" in str(given):
        with pytest.raises(cs.CircuitSketchError):
            call(function, given)
    else:
        call(function, given)


@pytest.mark.parametrize("number", range(len(SPOILED)), ids=["-".join(names) for names in SPOILED])
def test_a_spoiled_argument_gives_a_result_or_an_error_of_the_package(number):
    name, parameter = SPOILED[number]
    function, given = CALLS[name]
    bare = []
    for kind in kinds_for(number):
        try:
            call(function, given | {parameter: NASTY[kind]()})
        except cs.CircuitSketchError as reason:
            text = str(reason)
            if not text or len(text) > 2000:
                bare.append(f"{kind}: a message of {len(text)} characters")
        except Exception as reason:
            if not is_the_callers_own(reason):
                bare.append(f"{kind}: {type(reason).__name__}: {str(reason)[:120]}")
    assert not bare, "\n".join(bare)


# Where NaN may be: in data that are passed on, so that NaN comes out, and in what is not a number at all.
DATA = {"x", "params", "state", "grads", "logits", "args", "arg", "example", "primals", "tangents", "t", "items"}


@pytest.mark.parametrize(("name", "parameter"), SPOILED)
def test_nan_gives_nan_or_an_error_and_never_a_number(name, parameter):
    function, given = CALLS[name]
    for kind in NANS:
        value = NASTY[kind]()
        try:
            result = call(function, given | {parameter: value})
        except cs.CircuitSketchError:
            continue
        except Exception as reason:
            assert is_the_callers_own(reason)
            continue
        numbers = numbers_in(result)
        assert parameter in DATA, (kind, result)
        assert not numbers or np.isnan(numbers).any() or parameter in ("args", "arg"), (kind, result)


EDGES = {
    "alpha of a negative radius": (PLAIN.stability().alpha, -1.0),
    "decay of one length of several": (PLAIN.stability().decay, [1.0, -1e-9]),
    "an infinite radius": (PLAIN.stability().alpha, np.inf),
    "a level of 0": (QUERY.without([0]).interval, 0.0),
    "a level of 1": (QUERY.without([0]).interval, 1),
    "steps below 1": (lambda steps: cs.optim.cosine(0, steps), 0.5),
    "infinite steps": (lambda steps: cs.optim.warmup(0, steps), np.inf),
    "a NaN among steps done": (lambda t: cs.optim.step_decay(t, [1]), [0.0, np.nan]),
    "a NaN boundary": (lambda boundary: cs.optim.step_decay(3, [boundary]), np.nan),
    "an infinite downweight": (QUERY.reweight, [0.5, np.inf, 0.0]),
    "a NaN downweight among many": (PLAIN.reweight, [[0.5, 0.0, 0.0], [0.0, np.nan, 0.0]]),
    "a width below 1": (lambda width: cs.compile(CIRCUIT, width=width), -1),
    "no width": (lambda width: cs.compile(CIRCUIT, width=width), 0),
    "an infinite truth": (lambda truth: cs.evaluate(QUERY, [[0], [1]], truth=truth), [0.0, np.inf]),
    "a limit whose square is 0": (lambda limit: cs.optim.clip_by_norm(GRADS, limit), 1e-200),
    "a mask that is larger than memory": (lambda shape: cs.optim.dropout_mask(shape, 0.5, 0, 0), (2**40, 2**40)),
    "a group that cannot be looked up": (lambda label: QUERY.without(label=label), ["a"]),
    "a group that is not itself": (lambda label: QUERY.without(label=label), float("nan")),
    "laws": (lambda distribution: cs.sketch(RUN, 3, 1, distribution=distribution), ["sphere"]),
    "a distribution of one's own": (lambda distribution: cs.Query(PLAIN.coefficients, distribution), "sphere"),
    "a progress of nothing": (lambda progress: cs.sketch(RUN, 3, 1, progress=progress), lambda: None),
    "params of nothing": (lambda params: cs.Training(step, 0.0, [1.0], [[0]], params=params).params(0.0), lambda: None),
    "a measurement with more arguments": (SKETCH.measure, lambda s, more: s),
    "a measurement of text": (lambda measure: cs.evaluate(QUERY, [[0], [1]], run=RUN, measure=measure), lambda s: "a"),
    "gradients of other shapes": (lambda grads: cs.optim.sgd(STATES["sgd"], grads, 0.1), {"w": np.ones(3)}),
}


@pytest.mark.parametrize("name", EDGES)
def test_invalid_arguments_that_once_gave_a_number_are_refused(name):
    function, value = EDGES[name]
    with pytest.raises(cs.CircuitSketchError):
        function(value)


def test_ids_that_cannot_be_read_are_refused_in_every_kind_of_run():
    for name in {"Training", "jax.training", "torch.training"} & set(CALLS):
        function, given = CALLS[name]
        with pytest.raises(cs.InputError, match=r"examples\[0\] must be a list of integer ids: .*broken on purpose"):
            function(**given | {"examples": [Broken(), Broken()]})


@pytest.mark.parametrize("kind", ["a list of 100,000 in each other", "a list in itself"])
def test_a_state_that_is_nested_too_deep_is_refused(kind):
    for name in {"Training", "jax.training", "torch.training"} & set(CALLS):
        function, given = CALLS[name]
        with pytest.raises(cs.InputError, match="nested more than 100 levels deep"):
            call(function, given | {"state": NASTY[kind]()})


def test_a_promise_that_nothing_can_break_takes_one_direction():
    found = cs.plan(1e308, 0.1)
    assert (found.order, found.per_group, found.median_groups, found.directions) == (1, 1, 1, 1)
    with pytest.raises(cs.InputError, match="no order reaches"):
        cs.plan(1e-9, 1e-320)


def test_files_of_datamodels_that_are_not_arrays_are_refused_without_memory_or_waiting(tmp_path):
    ANSWERS.save(tmp_path)
    masks, margins = cs.read_datamodels(tmp_path)
    assert masks.tolist() == np.eye(3, dtype=bool).tolist() and margins.shape == (3, 1)
    where = tmp_path / "margins.npy"
    right = where.read_bytes()

    def forge(shape: str) -> bytes:
        return right.replace(b"(3, 1), }", b"(" + shape.encode() + b"), }")[: len(right)]

    def archive() -> bytes:
        file = io.BytesIO()
        np.savez(file, np.ones(3))
        return file.getvalue()

    for data in (b"", right[:-1], right[:40], forge("9" * 12 + ","), archive(), b"\x80\x04N.", b"x" * 200):
        where.write_bytes(data)
        with pytest.raises(cs.InputError, match="margins.npy cannot be read as an array"):
            cs.read_datamodels(tmp_path)
    where.unlink()
    os.mkfifo(where)
    with pytest.raises(cs.InputError, match="not a plain file"):
        cs.read_datamodels(tmp_path)


def test_saving_truths_replaces_a_link_and_leaves_what_it_points_to(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    for name in ("masks.npy", "margins.npy", "masks.part.npy"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    ANSWERS.save(tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "precious"
    assert cs.read_datamodels(tmp_path / "out")[0].shape == (3, 3)
