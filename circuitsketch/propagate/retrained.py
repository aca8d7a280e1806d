"""Models retrained on other weights, as lanes that share what their steps share, and measurements of them.

In: a run and rows of downweights, such as one for every example alone. Out: the final states, in lane blocks, or what a
measurement is of each. The steps before a block's first changed weight are the plain run's, so the block begins there,
from the state that the plain run has: where rows are ordered by their first step, that halves the cost of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from circuitsketch.backends.contract import Executable, Schedule
from circuitsketch.backends.lane_blocks import run_blocks
from circuitsketch.backends.registry import build, make_target
from circuitsketch.circuit import Circuit
from circuitsketch.errors import DivergenceError
from circuitsketch.frontends.remembered import Traced, traces_remembered
from circuitsketch.gates import cells
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import first_step, pack_directions, steps_from
from circuitsketch.propagate.coefficients import PropagatedRun, value_shape, values_of
from circuitsketch.propagate.kept_lanes import KeptModels
from circuitsketch.propagate.progress import Progress
from circuitsketch.propagate.resumption import Saver, group_by_step
from circuitsketch.store.checkpoints import Checkpoints
from circuitsketch.store.fingerprint import digest
from circuitsketch.store.kept_arrays import KeptArrays
from circuitsketch.training.training import Training
from circuitsketch.tree import LEAF
from circuitsketch.workers.distribution import distribute, group_for_workers, handle_in_threads

VALUES = Mode(0, complex=False, values=True)
Rows = Callable[[int, int], np.ndarray]  # (start, stop) -> those rows of downweights, (stop - start, n)


class States:
    """The states of a run on some downweights, by default the plain run, step by step.

    `at(step)` is cheap for steps that do not decrease.
    """

    def __init__(self, run: Training, weights: np.ndarray | None = None) -> None:
        self.run, self.step, self.lock = run, 0, Lock()
        self.arena = run.executable(Mode(0)).allocate_arena()
        self.arena.set_state(run.state_leaves)
        self.weights = np.zeros(run.n) if weights is None else weights

    def at(self, step: int) -> list[np.ndarray]:
        """Return the leaves of the state before a step."""
        with self.lock:
            if step < self.step:
                self.step = 0
                self.arena.set_state(self.run.state_leaves)
            self.arena.run(self.run.schedule, self.step, step, self.weights)
            self.step = step
            return self.arena.get_state()


def retrain_blocks(
    run: Training,
    rows: Rows,
    count: int,
    take: Callable[[int, Any], None],
    *,
    blocks: set[int] | None = None,
    dtype: Any = np.complex128,
    width: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    executor: Executor | None = None,
    read: Callable[[int, np.ndarray], Any] | None = None,
    plain: States | None = None,
    take_threads: int = 1,
) -> Executable:
    """Retrain with each of some rows of downweights.

    Parameters
    ----------
    run : Training
    rows : callable
        `rows(start, stop)` -> rows start, ..., stop - 1 of the downweights, (stop - start, n).
    count : int
        The number of rows.
    take : callable
        Called with a block's number and its lanes (elements of the varying state, 1, width), or what is read of them;
        several threads may call.
    blocks : set of int, optional
        The blocks to compute, by default all.
    dtype, width, threads, device, executor :
        As for `push_blocks`.
    progress : callable, optional
        Called with (blocks done, blocks).
    checkpoints : Checkpoints, optional
        Where blocks are kept that take long and are not finished.
    read : callable, optional
        `read(block, lanes)` -> what `take` gets; called where the lanes are, and pickled for workers.
    plain : States, optional
        The run's, if they are at hand.
    take_threads : int
        How many threads call `take` with what workers return.

    Returns
    -------
    Executable
        The executable, which says where each leaf of the state lies in a lane block.

    Raises
    ------
    DivergenceError
        A value is not finite; it names the step and the gate.
    """
    executable = run.executable(VALUES, dtype, width, device, count)
    width = executable.target.width
    plain = plain or States(run)
    remaining = [b for b in range(-(-count // width)) if blocks is None or b in blocks]
    done, lock = [0], Lock()

    def retrain_some(some: range) -> Iterator[None]:
        group = [remaining[i // width] for i in some]
        for step, part, saved in group_by_step(group, checkpoints, executable, run.state_leaves):
            yield from retrain_from(step, part, saved)

    def retrain_from(first: int, group: list[int], saved: list[list[np.ndarray]]) -> Iterator[None]:
        arena = executable.allocate_arena(len(group))
        saver = Saver(checkpoints, arena, group)
        weights = [rows(b * width, min((b + 1) * width, count)) for b in group]
        packed = np.stack([pack_directions(part, width, False) for part in weights])
        if first:
            saver.load(saved)
        else:
            first = min(first_step(run, block) for block in packed)
            arena.set_state(plain.at(first))

        def save(step: int, _: int) -> None:
            saver.save(first + step, run.steps)

        yield from arena.run_in_slices(steps_from(run.schedule, first), plain.weights, packed, report=save)
        for i, block in enumerate(group):
            lanes = arena.get_lane_state(i)
            bad = np.flatnonzero(~np.isfinite(lanes[..., : len(weights[i])]).all(axis=(0, 1)))
            if bad.size:
                run.train_with(weights[i][bad[0]])  # raises, with step and gate
                raise DivergenceError(
                    f"retraining diverged for row {block * width + bad[0]} of the downweights; lower the learning rate"
                    + ", or use dtype='float64', in which it is finite" * executable.target.single
                )
            take(block, lanes.copy() if read is None else read(block, lanes))
        with lock:
            done[0] += len(group)
            if progress is not None:
                progress(done[0], len(remaining))

    if remaining and executor is not None:
        groups = group_for_workers(remaining, threads or 1, executor)
        options = (count, np.dtype(dtype), width, threads or 1)
        tasks = (
            (list(group), [rows(b * width, min((b + 1) * width, count)) for b in group], *options) for group in groups
        )
        nbytes = 8 * len(groups[0]) * width * (executable.lane_state_cells + run.n)

        def take_models(models: dict[int, Any]) -> None:
            for block, model in models.items():
                take(block, model)

        results = distribute(executor, retrain_task, [run.for_workers(), read], tasks, nbytes)
        for models in handle_in_threads(results, take_models, take_threads):
            done[0] += len(models)
            if progress is not None:
                progress(done[0], len(remaining))
    elif remaining:
        run_blocks(retrain_some, len(remaining) * width, executable, threads, run.n)
    return executable


plain_states: WeakKeyDictionary[Training, States] = WeakKeyDictionary()  # of a worker's runs


def retrain_task(
    run: Training,
    read: Callable[[int, np.ndarray], Any] | None,
    group: list[int],
    rows: list[np.ndarray],
    count: int,
    dtype: Any,
    width: int,
    threads: int,
) -> dict[int, Any]:
    """Retrain with the rows of some blocks, as a task of a worker; return their lanes, or what is read of them."""
    by_block = dict(zip(group, rows, strict=True))
    models: dict[int, Any] = {}

    def take(block: int, model: Any) -> None:
        models[block] = model

    if run not in plain_states:
        plain_states[run] = States(run)

    retrain_blocks(
        run,
        lambda start, stop: by_block[start // width],
        count,
        take,
        blocks=set(group),
        dtype=dtype,
        width=width,
        threads=threads,
        read=read,
        plain=plain_states[run],
        checkpoints=read.checkpoints if isinstance(read, KeptModels) else None,
    )
    return models


class LaneMeasurement:
    """A measurement of models that lie in lanes.

    Parameters
    ----------
    circuit : Circuit
        From the state to the measured values.
    state : sequence of ndarray
        The plain run's final state, by leaf; leaves that no weight changes are the same in all models.
    varying : sequence of int
        The positions of the other leaves.
    width : int
        Lanes per block. They are measured in double precision, also those that were trained in single precision.
    """

    def __init__(
        self,
        circuit: Circuit,
        state: Sequence[np.ndarray],
        varying: Sequence[int],
        width: int,
    ) -> None:
        target = make_target(VALUES, np.complex128, width)
        self.executable = build([circuit], target, tuple(varying), len(circuit.inputs), {}, has_keep=False)
        self.state = state

    def __call__(self, lanes: np.ndarray) -> np.ndarray:
        """Return the values of the models in a lane block, (width, values)."""
        arena = self.executable.allocate_arena()
        arena.set_state(self.state)
        arena.set_lane_state(0, lanes)
        arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
        columns = []
        for layout in self.executable.tapes[0].outputs:
            if layout.buffer in self.executable.placements[0].lane:
                view = arena.view_lanes(0, layout)[..., 0, :]
            else:
                view = np.broadcast_to(arena.view_constant(0, layout)[..., None], (*layout.shape, lanes.shape[-1]))
            columns.append(view.reshape(cells(layout.shape), -1).T)
        return np.concatenate(columns, axis=1)


class LaneFunction:
    """A function of models that lie in lanes, called for each: for measurements that no circuit expresses.

    Parameters
    ----------
    function : callable
        From the leaves of a state to values, (values,).
    state : sequence of ndarray
        The plain run's final state, by leaf.
    offsets : sequence of int
        Where each leaf begins in a lane; negative for leaves that are the same in all models.
    """

    def __init__(
        self, function: Callable[[list[np.ndarray]], np.ndarray], state: Sequence[np.ndarray], offsets: Sequence[int]
    ) -> None:
        self.function, self.state, self.offsets = function, state, offsets
        self.traces: dict[Hashable, Traced] = {}

    def __call__(self, lanes: np.ndarray) -> np.ndarray:
        """Return the values of the models in a lane block, (width, values)."""
        rows = []
        with traces_remembered(self.traces):
            for model in lanes[:, 0].T:
                leaves = [
                    np.array(leaf) if at < 0 else model[at : at + leaf.size].reshape(leaf.shape).astype(leaf.dtype)
                    for leaf, at in zip(self.state, self.offsets, strict=True)
                ]
                rows.append(self.function(leaves))
        return np.stack(rows)


@dataclass(eq=False)
class ModelReader:
    """Reads the measured values of the models in a lane block, and how far their final states are from the plain run's.

    Attributes
    ----------
    measurement, state, varying, width, offsets : as for `LaneMeasurement` and `LaneFunction`.
    count : the number of models.
    """

    measurement: Circuit | Callable[[list[np.ndarray]], np.ndarray]
    state: Sequence[np.ndarray]
    varying: Sequence[int]
    offsets: Sequence[int]
    width: int
    count: int

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: no container of the user's, and no compiled code."""
        assert isinstance(self.measurement, Circuit)
        flat = replace(self.measurement, in_tree=LEAF, out_tree=LEAF)
        names = ("state", "varying", "offsets", "width", "count")
        return {name: getattr(self, name) for name in names} | {"measurement": flat}

    @cached_property
    def measure(self) -> LaneMeasurement | LaneFunction:
        """The measurement of lanes, compiled if it is a circuit."""
        if isinstance(self.measurement, Circuit):
            return LaneMeasurement(self.measurement, self.state, self.varying, self.width)
        return LaneFunction(self.measurement, self.state, self.offsets)

    @cached_property
    def plain(self) -> np.ndarray:
        """The varying part of the plain run's final state, as a vector."""
        return np.concatenate([np.ravel(self.state[i]) for i in self.varying]) if self.varying else np.zeros(0)

    def __call__(self, block: int, lanes: np.ndarray) -> np.ndarray:
        """Return the values and the 2-norm of the difference of the state, (models, values + 1)."""
        size = min(self.width, self.count - block * self.width)
        distances = np.linalg.norm(lanes[:, 0, :size] - self.plain[:, None], axis=0)
        return np.column_stack([self.measure(lanes)[:size], distances])


class RetrainedModels(PropagatedRun):
    """Models that were trained without one example each: lanes hold their final states, in the order of a basis."""

    def measured_bytes(self, circuit: Circuit) -> int:
        """Return the bytes that `measured` takes."""
        return 8 * self.count * values_of(circuit)

    def measured(self, circuit: Circuit, device: str = "cpu") -> np.ndarray:
        """Return the measurement of each model, (n, *shape), by example; leaves of a pytree are concatenated."""
        varying = [i for i, at in enumerate(self.state_lane) if at >= 0]
        measurement = LaneMeasurement(circuit, self.constants, varying, self.target.width)
        values = np.zeros((self.count, values_of(circuit)))
        for block in range(-(-self.count // self.target.width)):
            rows = self.rows(block * self.target.width, min(self.target.width, self.count - block * self.target.width))
            values[rows] = measurement(self.lanes[block])[: len(values[rows])]
        return values.reshape(self.count, *value_shape(circuit))


def measure_retrained(
    run: Training,
    measurement: Circuit | Callable[[list[np.ndarray]], np.ndarray],
    state: Sequence[np.ndarray],
    rows: Rows,
    count: int,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    width: int | None = None,
    kept: KeptArrays | None = None,
    executor: Executor | None = None,
    dtype: Any = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Retrain with rows of downweights, and measure each model.

    Parameters
    ----------
    measurement, state : a circuit, as for `LaneMeasurement`, or a function, as for `LaneFunction`, which workers do not
        call, and the plain run's final state.
    run, rows, count, threads, progress, width, executor, dtype : as for `retrain_blocks`.
    kept : KeptArrays, optional
        Where blocks are kept as they are finished; those that are there already are not computed again.

    Returns
    -------
    values : (count, values), of the measurement.
    distances : (count,), the 2-norm of the difference between the final state and the plain run's.
    """
    varying = run.varying(values=True)
    executable = run.executable(VALUES, dtype, lanes=count, width=width)
    width = executable.target.width
    read = ModelReader(measurement, state, varying, executable.state_lane, width, count)
    if isinstance(measurement, Circuit):
        columns = sum(cells(measurement.nodes[wire].shape) for wire in measurement.outputs)
    else:
        columns = len(measurement(list(state)))
    is_read_by_workers = executor is None or isinstance(measurement, Circuit)
    values, distances = np.zeros((count, columns)), np.zeros(count)

    def part_of(block: int) -> slice:
        return slice(block * width, min((block + 1) * width, count))

    @cache
    def name_of(block: int) -> str:
        part = part_of(block)
        single = ["float32"] * executable.target.single  # work in another precision is other work
        return f"retrained-{digest([rows(part.start, part.stop), width, *single])[:32]}"

    def take(block: int, models: np.ndarray) -> None:
        part = part_of(block)
        models = models if is_read_by_workers else read(block, models)
        values[part], distances[part] = models[:, :-1], models[:, -1]
        if kept is not None:
            kept.write(name_of(block), models)
            kept.checkpoints(name_of).remove(block)

    remaining = set(range(-(-count // width)))
    for block in sorted(remaining):
        part = part_of(block)
        shape = (part.stop - part.start, values.shape[1] + 1)
        known = None if kept is None else kept.read(name_of(block), shape)
        if known is not None:
            values[part], distances[part] = known[:, :-1], known[:, -1]
            remaining.discard(block)
    retrain_blocks(
        run,
        rows,
        count,
        take,
        blocks=remaining,
        dtype=dtype,
        width=width,
        threads=threads,
        progress=progress,
        checkpoints=None if kept is None else kept.checkpoints(name_of),
        executor=executor,
        read=read if is_read_by_workers else None,
    )
    return values, distances
