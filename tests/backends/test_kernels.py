"""Compiled kernels against the reference evaluator, which knows nothing of lowering, fusion, lanes or machine code.

Tolerances are in units of the largest coefficient on any wire up to the order compared (at least 1): what is small by
cancellation carries the rounding of what it is the difference of. 1e-12 is some thousand roundings of a double,
and 1e-4 of a float.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import attention, by_hand, codes, on_a_circle, random_step
from strategies import NAMES, application, programs

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.backends.cpu import codegen, contraction, llvm, step_loop
from circuitsketch.backends.cpu.contraction import choose_kernel
from circuitsketch.backends.registry import build, make_target
from circuitsketch.lower.instructions import ContractKernel, Mode, UpdateKernel
from circuitsketch.tree import flatten

TOLERANCE = {np.complex128: 1e-12, np.complex64: 1e-4}
seeds = st.integers(0, 2**32 - 1)


def series_of(rng, args, directions, order, is_complex):
    """Random coefficients 1..order for the float leaves of arguments, halved from order to order; None for integers."""
    found = []
    for leaf in args:
        x = np.asarray(leaf)
        if x.dtype.kind != "f":
            found.append(None)
            continue
        shape = (directions, order, *x.shape)
        numbers = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if is_complex else 0.0)
        found.append(numbers * 0.5 ** np.arange(1, order + 1).reshape(-1, *(1,) * x.ndim))
    return tuple(found)


def slowly(circuit, args, series, order):
    """The reference's coefficients by output, and for each order the largest coefficient on any wire up to it."""
    scale = np.ones(order + 1)

    def watch(wire, node, found):
        for k in range(order + 1):
            scale[k] = max(scale[k], np.max(np.abs(found[k]), initial=0.0))

    outputs = reference.run(circuit, [np.asarray(x, dtype=float) for x in args], series, order, watch)
    return outputs, np.maximum.accumulate(scale)


def assert_compiled(
    function, args, order, *, is_complex=True, dtype=np.complex128, width=None, directions=5, threads=1
):
    """Values and coefficients of a compiled function are the reference's."""
    circuit = cs.trace(function, *args)
    compiled = cs.compile(circuit, order, dtype, width)
    values, scale = slowly(circuit, args, [None] * len(args), 0)
    for ours, theirs in zip(flatten(compiled(*args))[0], values, strict=True):
        # Constant terms are doubles whatever the coefficients are.
        np.testing.assert_allclose(ours, theirs[0, 0].real, rtol=0, atol=1e-12 * scale[0])
    series = series_of(np.random.default_rng(order), args, directions, order, is_complex)
    theirs, scale = slowly(circuit, args, series, order)
    ours = flatten(compiled.series(args, series, threads))[0]
    for one, two in zip(ours, theirs, strict=True):
        assert one.shape == (directions, *two.shape[1:])
        assert np.iscomplexobj(one) == is_complex
        for k in range(order + 1):
            bound = TOLERANCE[dtype] * scale[k]
            np.testing.assert_allclose(one[:, k], np.broadcast_to(two, one.shape)[:, k], rtol=0, atol=bound)


# Gates and programs.


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7, 10])
@pytest.mark.parametrize("name", NAMES)
def test_every_gate_has_the_reference_values_and_series(name, order):
    for seed, is_complex in ((1, True), (2, False)):
        one = application(name, np.random.default_rng(seed))
        function = lambda *moving, one=one: one.with_moving(moving)  # noqa: E731
        assert_compiled(function, one.moving, order, is_complex=is_complex)


@given(program=programs(outputs=3), order=st.sampled_from([1, 2, 3, 7, 10]), is_complex=st.booleans())
def test_random_programs_have_the_reference_values_and_series(program, order, is_complex):
    assert_compiled(program, program.inputs, order, is_complex=is_complex)


def attention_args():
    rng = np.random.default_rng(3)
    return rng.standard_normal((2, 3, 3)), rng.standard_normal((3, 3)), np.array([[0, 2, 1], [1, 1, 0]])


@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize(
    ("width", "dtype"),
    [(1, np.complex128), (2, np.complex128), (8, np.complex128), (4, np.complex64), (16, np.complex64)],
)
def test_lanes_of_every_width_and_precision_carry_the_same_series(width, dtype, is_complex):
    assert_compiled(attention, attention_args(), 2, is_complex=is_complex, dtype=dtype, width=width)


@pytest.mark.parametrize("directions", [1, 3, 8, 9, 21])
def test_any_number_of_directions_fills_blocks_of_lanes(directions):
    assert_compiled(attention, attention_args(), 2, directions=directions, width=4, threads=2)


def contractions(function, args, order, is_complex, width, dtype):
    """The kernels of the contractions in a function's lane phase."""
    circuit = cs.trace(function, *args)
    target = make_target(Mode(order, is_complex), dtype, width)
    instructions = build([circuit], target, range(len(args)), len(args), {}, has_keep=False).instructions
    kernels = [choose_kernel(i, target) for i in instructions]
    return [k for k in kernels if isinstance(k, ContractKernel) and k.phase == "lane"]


def updates(function, args, order, *, is_complex=True, width=8, dtype=np.complex128):
    """The kernels that join a contraction and the chain that reads it."""
    circuit = cs.trace(function, *args)
    target = make_target(Mode(order, is_complex), dtype, width)
    varying = [i for i, x in enumerate(args) if x.dtype.kind == "f"]
    instructions = build([circuit], target, varying, len(args), {}, has_keep=False).instructions
    return [choose_kernel(i, target, 1 << 20) for i in instructions if isinstance(i.kernel, UpdateKernel)]


def descend(x, y, p, m, spec="ki,kj->ij"):
    """A step of an optimizer, along a gradient that nothing else reads."""
    m = 0.9 * m + np.einsum(spec, x, y)
    return p - 0.1 * m / np.sqrt(1.0 + m * m), m


def descent_args(summed, rows, columns, transposed=False):
    rng = np.random.default_rng(summed)
    shape = (columns, rows) if transposed else (rows, columns)
    return tuple(rng.standard_normal(s) for s in ((summed, rows), (summed, columns), shape, shape))


@pytest.mark.parametrize("small_caches", [False, True])
@pytest.mark.parametrize(
    ("order", "is_complex", "width", "dtype"),
    [
        (1, True, 8, np.complex128),
        (2, True, 4, np.complex128),
        (3, True, 8, np.complex128),
        (3, True, 4, np.complex128),
        (3, False, 8, np.complex128),
        (3, True, 16, np.complex64),
        (5, True, 8, np.complex128),
    ],
)
def test_an_update_among_the_sums_of_its_gradient_is_exact(order, is_complex, width, dtype, small_caches, monkeypatch):
    """Of tiles of every size, from small matrices on, and in panels with prefetches where caches are small."""
    if small_caches:
        monkeypatch.setattr(contraction, "read_level_2_size", lambda: 1 << 13)
    settings = {"is_complex": is_complex, "width": width, "dtype": dtype}
    for args in (descent_args(2, 2, 3), descent_args(6, 6, 6), descent_args(4, 17, 11)):
        assert len(updates(descend, args, order, **settings)) == 1
        assert_compiled(descend, args, order, **settings, directions=width + 1)
    args = descent_args(3, 5, 8, transposed=True)
    transposed = lambda *xs: descend(*xs, spec="ki,kj->ji")  # noqa: E731
    assert len(updates(transposed, args, order, **settings)) == 1
    assert_compiled(transposed, args, order, **settings)
    args = (np.arange(20).reshape(4, 5) % 3, *descent_args(4, 5, 7)[1:])  # the left operand has no lanes
    assert len(updates(descend, args, order, **settings)) == 1
    assert_compiled(descend, args, order, **settings)


def test_small_caches_make_updates_prefetch_and_go_by_panels(monkeypatch):
    (kernel,) = updates(descend, descent_args(4, 17, 11), 3)
    assert not kernel.contraction.prefetched and not kernel.contraction.panel
    monkeypatch.setattr(contraction, "read_level_2_size", lambda: 1 << 13)
    (kernel,) = updates(descend, descent_args(4, 17, 11), 3)
    assert kernel.contraction.prefetched and kernel.contraction.panel == 12


@pytest.mark.parametrize(
    ("summed", "function"),
    [
        (33, descend),  # too long for the columns of a tile to stay in the cache
        (6, lambda x, y, p, m: descend(np.sin(x), np.sin(y), p, m)),  # the results are put where the operands were
        (4, lambda x, y, p, m: (lambda g: (p - g, g))(x.T @ y)),  # an output
        (4, lambda x, y, p, m: p - np.sin((x.T @ y).T)),  # read in another order
        (4, lambda x, y, p, m: (lambda g: np.sin(g) + np.cos(g).sum() * p)(x.T @ y)),  # read by two chains
    ],
)
def test_a_gradient_that_must_be_stored_is_not_joined_with_an_update(summed, function):
    args = descent_args(summed, 6, 6)
    assert not updates(function, args, 3)
    assert_compiled(function, args, 3)


def packed(*settings):
    """Whether the columns of each contraction in a function's lane phase are copied together."""
    return [kernel.packed for kernel in contractions(*settings)]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("order", "is_complex", "width", "dtype"),
    [
        (1, True, 4, np.complex128),
        (2, False, 1, np.complex128),
        (3, True, 4, np.complex128),
        (3, False, 4, np.complex128),
        (3, True, 8, np.complex64),
        (8, True, 2, np.complex128),
    ],
)
@pytest.mark.parametrize(("rows", "columns", "summed"), [(5, 512, 9), (7, 513, 130), (9, 512, 130)])
def test_columns_with_cache_conflicts_are_copied_together(
    rows, columns, summed, order, is_complex, width, dtype, plain
):
    """Rows of 512 entries are a multiple of every cache's span, those of 513 are not; 130 are several blocks."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((rows, summed)) / np.sqrt(summed)

    def function(x, y):
        return (data if plain else x) @ y[:, 1:4]

    args = rng.standard_normal((rows, summed)), rng.standard_normal((summed, columns)) / np.sqrt(summed)
    assert packed(function, args, order, is_complex, width, dtype) == [columns == 512]
    assert_compiled(function, args, order, is_complex=is_complex, width=width, dtype=dtype)


def test_columns_of_few_rows_are_read_where_they_lie():
    args = np.ones((3, 64)), np.ones((64, 512))
    assert packed(np.matmul, args, 3, True, 4, np.complex128) == [False]
    assert packed(np.matmul, args, 9, True, 4, np.complex128) == [False]


@pytest.mark.parametrize(
    ("order", "is_complex", "width", "dtype"),
    [
        (1, False, 1, np.complex128),
        (3, True, 4, np.complex128),
        (3, False, 4, np.complex128),
        (3, True, 8, np.complex64),
        (3, True, 16, np.complex128),  # vectors that take two registers, or four: tiles for few registers
        (5, False, 32, np.complex128),
        (8, True, 2, np.complex128),
    ],
)
@pytest.mark.parametrize(("rows", "columns", "summed"), [(1, 50, 40), (29, 17, 40), (50, 512, 9)])
def test_operands_larger_than_the_cache_are_prefetched_and_taken_in_panels_to_the_same_bits(
    monkeypatch, rows, columns, summed, order, is_complex, width, dtype
):
    """Odd numbers of rows and columns leave smaller tiles at the ends of every panel."""
    rng = np.random.default_rng(0)
    args = rng.standard_normal((rows, summed)), rng.standard_normal((summed, columns)) / np.sqrt(summed)
    series = series_of(rng, args, 3, order, is_complex)
    results = []
    for size in (1 << 30, 2 << 10):
        monkeypatch.setattr(contraction, "read_level_2_size", lambda size=size: size)
        (kernel,) = contractions(np.matmul, args, order, is_complex, width, dtype)
        assert kernel.prefetched == (size == 2 << 10)
        assert (0 < kernel.panel < rows) == (size == 2 << 10 and rows > 1)
        results.append(cs.compile(cs.trace(np.matmul, *args), order, dtype, width).series(args, series, 1))
    np.testing.assert_array_equal(*results)
    assert_compiled(np.matmul, args, order, is_complex=is_complex, width=width, dtype=dtype)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize("order", [9, 11, 12, 21, 25, 33, 100])
def test_long_series_are_multiplied_to_rounding_in_every_coefficient(order, is_complex, width):
    """The error of a coefficient against the moduli that it is made of, however small it is beside the others."""
    rng = np.random.default_rng(order)
    args = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    series = series_of(rng, args, 3, order, is_complex)
    compiled = cs.compile(cs.trace(np.matmul, *args), order, width=width)
    whole = [
        np.concatenate([np.broadcast_to(x, (3, 1, *x.shape)), s], axis=1).astype(np.clongdouble)
        for x, s in zip(args, series, strict=True)
    ]

    def product(left, right):
        return np.stack([sum(left[:, j] @ right[:, r - j] for j in range(r + 1)) for r in range(order + 1)], axis=1)

    error = np.abs(compiled.series(args, series) - product(*whole))
    assert np.all(error <= 4 * order * np.finfo(float).eps * product(*(np.abs(x) for x in whole)))


@pytest.mark.parametrize("single", [False, True])
def test_the_loop_over_steps_needs_nothing_of_the_process_that_compiled_it(single):
    module = codegen.translate(step_loop.run_steps, step_loop.make_steps_signature(single), "steps")
    llvm.optimize(module)
    needed = [function.name for function in module.functions if function.is_declaration]
    assert [name for name in needed if not name.startswith("llvm.")] == []
    bodies = [function for function in module.functions if not function.is_declaration]
    assert [function.name for function in bodies if function.linkage.name == "external"] == ["steps"]


def test_threads_and_neighbouring_lanes_do_not_change_a_bit():
    args = attention_args()
    compiled = cs.compile(cs.trace(attention, *args), 2)
    series = series_of(np.random.default_rng(0), args, 21, 2, True)
    alone = flatten(compiled.series(args, [None if s is None else s[13:14] for s in series], threads=1))[0]
    for threads in (1, 2, 3):
        for ours, one in zip(flatten(compiled.series(args, series, threads))[0], alone, strict=True):
            assert np.array_equal(ours[13:14], one)


# Views: what moves nothing is arithmetic on strides, and what must be moved is.

VIEWS = {
    "numbers": lambda x, y, a, b: a * b + np.exp(a),
    "a number spread over an array": lambda x, y, a, b: a * x,
    "rows and columns spread": lambda x, y, a, b: x[:, :1, None] * y[0] + x[0],
    "an axis put between": lambda x, y, a, b: np.sum(x[:, None, :] * x[None, :, :], axis=0),
    "a transpose under a gate": lambda x, y, a, b: np.tanh(x.T) * np.arange(12.0).reshape(4, 3),
    "a transpose reshaped": lambda x, y, a, b: np.exp(x.T.reshape(2, 6)),
    "axes permuted": lambda x, y, a, b: np.transpose(y, (2, 0, 1)) * np.sin(np.moveaxis(y, -1, 0)),
    "every other entry": lambda x, y, a, b: x[::2, 1::2] * np.sin(x[::2, 1::2]),
    "backwards": lambda x, y, a, b: x[::-1] * x[:, ::-1] - x[::-1, ::-2][:, :1],
    "backwards in another shape": lambda x, y, a, b: np.cos(x[::-1].reshape(4, 3)) + x.reshape(4, 3)[::-1],
    "a diagonal": lambda x, y, a, b: np.einsum("ii->i", x[:, :3]) * np.diagonal(x),
    "sums over axes": lambda x, y, a, b: (y.sum(axis=(0, 2)), y.mean(axis=1), y.sum(), y.T.sum(axis=0)),
    "products over axes": lambda x, y, a, b: (np.prod(x, axis=0), np.prod(x.T, axis=0), np.max(y, axis=1)),
    "matrix times vector": lambda x, y, a, b: (x @ x[0], x[:, 0] @ x, x[0] @ x[1]),
    "a product of transposes": lambda x, y, a, b: x.T @ x[::-1],
    "batches of products": lambda x, y, a, b: y @ x.T @ y @ np.swapaxes(y, 1, 2)[::-1],
    "several axes contracted": lambda x, y, a, b: np.einsum("ijk,jik,l->l", y[:, :2], y[:, :2], x[0]),
    "a batch axis inside": lambda x, y, a, b: np.einsum("aib,bic->iac", y, y[::-1].swapaxes(0, 2)[:, :, ::-1]),
    "three operands": lambda x, y, a, b: np.einsum("ij,kj,aik->ak", x[:2], x[:3], y[:, :2, :3]),
    "an outer product": lambda x, y, a, b: np.outer(x[0], x[:, 0]) + np.outer(x[1], x[:, 1]),
    "a contraction with plain data": lambda x, y, a, b: x @ np.arange(8.0).reshape(4, 2) + np.ones((1, 3)) @ x[:, :2],
    "joined and stacked": lambda x, y, a, b: np.concatenate([x, np.ones((1, 4)), x[::-1]])[1:-1] * a,
    "padded": lambda x, y, a, b: np.pad(x, ((1, 0), (2, 1))) * np.pad(x[::-1], ((0, 1), (1, 2)), constant_values=1.0),
    "gathered": lambda x, y, a, b: np.take(x, np.array([[2, 0], [2, 2]]), axis=0) * x[[1, 1]][:, None][0],
    "chosen by plain data": lambda x, y, a, b: np.where(np.eye(3, 4) > 0, x, np.sin(x[::-1])),
    "an empty array": lambda x, y, a, b: x[:0] * 2.0,
    "a sum of nothing": lambda x, y, a, b: np.sum(x[:, :0] * 2.0, axis=1) + a,
    "a product over nothing": lambda x, y, a, b: x[:, :0] @ x[:0] + x,
    "the arguments themselves": lambda x, y, a, b: (x, a, x, y.T),
    "no argument": lambda x, y, a, b: (np.arange(3.0), x),
}


@pytest.mark.parametrize("order", [2, 9])
@pytest.mark.parametrize("name", VIEWS)
def test_views_of_every_kind_are_read_and_written_as_numpy_does(name, order):
    rng = np.random.default_rng(7)
    args = (rng.uniform(-1, 1, (3, 4)), rng.uniform(-1, 1, (2, 3, 4)), np.array(0.7), np.array(-1.3))
    assert_compiled(VIEWS[name], args, order, directions=3)
    compiled = cs.compile(cs.trace(VIEWS[name], *args))
    for ours, theirs in zip(flatten(compiled(*args))[0], flatten(VIEWS[name](*args))[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("order", [2, 9])
@pytest.mark.parametrize("values", [0, 3])
def test_empty_arrays_are_accepted_and_returned(values, order):
    args = (np.ones((values, 0)), np.ones((0, 4)), np.full((values, 4), 2.0), np.zeros((0,), dtype=int))

    def function(a, b, c, index):
        return a @ b + c, a * 2.0, np.sum(a, axis=0), np.take(c, index, axis=1), c.sum()

    assert_compiled(function, args, order, directions=3)


def test_an_argument_without_coefficients_is_constant():
    args = (np.array([0.3, -0.2]), np.array([[1.0, 2.0], [0.5, -1.0]]))
    circuit = cs.trace(lambda x, y: np.concatenate([x @ y, np.sin(y[0]), x]), *args)
    for moving in (0, 1):
        series = [None, None]
        series[moving] = np.random.default_rng(moving).standard_normal((2, 3, *args[moving].shape))
        theirs = reference.run(circuit, args, series, 3)[0]
        ours = cs.compile(circuit, 3).series(args, tuple(series))
        np.testing.assert_allclose(ours, theirs.real, atol=1e-13)


# Lanes that hold values: many retrainings at once.


def trained_on(program, n=3):
    """A run of one step whose state becomes the program's outputs, at inputs that weights move a little."""
    rng = np.random.default_rng(5)
    moves = [rng.uniform(-1, 1, (n, *x.shape)) for x in program.inputs if x.dtype.kind == "f"]

    def at(keep, indices):
        moved = iter([np.tensordot(1.0 - keep, move, axes=1) for move in moves])
        given = iter(indices)
        return program(*(x + next(moved) if x.dtype.kind == "f" else next(given) for x in program.inputs))

    start = program(*program.inputs)
    step = lambda state, batch, keep: at(keep, batch)  # noqa: E731
    run = cs.Training(step, tuple(np.zeros(np.shape(x)) for x in start), [program.indices], [np.arange(n)])
    return run, lambda w: at(1.0 - w, program.indices)


@given(program=programs(), seed=seeds)
def test_subsets_trained_as_lanes_are_the_subsets_trained_one_by_one(program, seed):
    run, by_numpy = trained_on(program)
    # Small enough to stay on the same side of every kink, and far from every pole: programs keep 0.5 away.
    weights = np.random.default_rng(seed).uniform(-1e-3, 1e-3, (11, 3))
    many = run.retrain(weights, threads=2)
    for row, w in enumerate(weights):
        alone = run.retrain(w)
        for ours, one, truth in zip(many, alone, by_numpy(w), strict=True):
            # Values of size 3 at most, of ten gates: some hundred roundings.
            np.testing.assert_allclose(ours[row], one, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(one, truth, rtol=1e-12, atol=1e-12)


def test_comparisons_differ_from_lane_to_lane():
    def step(state, x, keep):
        s = (keep * x).sum()
        return {
            "where": np.where(s > 2.5, s, -s),
            "max": np.max(keep * x),
            "relu": cs.relu(s - 2.5),
            "softmax": cs.softmax(100.0 * keep * x),
            "sign": np.where((keep > 0.5) & (x > 1.5), 1.0, 0.0),
        }

    state = {"where": 0.0, "max": 0.0, "relu": 0.0, "softmax": np.zeros(3), "sign": np.zeros(3)}
    x = np.array([1.0, 2.0, 3.0])
    run = cs.Training(step, state, [x], [[0, 1, 2]])
    weights = np.array([[a, b, c] for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)])
    many = run.retrain(weights)
    for row, w in enumerate(weights):
        for name, truth in step(state, x, 1.0 - w).items():
            np.testing.assert_allclose(many[name][row], truth, atol=1e-13, err_msg=f"{name} {w}")


# A state that is carried from step to step.


def assert_carried(step, state, batches, examples, n):
    """A state of equal shapes, in a tuple or dict: trained, retrained as lanes, and pushed."""
    rng = np.random.default_rng(1)
    leaves = lambda value: np.stack(flatten(value)[0])  # noqa: E731
    run = cs.Training(step, state, batches, examples, n=n)
    plainly = lambda w: leaves(by_hand(step, state, batches, examples, w))  # noqa: E731
    np.testing.assert_allclose(leaves(run.train()), plainly(np.zeros(n)), atol=1e-13)
    weights = rng.uniform(-0.3, 0.3, (3, n))
    many = leaves(run.retrain(weights))
    for row, w in enumerate(weights):
        np.testing.assert_allclose(many[:, row], plainly(w), atol=1e-13)
        np.testing.assert_allclose(leaves(run.retrain(w)), plainly(w), atol=1e-13)
    if not run.varying():
        return
    # Directions of size 0.2: coefficient 16, which the circle's 16 points mistake for coefficient 0, is below 1e-12.
    directions = 0.2 * (rng.uniform(-1, 1, (2, n)) + 1j * rng.uniform(-1, 1, (2, n)))
    pushed = leaves(cs.push(run, directions, 2).state)
    for row, psi in enumerate(directions):
        found = on_a_circle(lambda z, psi=psi: plainly(z * psi), 2)
        np.testing.assert_allclose(np.moveaxis(pushed[:, row], 1, 0), found, atol=1e-12)


@given(
    code=st.tuples(codes, codes),
    results=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=3),
    kinds=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    seed=seeds,
)
def test_a_state_is_carried_from_step_to_step_as_in_numpy(code, results, kinds, seed):
    rng = np.random.default_rng(seed)
    step = random_step(code, tuple(zip(*results, strict=True)))
    state = tuple(rng.uniform(-1, 1, (2, 2)) for _ in results)
    batches = [rng.uniform(-1, 1, (1,) * kind + (2, 2)) for kind in kinds]
    examples = [rng.permutation(6)[:4] for _ in kinds]
    assert_carried(step, state, batches, examples, 6)


STEPS = {
    "parts are exchanged": lambda s, x, keep: {"a": s["b"], "b": s["a"] * keep, "c": s["c"]},
    "parts move round": lambda s, x, keep: {"a": s["b"], "b": s["c"], "c": s["a"] * keep},
    "a part is transposed in its place": lambda s, x, keep: {
        "a": s["a"].T * keep,
        "b": s["a"].T,
        "c": s["c"].T,
    },
    "a part is turned in its place": lambda s, x, keep: {
        "a": s["a"][::-1],
        "b": s["a"] * keep,
        "c": s["c"][:, ::-1],
    },
    "the old state is read after the new one is made": lambda s, x, keep: {
        "a": (new := s["a"] * keep + 0.1),
        "b": s["a"] @ new,
        "c": s["a"] + s["c"] + new,
    },
    "one value fills several parts": lambda s, x, keep: {"a": (new := s["a"] * keep), "b": new, "c": new},
    "a part becomes plain data": lambda s, x, keep: {"a": s["a"] * keep, "b": np.eye(2), "c": s["b"]},
    "a part becomes plain data in some steps": lambda s, x, keep: {
        "a": s["a"] * keep if x.ndim == 2 else np.eye(2),
        "b": s["a"] + s["b"],
        "c": np.ones((2, 2)) if x.ndim == 2 else s["c"] * keep,
    },
    "a part becomes what the step reads": lambda s, x, keep: {
        "a": x.reshape(2, 2),
        "b": s["a"] * keep,
        "c": keep,
    },
    "a part does not vary": lambda s, x, keep: {"a": s["a"] * keep, "b": s["b"] * 0.5 + 0.1, "c": s["b"]},
    "nothing varies in some steps": lambda s, x, keep: {
        "a": s["a"] * keep if x.ndim == 2 else s["a"],
        "b": s["b"] + 0.1,
        "c": s["a"] if x.ndim == 2 else s["c"],
    },
}


@pytest.mark.parametrize("name", STEPS)
def test_a_carried_state_holds(name):
    rng = np.random.default_rng(4)

    def step(s, x, keep):
        return STEPS[name](s, x, keep.reshape(2, 2))

    state = {key: rng.uniform(-1, 1, (2, 2)) for key in "abc"}
    batches = [rng.uniform(-1, 1, shape) for shape in ((2, 2), (1, 2, 2), (1, 2, 2), (2, 2), (2, 2))]
    assert_carried(step, state, batches, [rng.permutation(6)[:4] for _ in batches], 6)
