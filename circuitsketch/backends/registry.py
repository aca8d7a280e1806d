"""The backends by name: "cpu" and "cuda". A backend's module is imported when it is first asked for.

In: a device's name. Out: its `Backend`, a `Target` for it, an `Executable` of circuits. A new backend is a module with
a BACKEND and a line in MODULES.
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
    """Where to compute: "cpu" or "cuda"."""
    return str(check_choice(device, "device", tuple(MODULES)))


@cache
def get_backend(device: str) -> Backend:
    """The backend of a name."""
    made: Backend = import_module(MODULES[device]).BACKEND
    return made


def make_target(mode: Mode, dtype: Any, width: int | None = None, device: str = "cpu", lanes: int = 1) -> Target:
    """What to write code for, by a mode and the dtype of the coefficients; a GPU's also by the number of lanes."""
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
    """Lower circuits that share a state, and link them.

    Parameters
    ----------
    varying : positions of the state leaves that differ from lane to lane (the weights, the last input, always do).
    state_count : how many leading inputs are the state.
    carry : output position -> state position.
    has_keep : whether the last input holds the weights of a step's examples.
    """
    tapes = []
    for circuit in circuits:
        last = [len(circuit.inputs) - 1] if has_keep else []
        tapes.append(lower(circuit, [*varying, *last], target.mode, carry))
    return get_backend(target.device).link(tapes, target, state_count, has_keep)


def lane_width(single: bool) -> int:
    """Lanes of a CPU's vector, in single or double precision."""
    return get_backend("cpu").make_target(Mode(0), single, None, 1).width
