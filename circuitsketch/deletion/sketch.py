"""The front of the package: push directions through a run, then measure anything and ask.

In: a training run, how many directions of which law, an order. Out: a `Sketch`; `measure` turns it into a `Query`. The
same questions about any function, without a training run, are `local_sketch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from circuitsketch.compile import compile as compile_circuit
from circuitsketch.compile import real_array
from circuitsketch.deletion.query import Query
from circuitsketch.errors import InputError, StoreError
from circuitsketch.kernels.cpu.executable import Executable
from circuitsketch.kernels.cpu.frame import Target
from circuitsketch.lower.tape import Mode
from circuitsketch.sketch.directions import Basis, Given, Law, check_count, find_law
from circuitsketch.sketch.fingerprint import fingerprint
from circuitsketch.sketch.header import Header, Leaf
from circuitsketch.sketch.push import Progress, push_blocks
from circuitsketch.sketch.pushed import Pushed
from circuitsketch.sketch.store import Store
from circuitsketch.trace import flatten, trace, unflatten
from circuitsketch.trace.tree import tree_of
from circuitsketch.training.training import Training, trained_params

ON_DEVICE = {"device": hashlib.sha256(b"cuda").hexdigest()}  # in the fingerprint of what a GPU has pushed


class Sketch(Pushed):
    """A training run as a polynomial in its examples' weights, seen along directions: see `sketch` and `push`."""

    def measure(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Query:
        """Measure the trained model: `function(params, *args)` along every direction, as a Query.

        Parameters
        ----------
        function : anything in NumPy of the trained parameters; its value may be a number or an array.
        args : passed on as they are (a name, test data); they are not traced.
        device : "cpu", or "cuda", which is for measurements that take long.
        """
        return Query(self.coefficients(function, *args, device=device), self.law)

    def info(self) -> str:
        """What this sketch is, in a few lines."""
        kind = "complex" if self.target.mode.complex else "real"
        number = "float32" if self.target.single else "float64"
        lines = [
            f"sketch of {self.count} {kind} directions ({self.law.name}, seed {self.law.seed}) to order {self.order}",
            f"  examples   {self.n:,}",
            f"  state      {sum(leaf.size for leaf in self.constants):,} numbers in {len(self.constants)} leaves",
            f"  stored     {self.nbytes / 1e6:,.1f} MB of {number}, {self.target.width} directions a block",
        ]
        if isinstance(self.lanes, Store):
            header = self.lanes.header
            lines += [
                f"  run        {header.steps:,} steps, size(A) = {header.size:,}",
                f"  path       {self.lanes.path}, made {self.lanes.created}",
            ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<Sketch of {self.count} {self.law.name} directions to order {self.order}, {self.n} examples, "
            f"{self.nbytes / 1e6:.1f} MB>"
        )


def sketch(
    run: Training,
    directions: int = 512,
    order: int = 3,
    seed: int = 0,
    *,
    law: str = "sphere",
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | None = None,
    path: str | PathLike[str] | None = None,
    device: str = "cpu",
) -> Sketch:
    """Push random directions through a training run.

    Parameters
    ----------
    run : a Training. directions : how many. order : the highest Taylor coefficient.
    seed : of the directions; the same seed gives the same sketch, whatever the number of threads.
    law : "sphere" (the theorem's), "orthonormal" or "gaussian"; see `circuitsketch.sketch.directions`.
    dtype : complex128, or complex64 for half the memory and time.
    threads : how many (default: one a core). progress : called with (blocks done, blocks).
    path : a folder to keep the sketch in, block by block. Interrupted at any moment, the same call goes on where it
        stopped, and ends with the same bits; with more directions it adds to what is there. See `open_sketch`.
    device : "cpu", or "cuda" for an NVIDIA GPU (needs the extra cuda12 or cuda13), whose coefficients are the CPU's up
        to rounding.

    Returns
    -------
    Sketch

    Raises
    ------
    InputError : for numbers that cannot be. DomainError, DivergenceError : where the run has no finite series.
    StoreError : the path holds another run's sketch, or a damaged one, or another process writes it.
    DeviceError : there is no GPU, or its memory does not hold a single block; it says what was looked for.

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> query = cs.sketch(run, directions=2, order=1, law="orthonormal").measure(lambda s: s)
    >>> round(query.without([1]).value, 6)
    1.0
    """
    if not isinstance(run, Training):
        raise InputError(f"cs.sketch takes a cs.Training, not {type(run).__name__}; for a function use cs.local_sketch")
    count = check_count(directions)
    chosen = find_law(law, run.n, seed)
    return pushed(run, chosen, count, order, True, dtype, threads, progress, device, path)


def push(
    run: Training,
    directions: Any,
    order: int = 3,
    *,
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Sketch:
    """Push given directions through a training run.

    Parameters
    ----------
    directions : (directions, examples), real or complex. Real ones cost a quarter.
    order, dtype, threads, progress, device : as for `sketch`.

    Returns
    -------
    Sketch of law "given": along a direction psi, keep is 1 - z psi, and `state` holds the coefficients of z^k.

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep[0] * keep[0] * x, np.zeros(()), [1.0], [[0]])
    >>> cs.push(run, [[1.0]], order=2).state.real
    array([[ 1., -2.,  1.]])
    """
    if not isinstance(run, Training):
        raise InputError(f"cs.push takes a cs.Training, not {type(run).__name__}; for a function use cs.local_sketch")
    try:
        given = np.asarray(directions)
    except ValueError as reason:
        raise InputError(f"directions are an array of numbers (directions, examples): {reason}") from None
    if given.ndim != 2 or given.shape[1] != run.n:
        raise InputError(
            f"directions of shape {given.shape}; give (directions, examples) = (any, {run.n}), one weight an example"
        )
    chosen = Given(given)
    return pushed(run, chosen, len(given), order, np.iscomplexobj(given), dtype, threads, progress, device)


def pushed(
    run: Training,
    law: Law,
    count: int,
    order: int,
    is_complex: bool,
    dtype: Any,
    threads: int | None,
    progress: Progress | None,
    device: str,
    path: str | PathLike[str] | None = None,
) -> Sketch:
    """Push the first `count` directions of a law, into a store if there is a path."""
    stores: list[Store] = []

    def store_for(executable: Executable) -> Store:
        assert path is not None
        stores.append(Store.resume(path, header_of(run, law, count, executable, executable.on_device)))
        return stores[0]

    try:
        executable, constants, lanes = push_blocks(
            run,
            law.block,
            count,
            order,
            is_complex=is_complex,
            dtype=dtype,
            threads=threads,
            width=stored_width(path) if device == "cuda" and path is not None else None,
            device=device,
            progress=progress,
            store_for=store_for if path is not None else None,
        )
    finally:
        for store in stores:
            store.close()
    target, tree = executable.target, run.state_tree
    return Sketch(law, count, target, tree, run.params, constants, executable.state_lane, lanes, threads)


def stored_width(path: str | PathLike[str]) -> int | None:
    """Directions a block in the store at a path, if there is one: a GPU takes any number, and goes on with it."""
    return Store.open(path).header.width if Store.exists(path) else None


def header_of(run: Training, law: Law, count: int, executable: Executable, on_device: bool = False) -> Header:
    """What the store of a push says about itself; blocks of a device, equal to a CPU's up to rounding, do not mix with
    them."""
    target = executable.target
    found = fingerprint(run.circuits, run.schedule, run.state_leaves, run.n, run.steps)
    leaves = tuple(
        Leaf(name, leaf.shape, at >= 0)
        for name, leaf, at in zip(run.state_names, run.state_leaves, executable.state_lane, strict=True)
    )
    return Header(
        law=law.name,
        n=run.n,
        seed=law.seed,
        directions=count,
        order=target.mode.order,
        is_complex=target.mode.complex,
        dtype="float32" if target.single else "float64",
        width=target.width,
        steps=run.steps,
        size=run.size,
        leaves=leaves,
        fingerprint=found | ON_DEVICE if on_device else found,
    )


def open_sketch(path: str | PathLike[str], run: Training | None = None, *, threads: int | None = None) -> Sketch:
    """A sketch that `sketch(..., path=...)` has written; its blocks are read when they are asked for.

    Parameters
    ----------
    run : the training run, if it is at hand: then the store must be its own, and the state has its structure. Without
        it the state comes back as nested dicts and lists by the names of its leaves, and measurements see
        state["params"], or the whole state where there is none.

    Raises
    ------
    StoreError : no store, not finished, damaged, of another run, or of a newer format.

    >>> import tempfile, numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = cs.sketch(run, directions=4, order=1, path=folder + "/a.sketch")
    ...     bool((cs.open_sketch(folder + "/a.sketch").state == made.state).all())
    True
    """
    store = Store.open(path)
    header = store.header
    if not store.complete:
        raise StoreError(
            f"{store.path} has {len(store.done)} of {header.blocks} blocks: make it again with the same run and "
            "path, and it goes on from there"
        )
    mode = Mode(header.order, header.is_complex)
    target = Target(mode, header.width, header.dtype == "float32")
    law = Basis(header.n) if header.law == "basis" else find_law(header.law, header.n, header.seed or 0)
    state_lane, lane = [], 0
    for leaf in header.leaves:
        state_lane.append(lane if leaf.varies else -1)
        lane += int(np.prod(leaf.shape, dtype=np.int64)) if leaf.varies else 0
    if run is None:
        tree, params = tree_of([leaf.name for leaf in header.leaves]), trained_params
    else:
        tree, params = run.state_tree, run.params
        executable = run.executable(mode, np.complex64 if target.single else np.complex128, header.width)
        on_device = header.fingerprint.keys() >= ON_DEVICE.keys()
        Store.open(path, header=header_of(run, law, header.directions, executable, on_device))
    return Sketch(law, header.directions, target, tree, params, store.constants, state_lane, store, threads)


def local_sketch(
    function: Callable[..., Any],
    at: Any,
    directions: int = 512,
    order: int = 3,
    seed: int = 0,
    *,
    law: str = "sphere",
    dtype: Any = np.complex128,
    threads: int | None = None,
    device: str = "cpu",
) -> Query:
    """Theorem 1 for any function: predict f(x + h) for every h, from its Taylor series along random directions at x.

    Parameters
    ----------
    function : of one pytree of arrays, in NumPy; its value is a number or an array.
    at : the point x; h is a vector as long as all its leaves together, in their order.
    directions, order, seed, law, dtype, threads, device : as for `sketch`.

    Returns
    -------
    Query: `predict(h)`, `influence()`, `stability()`.

    >>> import numpy as np, circuitsketch as cs
    >>> query = cs.local_sketch(lambda x: (x * x).sum(), at=np.array([3.0]), directions=4, order=2)
    >>> round(query.predict([1.0]).value, 9)
    16.0
    """
    if not callable(function):
        raise InputError(f"cs.local_sketch takes a function, not {type(function).__name__}")
    count = check_count(directions)
    leaves, tree = flatten(at)
    arrays = [real_array(leaf, name) for leaf, name in zip(leaves, tree.names("at"), strict=True)]
    if not all(np.all(np.isfinite(array)) for array in arrays):
        raise InputError("the point holds a NaN or an infinity; give finite numbers")
    point = unflatten(tree, arrays)
    chosen = find_law(law, sum(array.size for array in arrays), seed)
    circuit = trace(function, point)
    if len(circuit.outputs) != 1:
        raise InputError(f"the function returns {len(circuit.outputs)} leaves; return one number or array")
    rows = chosen.block(0, count)
    ends = np.cumsum([array.size for array in arrays])
    parts = [
        rows[:, end - array.size : end].reshape(count, 1, *array.shape) for end, array in zip(ends, arrays, strict=True)
    ]
    compiled = compile_circuit(circuit, order, dtype, device=device)
    found = compiled.series((point,), (unflatten(tree, parts),), threads)
    return Query(flatten(found)[0][0], chosen)
