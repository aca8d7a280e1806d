"""Every argument of every NumPy function that wires take: by NumPy's own order and names, and never ignored.

What is compared comes from NumPy: `inspect.signature` of its functions, ufuncs and array methods (a C method that says
`**kwargs` is completed from the function of its name; where a NumPy has no signature for a C function, that one is
skipped). The law: with any arguments, a wire gives NumPy's value, shape and kind of dtype, or an error of the package.
"""

from __future__ import annotations

import inspect
import itertools
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy_arguments import EXTRA, FIRST, TRIES, X

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check
from circuitsketch.errors import CircuitSketchError, TraceError
from circuitsketch.frontends.numpy import Builder, Wire
from circuitsketch.frontends.numpy.array_functions import FUNCTIONS
from circuitsketch.frontends.numpy.ufuncs import UFUNCS
from circuitsketch.tree import flatten

KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}
NUMBERS = {"float": X, "int": np.array([[0, 1, 2, 3], [2, 1, 3, 0], [1, 1, 2, 2]]), "bool": X > 0.6}
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(function: Any) -> list[inspect.Parameter]:
    """NumPy's parameters; none where this NumPy has no signature for a C function."""
    try:
        given = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    if function is np.reshape:  # some versions still have the deprecated `newshape`, and so a default for `shape`
        given = [p.replace(default=p.empty) if p.name == "shape" else p for p in given if p.name != "newshape"]
    return given


def kind_of(function: Any) -> str:
    return f"{function.__module__}.{function.__name__}"


# The signatures.


@pytest.mark.parametrize("function", FUNCTIONS, ids=kind_of)
def test_a_rule_has_numpys_parameters_in_numpys_order_and_by_its_names(function):
    rule = inspect.signature(FUNCTIONS[function])
    theirs = [p for p in parameters(function) if p.kind not in VARIADIC]
    places = [p for p in theirs if p.kind in POSITIONAL]
    by_place = rule.bind_partial(*(p.name for p in places)).arguments
    values = [x for value in by_place.values() for x in (value if isinstance(value, tuple) else [value])]
    assert values == [p.name for p in places]
    for p in theirs:
        if p.kind is not inspect.Parameter.POSITIONAL_ONLY:
            bound = rule.bind_partial(**{p.name: p.name}).arguments
            assert bound == {p.name: p.name} or bound == {"kwargs": {p.name: p.name}}


def method_parameters(name: str) -> list[inspect.Parameter]:
    """The parameters of an array method, those behind **kwargs from the function of its name."""
    own = parameters(getattr(np.ndarray, name))[1:]
    if name in (
        "any",
        "all",
    ):  # keepdims by keyword alone: by place, the array's method takes a dtype before it
        own = [p.replace(kind=p.KEYWORD_ONLY) if p.name == "keepdims" else p for p in own]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own) and hasattr(np, name):
        have = {p.name for p in own}
        own = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        more = parameters(getattr(np, name))[1:]
        own += [p for p in more if p.name not in have and p.name not in ("correction", "a_min", "a_max")]
    return own


PUBLIC = [name for name in dir(np.ndarray) if not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_wire_has_the_methods_of_an_array_or_says_what_to_do_instead(name):
    if not hasattr(Wire, name):
        wire = Builder().input((2, 3))
        assert not hasattr(wire, name)
        with pytest.raises(
            TraceError, match=rf"test_signatures\.py:\d+ uses attribute '{name}' of a wire, .*; \w+"
        ) as error:
            getattr(wire, name)
        assert "use a NumPy function on it" not in str(error.value), "name what to do instead"
        return
    if not callable(getattr(np.ndarray, name)):
        return
    ours = inspect.signature(getattr(Wire, name))
    theirs = [p for p in method_parameters(name) if p.kind not in VARIADIC]
    places = [p.name for p in theirs if p.kind in POSITIONAL]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in ours.parameters.values()):
        places = []
    assert list(ours.bind_partial(None, *places).arguments.values())[1:] == places
    for p in theirs:
        if p.kind is not inspect.Parameter.POSITIONAL_ONLY:
            ours.bind_partial(None, **{p.name: None})


def asked_a_wire(error: Exception) -> bool:
    """Whether an error comes from the package, beyond the call of the traced function."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return any(file.parent.name == "trace" and file.name not in ("tracing.py", "methods.py") for file in files)


def obeys_the_law(function, x, unset=False):
    """The traced function gives NumPy's value, shape and dtype, or an error of the package; says which."""
    try:
        circuit = check(cs.trace(function, x))
    except (CircuitSketchError, IndexError):  # an IndexError as an array's, with the place
        return False
    except (TypeError, ValueError) as error:  # by NumPy, before it asks the wire
        assert not asked_a_wire(error)
        return False
    with np.errstate(all="ignore"):
        expected, _ = flatten(function(x))
    assert len(circuit.outputs) == len(expected)
    for ours, index, theirs in zip(evaluate(circuit, [x]), circuit.outputs, expected, strict=True):
        theirs = np.asarray(theirs)
        assert np.shape(ours) == theirs.shape
        assert circuit.nodes[index].label == KINDS[theirs.dtype.kind]
        if not unset:
            narrow = theirs.dtype.itemsize < 8 and theirs.dtype.kind == "f"
            # float64 on wires where NumPy rounds to float16 or float32.
            np.testing.assert_allclose(ours, theirs.astype(float), rtol=2e-3 if narrow else 1e-13, atol=1e-13)
    return True


def tried(function: Any, leave: int) -> dict[str, list[Any]]:
    """The parameters after the first few, with what each is tried with."""
    named = [p for p in parameters(function) if p.kind not in VARIADIC][leave:]
    return {p.name: TRIES[p.name] for p in named} | EXTRA.get(function, {})


def given_first(function: Any) -> int:
    """How many parameters the fixed arguments of a function fill."""
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters(function)):
        return 0
    return len(FIRST[function](X)) if function in FIRST else 1


def calls_of(function: Any, data: Any) -> tuple[list[Any], dict[str, Any]]:
    """Drawn arguments: every required one and some others, by keyword, or by place as far as there is no gap."""
    given = {p.name: p for p in parameters(function)}
    needed = [name for name, p in given.items() if p.default is inspect.Parameter.empty and p.kind not in VARIADIC]
    options = tried(function, given_first(function))
    some = st.lists(st.sampled_from(sorted(options)), max_size=2, unique=True) if options else st.just([])
    chosen = {*needed[given_first(function) :], *data.draw(some)}
    values = {name: data.draw(st.sampled_from(tries)) for name, tries in options.items() if name in chosen}
    places: list[Any] = []
    by_place = data.draw(st.booleans())
    for name, p in list(given.items())[given_first(function) :]:
        only = p.kind is inspect.Parameter.POSITIONAL_ONLY
        if name not in values or p.kind not in POSITIONAL or not (only or by_place):
            break
        places.append(values.pop(name))
    return places, values


DTYPES = st.sampled_from(sorted(NUMBERS))
FORMS = [
    *[lambda x: x] * 6,
    lambda x: x[0],
    lambda x: x[1, 1],
    lambda x: x[:0],
    lambda x: x[:, :1],
    lambda x: x[None, :, :1],
    lambda x: x.reshape(3, 2, 2),
]


@st.composite
def arrays(draw):
    """Numbers, mostly of two axes, else of none, one or three, some of extent 0 and 1."""
    return np.array(draw(st.sampled_from(FORMS))(NUMBERS[draw(DTYPES)]))


@pytest.mark.parametrize("function", FUNCTIONS, ids=kind_of)
@given(data=st.data())
def test_an_argument_of_a_function_is_honoured_or_refused(function, data):
    x = data.draw(arrays())
    places, named = calls_of(function, data)
    first = FIRST.get(function, lambda x: (x,))
    obeys_the_law(lambda x: function(*first(x), *places, **named), x, unset=function is np.empty_like)


@pytest.mark.parametrize("function", FUNCTIONS, ids=kind_of)
def test_each_argument_of_a_function_alone_is_honoured_or_refused(function):
    given = {p.name: p for p in parameters(function)}
    needed = [p for p in given.values() if p.default is inspect.Parameter.empty and p.kind not in VARIADIC]
    options = tried(function, given_first(function))
    if function is np.size and np.lib.NumpyVersion(np.__version__) < "2.4.0":  # which takes a single axis
        options["axis"] = [axis for axis in options["axis"] if not isinstance(axis, tuple)]
    first = FIRST.get(function, lambda x: (x,))
    places = [options.pop(p.name) for p in needed[given_first(function) :]]
    others = [(name, value) for name, tries in options.items() for value in tries] or [("", None)]
    for x in NUMBERS.values() if "dtype" in options else [X]:
        for name, value in others:
            for before in itertools.product(*(tries[:3] for tries in places)):
                named = {name: value} if name else {}
                unset = function is np.empty_like
                obeys_the_law(lambda x, b=before, n=named: function(*first(x), *b, **n), x, unset)


UFUNC_OPTIONS = (
    "dtype",
    "casting",
    "order",
    "where",
    "subok",
    "signature",
    "axes",
    "axis",
    "keepdims",
    "out",
)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
@given(data=st.data())
def test_an_option_of_a_ufunc_is_honoured_or_refused(ufunc, data):
    x = data.draw(arrays())
    other = data.draw(arrays())
    named = {
        name: data.draw(st.sampled_from(TRIES[name]))
        for name in data.draw(st.lists(st.sampled_from(UFUNC_OPTIONS), max_size=2, unique=True))
    }
    if ufunc in FIRST:
        operands = FIRST[ufunc]
    else:
        operands = (lambda x: (x,)) if ufunc.nin == 1 else (lambda x: (x, other))
    if named.get("axis", 0) is None or named.get("axes", 0) is None or ufunc.nin == 1 and "signature" in named:
        return
    obeys_the_law(lambda x: ufunc(*operands(x), **named), x)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_each_option_of_a_ufunc_alone_is_honoured_or_refused(ufunc):
    for kind, x in NUMBERS.items():
        operands = FIRST.get(ufunc, lambda x: (x,) if ufunc.nin == 1 else (x, x + x))
        honoured = obeys_the_law(lambda x, f=operands: ufunc(*f(x)), x)
        assert honoured or kind != "float" or "d" not in "".join(ufunc.types)
        for name in ("dtype", "casting", "where", "order", "subok"):
            for value in TRIES[name]:
                obeys_the_law(lambda x, f=operands, n=name, v=value: ufunc(*f(x), **{n: v}), x)


REDUCED = [np.add, np.multiply, np.maximum, np.minimum, np.logical_or, np.logical_and, np.subtract]


@pytest.mark.parametrize("ufunc", REDUCED, ids=lambda u: u.__name__)
@given(data=st.data())
def test_an_option_of_a_ufuncs_reduce_is_honoured_or_refused(ufunc, data):
    x = data.draw(arrays())
    names = data.draw(st.lists(st.sampled_from(["axis", "dtype", "out", "keepdims", "initial", "where"]), max_size=2))
    named = {name: data.draw(st.sampled_from(TRIES[name])) for name in names}
    obeys_the_law(lambda x: ufunc.reduce(x, **named), x)
    obeys_the_law(lambda x: ufunc.outer(x, x[0]), x)
    obeys_the_law(lambda x: ufunc.accumulate(x), x)


METHODS = [
    name
    for name in PUBLIC
    if callable(getattr(np.ndarray, name)) and hasattr(Wire, name) and name not in ("item", "tolist")
]


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_an_argument_of_a_method_is_honoured_or_refused(name, data):
    x = data.draw(arrays())
    tries = {"other": [X.T, 2.0, X], **TRIES}
    theirs = [p for p in method_parameters(name) if p.kind not in VARIADIC]
    places: list[Any] = []
    if name == "reshape":
        places = data.draw(st.sampled_from([[12], [(4, 3)], [4, 3], [2, -1], [5, -1], [(2, 6.0)], [None], []]))
    elif name == "transpose":
        places = data.draw(st.sampled_from([[], [1, 0], [(1, 0)], [None], [0, 0], [0], [0, 1], [[1, 0]]]))
    else:
        least = len([p for p in theirs if p.default is inspect.Parameter.empty])
        count = data.draw(st.integers(least, len([p for p in theirs if p.kind in POSITIONAL])))
        places = [data.draw(st.sampled_from(tries[p.name])) for p in theirs[:count]]
    rest = [p.name for p in theirs[len(places) :] if p.kind is not inspect.Parameter.POSITIONAL_ONLY]
    names = data.draw(st.lists(st.sampled_from(rest), max_size=2, unique=True)) if rest and name != "transpose" else []
    named = {key: data.draw(st.sampled_from(tries[key])) for key in names if key in tries}
    obeys_the_law(lambda x: getattr(x, name)(*places, **named), x)


def test_simple_numpy_options_are_honoured():
    mask = X > 0
    honoured = [
        lambda x: x.sum(1, np.float64),
        lambda x: x.sum(0, None, None, True, 2.0, mask),
        lambda x: x.prod(axis=1, initial=3.0, where=mask),
        lambda x: x.max(0, None, True, 1.0, mask),
        lambda x: np.min(x, axis=1, initial=0.5, where=mask[:1]),
        lambda x: x.mean(1, float, where=mask),
        lambda x: x.std(1, None, None, 1, True),
        lambda x: np.var(x, axis=0, correction=1, mean=np.zeros((1, 4))),
        lambda x: np.sum(x, dtype=np.float32, where=x > 0),
        lambda x: np.mean(x, axis=1, where=x > 0),
        lambda x: np.max(x[:0], axis=0, initial=7.0),
        lambda x: np.prod(x[:0]),
        lambda x: np.sum(x > 0, dtype=float),
        lambda x: [x.ravel("F"), x.flatten("F"), x.reshape((2, 6), order="F"), np.reshape(x.T, -1, "F")],
        lambda x: [x.trace(1), x.diagonal(1, 1, 0), np.trace(x, -1), x[None].trace(0, 1, 2)],
        lambda x: [x.clip(0, None), x.clip(max=1.0), np.clip(x, 0.0, 1.0, dtype=float)],
        lambda x: np.add(x > 0, x > 1, dtype=int) + np.multiply(x > 0, 3, dtype=float),
        lambda x: np.roll(x, (1, 1, 1), (0, 1, 0)) + np.roll(x, (1, 2)),
        lambda x: [np.pad(x[0, 0], 1, constant_values=2.0), np.pad(x, 1, constant_values=((1, 2), (3, 4)))],
        lambda x: [np.pad(x, (2, 1), mode) for mode in ("edge", "reflect", "symmetric", "wrap")],
        lambda x: [np.repeat(x, [1, 0, 2], axis=0), np.diff(x, prepend=0.0, append=x[:, :1])],
        lambda x: [
            np.linalg.norm(x, 1),
            np.linalg.norm(x, np.inf, axis=(1, 0)),
            np.linalg.norm(x[0], -np.inf),
        ],
        lambda x: [np.any(x > 1, axis=0), (x > 0).all(1, None, keepdims=True), np.count_nonzero(x, axis=0)],
        lambda x: np.average(x, axis=1, weights=np.array([1.0, 2.0, 3.0, 4.0]), returned=True),
        lambda x: np.average(x, weights=x**2),
    ]
    for function in honoured:
        assert obeys_the_law(function, X)


def test_assigning_the_shape_of_a_wire_is_refused():
    def flattened(x):
        x.shape = (12,)

    with pytest.raises(TraceError, match=r"test_signatures\.py:\d+ assigns to .shape of a wire.*reshape"):
        cs.trace(flattened, X)


def test_a_refused_option_names_the_place_and_the_way_out():
    for function, remedy in [
        (lambda x: np.sum(x, out=np.zeros(4)), "assign the result to a name"),
        (lambda x: x.sum(0, int), "leave dtype= out"),
        (lambda x: (x > 0).sum(0, np.int8), "dtype=int"),
        (lambda x: np.max(x, where=X > 0), "pass initial="),
        (lambda x: x.ravel("K"), "use order='C' or 'F'"),
        (lambda x: np.exp(x, where=X > 0), "use np.where"),
        (lambda x: np.exp(x, dtype=complex), "use float"),
        (lambda x: np.exp(x, casting="no"), "leave it out"),
        (lambda x: (x > 0) - (x > 1), "astype"),
        (lambda x: (x > 0).astype(int).astype(np.uint8), "use dtype=int"),
        (lambda x: np.sum(x, axis="rows"), "is not an integer"),
    ]:
        with pytest.raises(CircuitSketchError, match=r"test_signatures\.py:\d+") as error:
            cs.trace(function, X)
        assert remedy in str(error.value)


# Functions that wires do not take.


def dispatched() -> list[Any]:
    """Every function by which NumPy asks its arguments what it should do."""
    modules = (
        np,
        np.linalg,
        np.fft,
        np.ma,
        np.char,
        np.random,
        np.polynomial,
        np.emath,
        np.lib.stride_tricks,
    )
    functions = {id(f): f for m in modules for f in vars(m).values() if hasattr(f, "_implementation")}
    return [f for f in functions.values() if f not in FUNCTIONS]


@pytest.mark.parametrize("function", dispatched(), ids=kind_of)
def test_a_function_that_wires_do_not_take_is_refused_by_the_package(function):
    needed = [p for p in parameters(function) if p.default is inspect.Parameter.empty and p.kind in POSITIONAL]
    with pytest.raises(CircuitSketchError, match=r"test_signatures\.py:\d+"):
        cs.trace(lambda x: x.__array_function__(function, (Wire,), (x,) * max(len(needed), 1), {}), X)
