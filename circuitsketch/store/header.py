"""What a stored sketch says about itself: which run, which directions, how its lane blocks lie.

In: numbers known before the first block is pushed. Out: `Header`, its plain JSON form and back, the digest that ties
blocks to their sketch, and in words how two headers differ. Files are left to `sketch.store`.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import llvmlite
import numba
import numpy as np

from circuitsketch.arguments import LARGEST, quoted
from circuitsketch.errors import InputError
from circuitsketch.gates import cells

FORMAT = "circuitsketch"
MAX_AXES = 64  # of a NumPy array
VERSION = 1


@dataclass(frozen=True)
class Leaf:
    """A leaf of the state: its name and shape, and whether it varies with the weights, so that lanes hold it."""

    name: str
    shape: tuple[int, ...]
    varies: bool


@dataclass(frozen=True, eq=False)
class Header:
    """All that is known of a sketch before it is pushed.

    Attributes
    ----------
    law, seed : where the directions come from; seed None for laws without one. n : the number of examples.
    directions : how many are wanted; the only thing that `Store.extend` changes.
    order : the highest coefficient, 1 or more. is_complex : complex directions, or real ones.
    dtype : "float64" or "float32", of the lanes. width : lanes in a block.
    steps, size : of the run; size is size(A).
    leaves : of the state, in order; lanes hold those that vary, one after the other.
    fingerprint : digests by part, as from `sketch.fingerprint`.
    at : the point of expansion, downweights (n,); None (and zeros, which become None) is the run as it was.
    given : what no seed brings back: (directions, n), the directions of law "given"; (n,), whose those of "basis" are.

    Raises
    ------
    InputError : for numbers that cannot be.
    """

    law: str
    n: int
    seed: int | None
    directions: int
    order: int
    is_complex: bool
    dtype: str
    width: int
    steps: int
    size: int
    leaves: tuple[Leaf, ...]
    fingerprint: Mapping[str, str]
    at: np.ndarray | None = None
    given: np.ndarray | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.law, str) and self.law != "", f"a law has a name, not {self.law!r}")
        for name, low in (("n", 1), ("directions", 1), ("order", 1), ("width", 1), ("steps", 1), ("size", 0)):
            highest = math.inf if name == "size" else LARGEST
            object.__setattr__(self, name, check_int(getattr(self, name), name, low, highest))
        if self.seed is not None:
            object.__setattr__(self, "seed", check_int(self.seed, "seed", 0, 2**64 - 1))
        require(isinstance(self.is_complex, bool), f"is_complex is True or False, not {self.is_complex!r}")
        require(self.dtype in ("float64", "float32"), f"lanes are float64 or float32, not {self.dtype!r}")
        for leaf in self.leaves:
            require(isinstance(leaf.name, str), f"a leaf's name is a string, not {leaf.name!r}")
            require(isinstance(leaf.varies, bool), f"a leaf varies or not, which is not {leaf.varies!r}")
            require(isinstance(leaf.shape, tuple), f"a leaf's shape is a tuple, not {leaf.shape!r}")
            require(len(leaf.shape) <= MAX_AXES, f"a leaf has {len(leaf.shape)} axes, more than an array can have")
            for extent in leaf.shape:
                check_int(extent, f"an extent of {leaf.name!r}", 0)
            require(
                math.prod(extent or 1 for extent in leaf.shape) <= LARGEST,
                f"a leaf has the shape {leaf.shape}, larger than an array can be",
            )
        require(self.elements > 0, "no leaf of the state varies, so there is nothing to store")
        require(len(self.fingerprint) > 0, "a sketch needs its run's fingerprint")
        for part, found in self.fingerprint.items():
            sha = isinstance(part, str) and isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found)
            require(bool(sha), f"a fingerprint's parts are sha256 digests, and {part!r} is {found!r}")
        object.__setattr__(self, "at", self.check_vector("at", self.at, (self.n,), real=True))
        basis = self.law == "basis"
        shape = (self.directions,) if basis else (self.directions, self.n)
        object.__setattr__(self, "given", self.check_vector("given", self.given, shape, real=basis))
        require(
            (self.given is not None) == (self.law in ("given", "basis")),
            "directions are stored for the laws 'given' and 'basis', and for no other",
        )
        if basis:
            require(self.directions == self.n, f"a basis of {self.n} examples has {self.directions} directions")
            require(np.array_equal(np.sort(self.given), np.arange(self.n)), "a basis has every example once")  # type: ignore[arg-type]
        if self.at is not None and not self.at.any():
            object.__setattr__(self, "at", None)

    def check_vector(self, name: str, array: Any, shape: tuple[int, ...], real: bool = False) -> np.ndarray | None:
        """An array over the examples as float64 or complex128, a copy; None stays None."""
        if array is None:
            return None
        array = np.asarray(array)
        require(array.dtype.kind in ("fiub" if real else "fiubc"), f"{name} has dtype {array.dtype}; give numbers")
        require(array.shape == shape, f"{name} has shape {array.shape}; give {shape}")
        return np.array(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64)

    @property
    def blocks(self) -> int:
        """How many lane blocks there are."""
        return -(-self.directions // self.width)

    @property
    def elements(self) -> int:
        """Numbers of the state that vary."""
        return sum(cells(leaf.shape) for leaf in self.leaves if leaf.varies)

    @property
    def constant_cells(self) -> int:
        """Numbers of the state."""
        return sum(cells(leaf.shape) for leaf in self.leaves)

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """(elements, components, width) of a lane block."""
        return self.elements, self.order * (2 if self.is_complex else 1), self.width

    @property
    def block_bytes(self) -> int:
        """Bytes of a lane block."""
        return cells(self.block_shape) * np.dtype(self.dtype).itemsize

    def with_directions(self, directions: int) -> Header:
        """The same sketch with another number of directions."""
        return replace(self, directions=directions)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON; the arrays over the examples as their shape, dtype and digest."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "law": {"name": self.law, "n": self.n, "seed": self.seed},
            "directions": self.directions,
            "order": self.order,
            "complex": self.is_complex,
            "dtype": self.dtype,
            "width": self.width,
            "steps": self.steps,
            "size": self.size,
            "leaves": self.leaves_to_json(),
            "fingerprint": dict(self.fingerprint),
            "at": None if self.at is None else describe_array(self.at),
            "given": None if self.given is None else describe_array(self.given),
        }

    def leaves_to_json(self) -> list[dict[str, Any]]:
        """The leaves with their offsets: the first element in the constants, and in the lanes if they vary."""
        found = []
        constant = lane = 0
        for leaf in self.leaves:
            where = {"constant_offset": constant, "lane_offset": lane if leaf.varies else None}
            found.append({"name": leaf.name, "shape": list(leaf.shape), **where})
            constant += cells(leaf.shape)
            lane += cells(leaf.shape) if leaf.varies else 0
        return found

    def identity(self) -> bytes:
        """32 bytes that tie a block to its sketch: a digest of everything but the number of directions."""
        plain = self.to_json()
        del plain["directions"]
        return hashlib.sha256(canonical(plain)).digest()

    def differences(self, other: Header) -> list[str]:
        """In words, how another sketch differs; the number of directions does not count.

        >>> from circuitsketch.store.header import Header, Leaf
        >>> one = Header("sphere", 10, 0, 8, 3, True, "float64", 8, 5, 99, (Leaf("w", (2,), True),), {"data": "0" * 64})
        >>> one.differences(replace(one, seed=1, directions=16))
        ['seed 0, not 1']
        """
        found = []
        for name, word in (
            ("law", "law"),
            ("seed", "seed"),
            ("order", "order"),
            ("dtype", "dtype"),
            ("width", "lane width"),
            ("n", "n"),
            ("steps", "steps"),
        ):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                found.append(f"{word} {mine}, not {others}")
        kinds = {True: "complex directions", False: "real directions"}
        if self.is_complex != other.is_complex:
            found.append(f"{kinds[self.is_complex]}, not {kinds[other.is_complex]}")
        mine, others = self.to_json(), other.to_json()
        if mine["leaves"] != others["leaves"]:
            found.append("a state of other leaves")
        words = {
            "circuits": "other circuits (model, loss, optimiser, a gate of your own, or a number in them)",
            "data": "other data, or in another order",
            "state": "another first state",
            "device": "a CPU's blocks, or a GPU's: they differ by rounding",
        }
        for part in sorted(set(self.fingerprint) | set(other.fingerprint)):
            if self.fingerprint.get(part) != other.fingerprint.get(part):
                found.append(words.get(part, f"another fingerprint of {part}"))
        if mine["at"] != others["at"]:
            found.append("another point of expansion")
        if mine["given"] != others["given"] and self.law == other.law:
            found.append("other given directions")
        return found


def from_json(plain: dict[str, Any], at: np.ndarray | None, given: np.ndarray | None) -> Header:
    """The header of a JSON form, and of its arrays. KeyError, TypeError, InputError: where it is not one."""
    leaves = tuple(
        Leaf(leaf["name"], tuple(leaf["shape"]), leaf["lane_offset"] is not None) for leaf in plain["leaves"]
    )
    law = plain["law"]
    header = Header(
        law["name"], law["n"], law["seed"], plain["directions"], plain["order"], plain["complex"], plain["dtype"],
        plain["width"], plain["steps"], plain["size"], leaves, dict(plain["fingerprint"]), at, given,
    )  # fmt: skip
    if canonical(header.to_json()) != canonical({key: plain[key] for key in header.to_json()}):
        raise InputError("its parts contradict each other")
    return header


def describe_array(array: np.ndarray) -> dict[str, Any]:
    """Shape, dtype and sha256 of an array."""
    digest = hashlib.sha256(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "sha256": digest}


def canonical(plain: Any) -> bytes:
    """JSON in one way only: sorted keys, no spaces, ASCII."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def check_int(value: Any, name: str, low: int, high: float = LARGEST) -> int:
    """An int from `low` to `high`, or an InputError."""
    fine = isinstance(value, int | np.integer) and not isinstance(value, bool) and low <= int(value) <= high
    require(fine, f"{name} is an int from {low} to {high}, not {quoted(value)}")
    return int(value)


def require(fine: bool, complaint: str) -> None:
    """Refuse what cannot be."""
    if not fine:
        raise InputError(complaint)


def versions() -> dict[str, str]:
    """What computes here."""
    package = sys.modules[__name__.partition(".")[0]]
    packages = {module.__name__: module.__version__ for module in (np, numba, llvmlite)}
    return {"circuitsketch": package.__version__, **packages, "python": platform.python_version()}


def format_versions(found: Any) -> str:
    """Versions in words."""
    if not isinstance(found, dict) or not found:
        return "an unknown version"
    return ", ".join(f"{name} {version}" for name, version in found.items())
