"""Which leaves of the trained state a sketch keeps: by default those that measurements can read.

In: a run, and what a user asks to keep. Out: positions of leaves. A measurement is called with `run.params(state)`, so
the leaves that `params` reads are all that any measurement can; an optimiser's moments, often two thirds of the state,
are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from circuitsketch.arguments import quoted
from circuitsketch.display import list_some
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.training.training import Training


def leaves_of_params(run: Training) -> frozenset[int]:
    """Return the positions of the leaves that `run.params` reads; of all leaves where that cannot be traced, or where
    none of them has a series."""
    everything = frozenset(range(len(run.state_leaves)))
    try:
        circuit = traced(run.params, (run.state,), "allow")
    except (CircuitSketchError, LookupError, AttributeError, TypeError, ValueError):
        return everything  # it is called again, and its error shown, when something is measured
    needed = circuit.needed_for(circuit.outputs)
    read = frozenset(i for i, wire in enumerate(circuit.inputs) if wire in needed)
    return read if read.intersection(run.varying()) else everything


def choose_leaves(run: Training, keep: Any) -> frozenset[int]:
    """Return the positions of the leaves that a user asks to keep.

    Parameters
    ----------
    run : Training
    keep : str or sequence of str
        "params", "state", or paths of leaves or of parts of the state, as in `run.state_names`.

    Raises
    ------
    InputError
        A path is not one of the state, or no weight changes what is kept.
    """
    paths = [keep] if isinstance(keep, str) else keep
    if not isinstance(paths, list | tuple | set | frozenset) or not all(isinstance(path, str) for path in paths):
        raise InputError(f'keep is {quoted(keep)}; pass "params", {listed(run)}')
    chosen: set[int] = set()
    for path in paths:
        if path == "params":
            chosen |= leaves_of_params(run)
            continue
        below = {i for i, name in enumerate(run.state_names) if is_below(name, path)}
        if not below:
            raise InputError(f'keep contains {quoted(path)}, which is not in the state; pass "params", {listed(run)}')
        chosen |= below
    if chosen.isdisjoint(run.varying() or run.varying(values=True)):
        names = list_some([run.state_names[i] for i in run.varying()])
        raise InputError(
            f"keep is {quoted(keep)}, but the examples' weights do not change these leaves; they change {names}"
        )
    return frozenset(chosen)


def is_below(name: str, path: str) -> bool:
    """Return whether a leaf is at a path, or in the part of the state at it.

    >>> is_below("state.w.0", "state.w"), is_below("state.w", "state"), is_below("state.w2", "state.w")
    (True, True, False)
    """
    return name == path or (name.startswith(path) and name[len(path)] in ".[")


def listed(run: Training) -> str:
    """List what can be kept."""
    names: Sequence[str] = run.state_names
    return f'"state" for the whole state, or some of {", ".join(names)}'
