"""The backends by name: "cpu" and "cuda". A backend's module is imported when it is first needed.

In: a device's name. Out: its `Backend`, a `Target`, an `Executable` of circuits. A new backend is a module that defines
BACKEND, and a line in MODULES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from circuitsketch.arguments import check_choice
from circuitsketch.arrays import check_dtype
from circuitsketch.backends.contract import Backend, Executable, Target
from circuitsketch.circuit import Circuit
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.tape import lower

MODULES = {"cpu": "circuitsketch.backends.cpu.backend", "cuda": "circuitsketch.backends.cuda.backend"}
DEFAULT_DEVICE = "cpu"  # stored sketches name their device only if it is another


def check_device(device: Any) -> str:
    """Return a valid device name, "cpu" or "cuda", or raise InputError."""
    return str(check_choice(device, "device", tuple(MODULES)))


@cache
def get_backend(device: str) -> Backend:
    """Return the backend of a name."""
    result: Backend = import_module(MODULES[device]).BACKEND
    return result


def make_target(mode: Mode, dtype: Any, width: int | None = None, device: str = "cpu", lanes: int = 1) -> Target:
    """Return the target for a mode and a dtype of coefficients; on a GPU it depends on the number of lanes too."""
    single = check_dtype(dtype).name in ("complex64", "float32")
    return get_backend(check_device(device)).make_target(mode, single, width, lanes)


def build(
    circuits: Sequence[Circuit],
    target: Target,
    varying: Sequence[int],
    state_count: int,
    carry: Mapping[int, int],
    has_keep: bool,
) -> Executable:
    """Lower circuits that share a state, and link them to an executable.

    Parameters
    ----------
    circuits : sequence of Circuit
        Their first `state_count` inputs are the same state.
    target : Target
        What to generate code for.
    varying : sequence of int
        The positions of the state leaves that differ from lane to lane. The weights, the last input, always do.
    state_count : int
        The number of state leaves.
    carry : mapping of int to int
        Output position -> position of the state leaf that it becomes in the next step.
    has_keep : bool
        Whether the last input holds the weights of a step's examples.
    """
    tapes = []
    for circuit in circuits:
        last = [len(circuit.inputs) - 1] if has_keep else []
        tapes.append(lower(circuit, [*varying, *last], target.mode, carry))
    return get_backend(target.device).link(tapes, target, state_count, has_keep)


def lane_width(single: bool) -> int:
    """Return the number of lanes in a vector of this CPU, in single or double precision."""
    return get_backend("cpu").make_target(Mode(0), single, None, 1).width
