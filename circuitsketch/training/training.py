"""Training: a step circuit applied T times, from the state and the data to the trained state.

In: a step written in NumPy, a first state, what each step reads, and which examples' weights it reads. Out: `Training`,
which knows its size(A) and can be trained plainly, retrained with any weights (many at once, subsets as lanes), and
linked for pushing directions through it. The counterfactual is the same everywhere: same order, same seeds, same
denominators, and example i's loss times keep_i = 1 - w_i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np

from circuitsketch.arguments import as_list, call, check_callable, is_int, quoted
from circuitsketch.arrays import plain_array, real_array
from circuitsketch.backends.contract import Arena, Executable, Schedule
from circuitsketch.backends.lane_blocks import in_blocks
from circuitsketch.backends.registry import build, check_device, target_for
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.circuit import Circuit
from circuitsketch.display import completed, some, table
from circuitsketch.errors import DivergenceError, InputError, ShapeError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.passes import simplify
from circuitsketch.training.indices import check_run_indices
from circuitsketch.training.subsets import check_labels, downweights_of, one_an_example
from circuitsketch.tree import flatten, leaves_like, unflatten

# What tab completion shows.
PUBLIC = "train retrain params grouped size steps n state batches examples labels items groups circuits origin".split()


class Training:
    """A training run.

    Parameters
    ----------
    step : `step(state, batch, keep) -> state`, in NumPy; `keep` has one entry an example of the step, 1 - w.
    state : the first state, a pytree of arrays.
    batches : for every step a pytree of arrays; floats are data, integers run-time indices. All the things that change
        from step to step belong here, a learning rate too. Shapes may differ from step to step.
    examples : for every step the ids of the examples whose weights it reads; an example may be read by many steps.
    n : the number of examples (default: the largest id + 1).
    params : `params(state)` gives what measurements see (default: state["params"], or the whole state without it).
    labels : of the examples, one hashable each (a class, a source); items : what each example is. They carry no part
        of the training, and let questions be asked by them.

    Attributes
    ----------
    size : size(A), the exact number of scalar gates of the whole run. steps, n : numbers. circuits : one a shape.
    groups : of a `grouped` run, the label of each example before grouping; else None.
    origin : how to make this run, in words that a sketch of it keeps on disk; None until somebody sets it.

    Raises
    ------
    InputError, ShapeError, TraceError : before anything runs.

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
        self.batches = one_a_step(batches, "batches")
        self.examples = example_ids(examples, len(self.batches))
        self.n = example_count(self.examples, n)
        self.labels = check_labels(labels, self.n)
        self.items = one_an_example(items, self.n, "items")
        self.groups: tuple[Any, ...] | None = None
        self.origin: str | None = None
        self.chosen_params = params
        leaves, self.state_tree = flatten(state)
        self.state_leaves = [number_leaf(leaf, name) for leaf, name in zip(leaves, self.state_names, strict=True)]
        self.circuits: list[Circuit] = []
        self.schedule = self.traced(step)
        self.executables: dict[Any, Executable] = {}
        check_run_indices(self)

    @property
    def state_names(self) -> list[str]:
        """A path for each leaf of the state."""
        return self.state_tree.names("state")

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.batches)

    @cached_property
    def size(self) -> int:
        """size(A): the sum of the sizes of the steps' circuits."""
        counts = np.bincount(self.schedule.program, minlength=len(self.circuits))
        return sum(int(count) * circuit.size for count, circuit in zip(counts, self.circuits, strict=True))

    def params(self, state: Any) -> Any:
        """The trained parameters in a state."""
        if self.chosen_params is not None:
            return call(self.chosen_params, "params", state)
        return trained_params(state)

    def traced(self, step: Callable[[Any, Any, Any], Any]) -> Schedule:
        """One circuit for every kind of step (the shapes of what it reads), and the schedule."""
        kinds: dict[Any, int] = {}
        program, data, ids = [], [], []
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
            data += [a.ravel() for a in arrays]
            ids.append(examples)
            data_start.append(data_start[-1] + sum(a.size for a in arrays))
            ids_start.append(ids_start[-1] + len(examples))
        return Schedule(
            np.array(program, dtype=np.int64),
            np.concatenate(data) if data else np.zeros(0),
            np.array(data_start, dtype=np.int64),
            np.concatenate(ids),
            np.array(ids_start, dtype=np.int64),
        )

    def step_circuit(self, step: Callable[[Any, Any, Any], Any], batch: Any, examples: int, t: int) -> Circuit:
        """The simplified circuit of a step, its result checked to be a state."""

        def ordered(*args: Any) -> Any:
            """The new state; its dicts may order their keys otherwise."""
            result = call(step, "step", *args)
            try:
                return unflatten(self.state_tree, leaves_like(self.state_tree, result))
            except InputError:
                return result

        circuit = traced(ordered, (self.state, batch, np.ones(examples)), "refuse", step)
        if circuit.out_tree != self.state_tree:
            raise InputError(
                f"step {t} returns leaves {list(circuit.output_names)}, and the state has {self.state_names}; return a "
                "state of the same structure"
            )
        for wire, leaf, name in zip(circuit.outputs, self.state_leaves, self.state_names, strict=True):
            if circuit.nodes[wire].shape != leaf.shape:
                raise ShapeError(
                    f"step {t} returns {name} of shape {circuit.nodes[wire].shape}; the state has shape {leaf.shape}"
                )
        return simplify(circuit)

    def data_of(self, t: int) -> list[np.ndarray]:
        """What step t reads, the leaves of its batch."""
        circuit = self.circuits[self.schedule.program[t]]
        at = int(self.schedule.data_start[t])
        found = []
        for wire in circuit.inputs[len(self.state_leaves) : -1]:
            shape = circuit.nodes[wire].shape
            count = int(np.prod(shape, dtype=np.int64))
            found.append(self.schedule.data[at : at + count].reshape(shape))
            at += count
        assert at == self.schedule.data_start[t + 1]
        return found

    def varying(self, values: bool = False) -> tuple[int, ...]:
        """The positions of the state leaves that depend on the weights (`values`: through comparisons too)."""
        found: set[int] = set()
        while True:
            before = len(found)
            for circuit in self.circuits:
                reached = {circuit.inputs[i] for i in found} | {circuit.inputs[-1]}
                for wire, node in enumerate(circuit.nodes):
                    if any(i in reached for i in node.operands) and (values or not node.gate.flat):
                        reached.add(wire)
                found |= {i for i, wire in enumerate(circuit.outputs) if wire in reached}
            if len(found) == before:
                return tuple(sorted(found))

    def executable(
        self,
        mode: Mode,
        dtype: Any = np.complex128,
        width: int | None = None,
        device: str = "cpu",
        lanes: int = 1,
    ) -> Executable:
        """The run linked for a mode and a device, there for about so many lanes; made once."""
        target = target_for(mode, dtype, width, device, lanes)
        if target not in self.executables:
            count = len(self.state_leaves)
            varying = self.varying(mode.values) if mode.components else ()
            carry = {i: i for i in range(count)}
            self.executables[target] = build(self.circuits, target, varying, count, carry, has_keep=True)
        return self.executables[target]

    def train(self) -> Any:
        """Plain training: the final state.

        Raises
        ------
        DivergenceError : naming the step and the gate after which a value was not finite.
        """
        return self.trained(np.zeros(self.n))

    def trained(self, w: np.ndarray) -> Any:
        """The final state with downweights w (n,)."""
        arena = self.executable(Mode(0)).arena()
        arena.set_state(self.state_leaves)
        bad = arena.run(self.schedule, 0, self.steps, w, watch=True)
        if bad >= 0:
            from circuitsketch.training.health import explain_divergence

            raise explain_divergence(self, bad, w)
        return unflatten(self.state_tree, arena.state())

    @within_memory("retraining", "fewer subsets at a time", "threads=1")
    def retrain(self, without: Any, threads: int | None = None, *, device: str = "cpu") -> Any:
        """Training again with other weights: the truth that predictions are checked against.

        Parameters
        ----------
        without : ids to delete, a mask, or downweights (n,) (1 deletes, 0.5 halves, -1 doubles); a group's label, if it
            is a string; a function of an item; or many: a list of subsets, or a 2-D mask or array of downweights
            (subsets, n). Many are trained together, subsets as lanes.
        device : "cpu", or "cuda", which is for many subsets.

        Raises
        ------
        DivergenceError : naming the step and the gate after which a value was not finite.
        DeviceError : there is no GPU, or its memory does not hold a single block.

        Returns
        -------
        the final state; for many subsets a state whose leaves are (subsets, *shape).

        >>> import numpy as np, circuitsketch as cs
        >>> step = lambda s, x, keep: s + keep.sum() * x
        >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0], [[0], [1]])
        >>> run.retrain(without=[[0], [1]])
        array([10.,  1.])
        """
        thread_count(threads, 1)
        found = downweights_of(without, self.n, self.labels, self.items)
        many = found.ndim == 2
        if check_device(device) == "cpu" and not many:
            return self.trained(found)
        weights = np.atleast_2d(found)
        states = len(weights) * sum(leaf.size for leaf in self.state_leaves)
        require_memory(8 * states, f"the trained states of {len(weights):,} subsets", ["fewer subsets at a time"])
        executable = self.executable(Mode(0, complex=False, values=True), device=device, lanes=len(weights))
        width = executable.target.width
        leaves = [np.zeros((len(weights), *leaf.shape)) for leaf in self.state_leaves]

        def blocks(begins: range) -> Iterator[None]:
            arena = executable.arena(len(begins))
            arena.set_state(self.state_leaves)
            packed = np.zeros((len(begins), self.n, 1, width))
            for block, begin in enumerate(begins):
                rows = weights[begin : begin + width]
                packed[block, :, 0, : len(rows)] = rows.T
            yield from arena.slices(self.schedule, np.zeros(self.n), packed)
            for block, begin in enumerate(begins):
                collect(arena, leaves, begin, block)

        in_blocks(blocks, len(weights), executable, threads, self.n)
        for row, w in enumerate(weights):
            if not all(np.all(np.isfinite(leaf[row])) for leaf in leaves):
                self.trained(w)  # raises, with step and gate
                raise DivergenceError(f"retraining subset {row} left the finite numbers")
        return unflatten(self.state_tree, leaves if many else [leaf[0] for leaf in leaves])

    def grouped(self, labels: Sequence[Any]) -> Training:
        """The same run with one weight a group of examples: its examples are the groups, in order of appearance.

        Parameters
        ----------
        labels : (n,) hashables, the group of each example.

        Returns
        -------
        Training with n = the number of groups, and the groups' labels as its labels and items. Circuits and compiled
        code are shared.

        >>> import numpy as np, circuitsketch as cs
        >>> run = cs.Training(lambda s, x, keep: s + keep[0] * x, np.zeros(()), [1.0, 10.0, 100.0], [[0], [1], [2]])
        >>> pairs = run.grouped(["a", "b", "a"])
        >>> pairs.n, pairs.labels, float(pairs.retrain(without=[0]))
        (2, ('a', 'b'), 10.0)
        """
        checked = check_labels(labels, self.n, "groups")
        if checked is None:
            raise InputError(f"groups are {self.n} labels, one an example, not None")
        numbers = {label: number for number, label in enumerate(dict.fromkeys(checked))}
        member = np.array([numbers[label] for label in checked], dtype=np.int64)
        found = copy(self)
        found.n, found.labels, found.items, found.groups = len(numbers), tuple(numbers), tuple(numbers), checked
        found.examples = [member[ids] for ids in self.examples]
        found.schedule = replace(self.schedule, ids=member[self.schedule.ids])
        return found

    def _repr_html_(self) -> str:
        numbers = sum(leaf.size for leaf in self.state_leaves)
        about = (("labels", self.labels), ("items", self.items))
        return table(
            f"training of {self.steps:,} steps on {self.n:,} {'examples' if self.groups is None else 'groups'}",
            [
                ("size(A)", f"{self.size:,} scalar gates"),
                ("circuits", f"{len(self.circuits):,}, one a shape of batch"),
                ("state", f"{numbers:,} numbers in {len(self.state_leaves)} leaves: {some(self.state_names)}"),
                *((name, some(values)) for name, values in about if values is not None),
            ],
        )

    def __dir__(self) -> list[str]:
        return completed(self, PUBLIC)

    def __repr__(self) -> str:
        return f"<Training of {self.steps} steps on {self.n} examples, size(A) = {self.size:,}>"


def check_step(step: Any) -> None:
    """InputError for a step that cannot be called as one is."""
    try:
        signature(step).bind("state", "batch", "keep")
    except TypeError as reason:
        raise InputError(f"a step is a function of (state, batch, keep): {reason}") from None
    except ValueError:  # what is not written in Python may have no signature
        pass


def trained_params(state: Any) -> Any:
    """What measurements see of a state: its "params", or all of it where it has none."""
    return state["params"] if isinstance(state, dict) and "params" in state else state


def collect(arena: Arena, leaves: list[np.ndarray], begin: int, block: int) -> None:
    """Copy a block's final values into rows begin.. of the leaves."""
    constants = arena.state()
    for i, leaf in enumerate(leaves):
        rows = leaf[begin : begin + arena.executable.target.width]
        if arena.executable.state_lane[i] < 0:
            rows[...] = constants[i]
        else:
            lanes = arena.lane_view(0, arena.executable.tapes[0].inputs[i], block)[..., 0, : len(rows)]
            rows[...] = np.moveaxis(lanes, -1, 0)


def number_leaf(leaf: Any, name: str) -> np.ndarray:
    """A leaf as float64, refused if it is not finite real numbers."""
    array = real_array(leaf, name)
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name} holds NaN or infinity; clean the data before training")
    return array


def one_a_step(values: Any, name: str) -> list[Any]:
    """A list with an entry for every step."""
    if isinstance(values, np.ndarray):
        values = plain_array(values, name)
    return as_list(values, name, "one entry a step")


def example_ids(given: Sequence[Any], steps: int) -> list[np.ndarray]:
    """The ids of every step as arrays."""
    examples = one_a_step(given, "examples")
    if len(examples) != steps:
        raise InputError(f"{steps} batches and {len(examples)} lists of examples; give one list of ids a step")
    if steps == 0:
        raise InputError("a training run needs at least one step")
    found = []
    for t, ids in enumerate(examples):
        try:
            array = plain_array(ids, f"examples[{t}]")
        except InputError as reason:
            raise InputError(f"examples[{t}] must be a list of integer ids: {reason}") from None
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            found_kind = f"shape {array.shape} dtype {array.dtype}"
            raise InputError(f"examples[{t}] must be a list of integer ids, not {found_kind}")
        if np.any(array < 0):
            raise InputError(f"examples[{t}] has the id {array.min()}; ids are 0, 1, ...")
        found.append(array.astype(np.int64))
    return found


def example_count(examples: list[np.ndarray], n: int | None) -> int:
    """n, checked against the ids that occur."""
    largest = max((int(ids.max()) for ids in examples if ids.size), default=-1)
    if largest < 0:
        raise InputError("no step reads an example's weight; give each step the ids of its examples")
    if n is None:
        return largest + 1
    if not is_int(n):
        raise InputError(f"n is the number of examples, a whole number, not {quoted(n)}")
    if n <= largest:
        step = next(t for t, ids in enumerate(examples) if ids.size and int(ids.max()) == largest)
        raise InputError(f"n = {n}, and step {step} reads example {largest}; ids must be below n")
    return int(n)
