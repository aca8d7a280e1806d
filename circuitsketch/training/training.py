"""Training runs: a step circuit applied T times, from the initial state and the data to the trained state.

In: a step written in NumPy, an initial state, the batch of each step, and the ids of its examples. Out: `Training`,
which has a size(A) and can be trained, retrained with any weights (several subsets at once, as lanes), and linked for
propagating directions. The counterfactual is the same everywhere: same order, same seeds, same denominators, and the
loss of example i multiplied by keep_i = 1 - w_i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import replace
from functools import cached_property
from inspect import signature
from threading import RLock
from typing import Any

import numpy as np

from circuitsketch.arguments import (
    as_list,
    call,
    check_callable,
    check_executor,
    check_picklable,
    is_int,
    quoted,
    refuse_device,
)
from circuitsketch.arrays import check_real_dtype, plain_array, real_array
from circuitsketch.backends.contract import Arena, Executable, Schedule
from circuitsketch.backends.lane_blocks import run_blocks
from circuitsketch.backends.registry import build, check_device, get_backend, make_target
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.checks.domains import describe_gate, find_first_nonfinite
from circuitsketch.circuit import Circuit
from circuitsketch.display import list_completions, summarize, table
from circuitsketch.errors import DivergenceError, InputError, ShapeError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.passes import simplify
from circuitsketch.training.indices import check_run_indices
from circuitsketch.training.subsets import check_labels, downweights_of, entry_per_example
from circuitsketch.tree import LEAF, flatten, flatten_up_to, unflatten
from circuitsketch.workers.distribution import distribute, group_for_workers

linking = RLock()  # several tasks of one worker may ask for one executable at once
# What tab completion shows.
PUBLIC = "train retrain params grouped size steps n state batches examples labels items groups circuits origin".split()

FRONT_END = ("layout",)  # of runs imported from another library: how its users see the state, which workers need not


class Training:
    """A training run.

    Parameters
    ----------
    step : callable
        `step(state, batch, keep) -> state`, in NumPy; `keep` has one entry per example of the step, 1 - w.
    state : pytree
        The initial state, arrays.
    batches : sequence of pytrees
        One per step: floats are data, integers are run-time indices. Everything that changes from step to step belongs
        here, including a learning rate. Shapes may differ between steps.
    examples : sequence of sequences of int
        One per step: the ids of the examples whose weights it reads. Several steps may read the same example.
    n : int, optional
        The number of examples; by default the largest id + 1.
    params : callable, optional
        `params(state)` returns the parameters passed to measurements; by default state["params"] or state.params,
        or the entire state if it has neither.
    labels : sequence of hashable, optional
        One label per example (a class, a source), by which queries can select examples.
    items : sequence, optional
        The raw form of each example, by which queries can select examples.

    Attributes
    ----------
    size : int
        size(A), the exact number of scalar gates of the run.
    steps : int
        The number of steps.
    n : int
        The number of examples.
    circuits : list of Circuit
        One circuit per shape of batch.
    groups : tuple or None
        Of a `grouped` run, the label of each example before grouping.
    origin : str or None
        A description of how to recreate this run, stored with its sketches.

    Raises
    ------
    InputError, ShapeError, TraceError
        On invalid arguments, before the run starts.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> def step(state, x, keep):
    ...     slope = cs.grad(lambda p: (keep * (p * x - 1.0) ** 2).sum())(state["params"])
    ...     return cs.optim.sgd(state, slope, learning_rate=0.1)
    >>> run = cs.Training(step, {"params": np.zeros(())}, [np.ones(1)] * 3, [[0], [1], [0]])
    >>> round(float(run.train()["params"]), 4), round(float(run.retrain(without=[0])["params"]), 4)
    (0.488, 0.2)
    """

    def __init__(
        self,
        step: Callable[[Any, Any, Any], Any],
        state: Any,
        batches: Sequence[Any],
        examples: Sequence[Any],
        *,
        n: int | None = None,
        params: Callable[[Any], Any] | None = None,
        labels: Sequence[Any] | None = None,
        items: Sequence[Any] | None = None,
    ) -> None:
        check_callable(step, "step")
        if params is not None:
            check_callable(params, "params")
        check_step(step)
        self.state = state
        self.batches = entry_per_step(batches, "batches")
        self.examples = example_ids(examples, len(self.batches))
        self.n = example_count(self.examples, n)
        self.labels = check_labels(labels, self.n)
        self.items = entry_per_example(items, self.n, "items")
        self.groups: tuple[Any, ...] | None = None
        self.origin: str | None = None
        self.chosen_params = params
        leaves, self.state_tree = flatten(state)
        self.state_leaves = [number_leaf(leaf, name) for leaf, name in zip(leaves, self.state_names, strict=True)]
        self.circuits: list[Circuit] = []
        self.varying_leaves: dict[bool, tuple[int, ...]] = {}  # see `varying`
        self.schedule = self.trace_steps(step)
        self.executables: dict[Any, Executable] = {}
        check_run_indices(self)

    @property
    def state_names(self) -> list[str]:
        """The path of each leaf of the state."""
        return self.state_tree.names("state")

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.schedule.program)

    @cached_property
    def size(self) -> int:
        """size(A): the sum of the sizes of the steps' circuits."""
        counts = np.bincount(self.schedule.program, minlength=len(self.circuits))
        return sum(int(count) * circuit.size for count, circuit in zip(counts, self.circuits, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: circuits and data, without compiled code; the step is not needed any more."""
        check_picklable(self.chosen_params, "params")
        return self.__dict__ | {"executables": {}}

    def __copy__(self) -> Training:
        run = object.__new__(type(self))
        run.__dict__.update(self.__dict__)  # compiled code, too
        return run

    def for_workers(self) -> Training:
        """Return the run without what blocks of lanes do not read: names, containers and functions of the user's."""
        run = object.__new__(Training)
        run.__dict__.update({name: value for name, value in vars(self).items() if name not in FRONT_END})
        flat = flatten([0] * len(self.state_leaves))[1]
        run.state = run.labels = run.items = run.groups = run.origin = run.chosen_params = None
        run.batches, run.examples, run.state_tree = [], [], flat
        run.circuits = [replace(circuit, in_tree=LEAF, out_tree=flat) for circuit in self.circuits]
        run.varying_leaves = {values: self.varying(values) for values in (False, True)}
        return run

    def params(self, state: Any) -> Any:
        """Return the parameters in a state."""
        if self.chosen_params is not None:
            return call(self.chosen_params, "params", state)
        return trained_params(state)

    def param_leaves(self, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the leaves of the parameters, given those of a state."""
        return flatten(self.params(unflatten(self.state_tree, list(leaves))))[0]

    def trace_steps(self, step: Callable[[Any, Any, Any], Any]) -> Schedule:
        """Trace one circuit per kind of step (structure, shapes and dtypes of its batch) and return the schedule."""
        kinds: dict[Any, int] = {}
        program, data, ids = [], np.zeros(0), []
        data_start, ids_start = [0], [0]
        for t, (batch, examples) in enumerate(zip(self.batches, self.examples, strict=True)):
            leaves, tree = flatten(batch)
            names = tree.names(f"batches[{t}]")
            arrays = [number_leaf(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
            labels = tuple(np.asarray(leaf).dtype.kind for leaf in leaves)
            kind = (tree, tuple(a.shape for a in arrays), labels, len(examples))
            if kind not in kinds:
                kinds[kind] = len(self.circuits)
                self.circuits.append(self.step_circuit(step, batch, len(examples), t))
            program.append(kinds[kind])
            end = data_start[-1] + sum(a.size for a in arrays)
            if end > data.size:  # grows in place, since a copy of all data may not fit into memory
                data.resize(max(end, data.size * 9 // 8), refcheck=False)
            np.concatenate([data[:0], *(a.ravel() for a in arrays)], out=data[data_start[-1] : end])
            ids.append(examples)
            data_start.append(end)
            ids_start.append(ids_start[-1] + len(examples))
        data.resize(data_start[-1], refcheck=False)
        return Schedule(
            np.array(program, dtype=np.int64),
            data,
            np.array(data_start, dtype=np.int64),
            np.concatenate(ids),
            np.array(ids_start, dtype=np.int64),
        )

    def step_circuit(self, step: Callable[[Any, Any, Any], Any], batch: Any, examples: int, t: int) -> Circuit:
        """Return the simplified circuit of a step after checking that its result fits the state."""

        def run_step(*args: Any) -> Any:
            """Return the new state with its dict keys in the order of the initial state."""
            result = call(step, "step", *args)
            try:
                return unflatten(self.state_tree, flatten_up_to(self.state_tree, result))
            except InputError:
                return result

        circuit = traced(run_step, (self.state, batch, np.ones(examples)), "refuse", step)
        if circuit.out_tree != self.state_tree:
            raise InputError(
                f"step {t} returns leaves {list(circuit.output_names)}, but the state has {self.state_names}; return a "
                "state of the same structure"
            )
        for wire, leaf, name in zip(circuit.outputs, self.state_leaves, self.state_names, strict=True):
            if circuit.nodes[wire].shape != leaf.shape:
                raise ShapeError(
                    f"step {t} returns {name} of shape {circuit.nodes[wire].shape}; the state has shape {leaf.shape}"
                )
        return simplify(circuit)

    def data_of(self, t: int) -> list[np.ndarray]:
        """Return the leaves of step t's batch."""
        circuit = self.circuits[self.schedule.program[t]]
        begin = int(self.schedule.data_start[t])
        leaves = []
        for wire in circuit.inputs[len(self.state_leaves) : -1]:
            shape = circuit.nodes[wire].shape
            count = int(np.prod(shape, dtype=np.int64))
            leaves.append(self.schedule.data[begin : begin + count].reshape(shape))
            begin += count
        assert begin == self.schedule.data_start[t + 1]
        return leaves

    def varying(self, values: bool = False) -> tuple[int, ...]:
        """Return the positions of the state leaves that depend on the weights (`values`: also through comparisons)."""
        if values in self.varying_leaves:
            return self.varying_leaves[values]
        varying: set[int] = set()
        while True:
            before = len(varying)
            for circuit in self.circuits:
                weighted = [*(circuit.inputs[i] for i in varying), circuit.inputs[-1]]
                reached = circuit.reached_from(weighted, through=lambda node: values or not node.gate.flat)
                varying |= {i for i, wire in enumerate(circuit.outputs) if wire in reached}
            if len(varying) == before:
                self.varying_leaves[values] = tuple(sorted(varying))
                return self.varying_leaves[values]

    def executable(
        self,
        mode: Mode,
        dtype: Any = np.complex128,
        width: int | None = None,
        device: str = "cpu",
        lanes: int = 1,
    ) -> Executable:
        """Return the run compiled for a mode, a device and a number of lanes (a hint); cached."""
        target = make_target(mode, dtype, width, device, lanes)
        with linking:
            if target not in self.executables:
                count = len(self.state_leaves)
                varying = self.varying(mode.values) if mode.components else ()
                carry = {i: i for i in range(count)}
                self.executables[target] = build(self.circuits, target, varying, count, carry, has_keep=True)
            return self.executables[target]

    def train(self) -> Any:
        """Train and return the final state.

        Raises
        ------
        DivergenceError
            If a value is not finite; the message names the step and the gate.
        """
        return self.train_with(np.zeros(self.n))

    def train_with(self, w: np.ndarray) -> Any:
        """Train with downweights w (n,) and return the final state."""
        arena = self.executable(Mode(0)).allocate_arena()
        arena.set_state(self.state_leaves)
        bad = arena.run(self.schedule, 0, self.steps, w, check_finite=True)
        if bad >= 0:
            raise self.explain_divergence(bad, w)
        return unflatten(self.state_tree, arena.get_state())

    def explain_divergence(self, step: int, w: np.ndarray) -> DivergenceError:
        """Return the error for a state that is not finite after a step, with the first such gate of the step."""
        arena = self.executable(Mode(0)).allocate_arena()
        arena.set_state(self.state_leaves)
        arena.run(self.schedule, 0, step, w)
        begin, end = self.schedule.ids_start[step : step + 2]
        values = [*arena.get_state(), *self.data_of(step), 1.0 - w[self.schedule.ids[begin:end]]]
        node = find_first_nonfinite(self.circuits[self.schedule.program[step]], values)
        gate = "the state itself" if node is None else describe_gate(node)
        return DivergenceError(
            f"training diverged at step {step} of {self.steps}: the first non-finite value is in {gate}; lower the "
            "learning rate, or bound that gate's operand"
        )

    @within_memory("retraining", "fewer subsets at a time", "threads=1")
    def retrain(
        self,
        without: Any,
        threads: int | None = None,
        *,
        dtype: Any = np.float64,
        device: str = "cpu",
        executor: Executor | None = None,
    ) -> Any:
        """Train again with other weights: the ground truth for predictions.

        Parameters
        ----------
        without : ids, mask, downweights, str, callable, or a list of these
            Ids to delete, a mask, or downweights (n,) (1 deletes, 0.5 halves, -1 doubles); a group's label, if it is a
            string; a predicate on an example's item. For several subsets, which are trained together as lanes, a list
            of subsets or a 2-D array (subsets, n) of masks or downweights.
        threads : int, optional
            The number of threads for several subsets; by default all cores.
        dtype : {float64, float32}
            The precision of the training. float32 takes about half the time, and is the precision in which frameworks
            usually train; its rounding, about 1e-6 of a parameter, hides effects that are as small. The result is
            float64 in any case.
        device : str
            "cpu", or "cuda", which pays off for large numbers of subsets.
        executor : concurrent.futures.Executor, optional
            Workers that share the subsets, such as those of `circuitsketch.executor`; each uses one thread by default.

        Returns
        -------
        pytree
            The final state; for several subsets a state whose leaves are (subsets, *shape).

        Raises
        ------
        DivergenceError
            If a value is not finite; the message names the step and the gate.
        DeviceError
            If there is no GPU, or its memory does not hold a single block.
        WorkerError
            If a worker dies.

        Examples
        --------
        >>> import numpy as np, circuitsketch as cs
        >>> step = lambda s, x, keep: s + keep.sum() * x
        >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0], [[0], [1]])
        >>> run.retrain(without=[[0], [1]])
        array([10.,  1.])
        """
        thread_count(threads, 1)
        refuse_device(check_executor(executor), check_device(device))
        single = check_real_dtype(dtype) == np.float32
        downweights = downweights_of(without, self.n, self.labels, self.items)
        several = downweights.ndim == 2
        if get_backend(device).runs_constants and not several and not single:
            return self.train_with(downweights)
        weights = np.atleast_2d(downweights)
        states = len(weights) * sum(leaf.size for leaf in self.state_leaves)
        require_memory(8 * states, f"the trained states of {len(weights):,} subsets", ["fewer subsets at a time"])
        executable = self.executable(Mode(0, complex=False, values=True), dtype, None, device, len(weights))
        if executor is not None:
            leaves = self.retrain_on_workers(executor, weights, executable, threads)
        else:
            leaves = self.retrain_lanes(weights, executable, threads)
        for row, w in enumerate(weights):
            if not all(np.all(np.isfinite(leaf[row])) for leaf in leaves):
                self.train_with(w)  # raises, with step and gate
                raise DivergenceError(
                    f"retraining diverged for subset {row}; lower the learning rate"
                    + ", or use dtype='float64', in which it is finite" * single
                )
        return unflatten(self.state_tree, leaves if several else [leaf[0] for leaf in leaves])

    def retrain_lanes(self, weights: np.ndarray, executable: Executable, threads: int | None) -> list[np.ndarray]:
        """Return the leaves (subsets, *shape) of the final states for rows of downweights."""
        width = executable.target.width
        leaves = [np.zeros((len(weights), *leaf.shape)) for leaf in self.state_leaves]

        def blocks(begins: range) -> Iterator[None]:
            arena = executable.allocate_arena(len(begins))
            arena.set_state(self.state_leaves)
            packed = np.zeros((len(begins), self.n, 1, width))
            for block, begin in enumerate(begins):
                rows = weights[begin : begin + width]
                packed[block, :, 0, : len(rows)] = rows.T
            yield from arena.run_in_slices(self.schedule, np.zeros(self.n), packed)
            for block, begin in enumerate(begins):
                collect(arena, leaves, begin, block)

        run_blocks(blocks, len(weights), executable, threads, self.n)
        return leaves

    def retrain_on_workers(
        self, executor: Executor, weights: np.ndarray, executable: Executable, threads: int | None
    ) -> list[np.ndarray]:
        """Return what `retrain_lanes` does, from workers."""
        width = executable.target.width
        leaves = [np.zeros((len(weights), *leaf.shape)) for leaf in self.state_leaves]
        begins = group_for_workers(range(0, len(weights), width), threads or 1, executor)
        dtype = np.float32 if executable.target.single else np.float64
        tasks = ((part[0], weights[part[0] : part[-1] + width], dtype, width, threads or 1) for part in begins)
        nbytes = width * (threads or 1) * 8 * (self.n + sum(leaf.size for leaf in self.state_leaves))
        for begin, part in distribute(executor, retrain_rows, [self.for_workers()], tasks, nbytes):
            for leaf, rows in zip(leaves, part, strict=True):
                leaf[begin : begin + len(rows)] = rows
        return leaves

    def grouped(self, labels: Sequence[Any]) -> Training:
        """Return the same run with one weight per group: its examples are the groups, in order of appearance.

        Parameters
        ----------
        labels : sequence of hashable
            The group of each example.

        Returns
        -------
        Training
            With n the number of groups, and the groups' labels as its labels and items. Circuits and compiled code are
            shared with this run.

        Raises
        ------
        InputError
            If there is not one hashable label per example.

        Examples
        --------
        >>> import numpy as np, circuitsketch as cs
        >>> run = cs.Training(lambda s, x, keep: s + keep[0] * x, np.zeros(()), [1.0, 10.0, 100.0], [[0], [1], [2]])
        >>> pairs = run.grouped(["a", "b", "a"])
        >>> pairs.n, pairs.labels, float(pairs.retrain(without=[0]))
        (2, ('a', 'b'), 10.0)
        """
        checked = check_labels(labels, self.n, "groups")
        if checked is None:
            raise InputError(f"groups must be {self.n} labels, one per example, not None")
        numbers = {label: number for number, label in enumerate(dict.fromkeys(checked))}
        member = np.array([numbers[label] for label in checked], dtype=np.int64)
        run = copy(self)
        run.n, run.labels, run.items, run.groups = len(numbers), tuple(numbers), tuple(numbers), checked
        run.examples = [member[ids] for ids in self.examples]
        run.schedule = replace(self.schedule, ids=member[self.schedule.ids])
        return run

    def _repr_html_(self) -> str:
        numbers = sum(leaf.size for leaf in self.state_leaves)
        about = (("labels", self.labels), ("items", self.items))
        return table(
            f"training of {self.steps:,} steps on {self.n:,} {'examples' if self.groups is None else 'groups'}",
            [
                ("size(A)", f"{self.size:,} scalar gates"),
                ("circuits", f"{len(self.circuits):,}, one per shape of batch"),
                ("state", f"{numbers:,} numbers in {len(self.state_leaves)} leaves: {summarize(self.state_names)}"),
                *((name, summarize(values)) for name, values in about if values is not None),
            ],
        )

    def __dir__(self) -> list[str]:
        return list_completions(self, PUBLIC)

    def __repr__(self) -> str:
        return f"<Training of {self.steps} steps on {self.n} examples, size(A) = {self.size:,}>"


def retrain_rows(
    run: Training, begin: int, weights: np.ndarray, dtype: Any, width: int, threads: int
) -> tuple[int, list[np.ndarray]]:
    """Retrain with some rows of downweights, as a task of a worker; return their first number and the leaves."""
    executable = run.executable(Mode(0, complex=False, values=True), dtype, width)
    return begin, run.retrain_lanes(weights, executable, threads)


def check_step(step: Any) -> None:
    """Raise InputError unless the step can be called with (state, batch, keep)."""
    try:
        signature(step).bind("state", "batch", "keep")
    except TypeError as reason:
        raise InputError(f"step must accept (state, batch, keep): {reason}") from None
    except ValueError:  # a function that is not written in Python may have no signature
        pass


def trained_params(state: Any) -> Any:
    """Return the part of a state that is passed to measurements: its "params", or else all of it.

    >>> from types import SimpleNamespace
    >>> trained_params({"params": 1, "moments": 2}), trained_params(SimpleNamespace(params=3)), trained_params([1, 2])
    (1, 3, [1, 2])
    """
    if isinstance(state, Mapping):
        return state.get("params", state)
    return getattr(state, "params", state)


def collect(arena: Arena, leaves: list[np.ndarray], begin: int, block: int) -> None:
    """Copy a block's final values into the rows of the leaves from `begin` on."""
    constants = arena.get_state()
    for i, leaf in enumerate(leaves):
        rows = leaf[begin : begin + arena.executable.target.width]
        if arena.executable.state_lane[i] < 0:
            rows[...] = constants[i]
        else:
            lanes = arena.view_lanes(0, arena.executable.tapes[0].inputs[i], block)[..., 0, : len(rows)]
            rows[...] = np.moveaxis(lanes, -1, 0)


def number_leaf(leaf: Any, name: str) -> np.ndarray:
    """Return a leaf as float64, or raise InputError if it is not finite real numbers."""
    array = real_array(leaf, name)
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name} contains NaN or infinity; clean the data before training")
    return array


def entry_per_step(values: Any, name: str) -> list[Any]:
    """Return a sequence with one entry per step as a list."""
    if isinstance(values, np.ndarray):
        values = plain_array(values, name)
    return as_list(values, name, "one entry per step")


def example_ids(values: Sequence[Any], steps: int) -> list[np.ndarray]:
    """Return the example ids of every step as int64 arrays, or raise InputError."""
    examples = entry_per_step(values, "examples")
    if len(examples) != steps:
        raise InputError(f"got {steps} batches and {len(examples)} lists of examples; pass one list of ids per step")
    if steps == 0:
        raise InputError("a training run needs at least one step")
    arrays = []
    for t, ids in enumerate(examples):
        try:
            array = plain_array(ids, f"examples[{t}]")
        except InputError as reason:
            raise InputError(f"examples[{t}] must be a list of integer ids: {reason}") from None
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(
                f"examples[{t}] must be a list of integer ids, not shape {array.shape} dtype {array.dtype}"
            )
        if np.any(array < 0):
            raise InputError(f"examples[{t}] contains the id {array.min()}; ids must be non-negative")
        arrays.append(array.astype(np.int64))
    return arrays


def example_count(examples: list[np.ndarray], n: int | None) -> int:
    """Return n, by default the largest id + 1, or raise InputError if an id is out of range."""
    largest = max((int(ids.max()) for ids in examples if ids.size), default=-1)
    if largest < 0:
        raise InputError(
            "examples has no ids, so no step reads an example's weight; pass the ids of each step's examples"
        )
    if n is None:
        return largest + 1
    if not is_int(n):
        raise InputError(f"n, the number of examples, must be an integer, not {quoted(n)}")
    if n <= largest:
        step = next(t for t, ids in enumerate(examples) if ids.size and int(ids.max()) == largest)
        raise InputError(f"n = {n}, but step {step} reads example {largest}; ids must be below n")
    return int(n)
