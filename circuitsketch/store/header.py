"""The header of a stored part: which run, which directions, and the layout of its lane blocks.

In: numbers known before the first block is computed. Out: `Header`, its JSON form and back, the digest that ties blocks
to their sketch, and the differences between two headers, in words. Files are left to `part_store`.
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
from circuitsketch.display import list_some
from circuitsketch.errors import InputError
from circuitsketch.gates import cells

FORMAT = "circuitsketch"
MAX_AXES = 64  # of a NumPy array
VERSION = 2  # of stores that do not keep all that varies; others have version 1, as they always had


@dataclass(frozen=True)
class Leaf:
    """A leaf of the state: name, shape, whether it varies with the weights, and whether its series is kept if so."""

    name: str
    shape: tuple[int, ...]
    varies: bool
    kept: bool = True

    @property
    def in_lanes(self) -> bool:
        """Whether lane blocks hold it."""
        return self.varies and self.kept


@dataclass(frozen=True, eq=False)
class Header:
    """Everything that is known about a part of a sketch before it is computed.

    Attributes
    ----------
    distribution, seed
        The distribution of the directions; seed is None where there is none.
    n
        The number of examples.
    directions
        The number requested; the only field that `PartStore.extend` changes.
    order
        The highest coefficient, 1 or more.
    is_complex
        Complex or real directions.
    dtype
        Of the lanes, "float64" or "float32".
    width
        Lanes per block.
    steps, size
        Of the run; size is size(A).
    leaves
        Of the state, in order; lanes hold those that vary and are kept, one after the other.
    fingerprint
        Digests by part, as returned by `store.fingerprint`.
    at
        The point of expansion, downweights (n,); None (to which zeros are converted) is the run as it was.
    given
        What a seed cannot reproduce: the directions of "given", (directions, n); the examples of "basis" and
        "retrained", whose lanes hold the models that were trained without each, (n,).

    Raises
    ------
    InputError
        A field is invalid.
    """

    distribution: str
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
        require(
            isinstance(self.distribution, str) and self.distribution != "",
            f"distribution must be a non-empty string, not {self.distribution!r}",
        )
        for name, low in (("n", 1), ("directions", 1), ("order", 1), ("width", 1), ("steps", 1), ("size", 0)):
            highest = math.inf if name == "size" else LARGEST
            object.__setattr__(self, name, check_int(getattr(self, name), name, low, highest))
        if self.seed is not None:
            object.__setattr__(self, "seed", check_int(self.seed, "seed", 0, 2**64 - 1))
        require(isinstance(self.is_complex, bool), f"is_complex must be True or False, not {self.is_complex!r}")
        require(self.dtype in ("float64", "float32"), f"dtype must be float64 or float32, not {self.dtype!r}")
        for leaf in self.leaves:
            require(isinstance(leaf.name, str), f"a leaf's name must be a string, not {leaf.name!r}")
            require(isinstance(leaf.varies, bool), f"a leaf's varies must be True or False, not {leaf.varies!r}")
            require(isinstance(leaf.kept, bool), f"a leaf's kept must be True or False, not {leaf.kept!r}")
            require(leaf.varies or leaf.kept, f"{leaf.name!r} has no series that could be left out")
            require(isinstance(leaf.shape, tuple), f"a leaf's shape must be a tuple, not {leaf.shape!r}")
            require(len(leaf.shape) <= MAX_AXES, f"a leaf has {len(leaf.shape)} axes; an array has at most {MAX_AXES}")
            for length in leaf.shape:
                check_int(length, f"a dimension of {leaf.name!r}", 0)
            require(
                math.prod(length or 1 for length in leaf.shape) <= LARGEST,
                f"a leaf has shape {leaf.shape}, which is larger than an array can be",
            )
        require(
            self.elements > 0,
            "the examples' weights change none of the leaves of the state that would be kept, so there is nothing to "
            "store",
        )
        require(len(self.fingerprint) > 0, "a sketch needs its run's fingerprint")
        for part, hexdigest in self.fingerprint.items():
            is_sha256 = isinstance(part, str) and isinstance(hexdigest, str) and re.fullmatch("[0-9a-f]{64}", hexdigest)
            require(bool(is_sha256), f"fingerprint[{part!r}] must be a sha256 digest, not {hexdigest!r}")
        object.__setattr__(self, "at", self.check_vector("at", self.at, (self.n,), real=True))
        basis = self.distribution in ("basis", "retrained")
        shape = (self.directions,) if basis else (self.directions, self.n)
        object.__setattr__(self, "given", self.check_vector("given", self.given, shape, real=basis))
        require(
            (self.given is not None) == (basis or self.distribution == "given"),
            "directions are stored for the distributions 'given', 'basis' and 'retrained' only",
        )
        if basis:
            require(self.directions == self.n, f"a basis of {self.n} examples has {self.directions} directions")
            require(np.array_equal(np.sort(self.given), np.arange(self.n)), "a basis has every example once")  # type: ignore[arg-type]
        if self.at is not None and not self.at.any():
            object.__setattr__(self, "at", None)

    def check_vector(self, name: str, array: Any, shape: tuple[int, ...], real: bool = False) -> np.ndarray | None:
        """Copy an array over the examples as float64 or complex128; None stays None."""
        if array is None:
            return None
        array = np.asarray(array)
        require(array.dtype.kind in ("fiub" if real else "fiubc"), f"{name} must be numeric, not {array.dtype}")
        require(array.shape == shape, f"{name} must have shape {shape}, not {array.shape}")
        return np.array(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64)

    @property
    def blocks(self) -> int:
        """The number of lane blocks."""
        return -(-self.directions // self.width)

    @property
    def elements(self) -> int:
        """The number of elements in a lane block: those of the leaves that vary and are kept."""
        return sum(cells(leaf.shape) for leaf in self.leaves if leaf.in_lanes)

    @property
    def constant_cells(self) -> int:
        """The number of elements of the state."""
        return sum(cells(leaf.shape) for leaf in self.leaves)

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """The shape of a lane block, (elements, components, width)."""
        return self.elements, self.order * (2 if self.is_complex else 1), self.width

    @property
    def block_bytes(self) -> int:
        """The size of a lane block in bytes."""
        return cells(self.block_shape) * np.dtype(self.dtype).itemsize

    def with_directions(self, directions: int) -> Header:
        """Return the header with another number of directions."""
        return replace(self, directions=directions)

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON values, arrays over the examples as their shape, dtype and digest."""
        return {
            "format": FORMAT,
            "version": 1 if all(leaf.kept for leaf in self.leaves) else VERSION,
            "law": {"name": self.distribution, "n": self.n, "seed": self.seed},
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
        """Return the leaves as JSON values, with the offsets of their first elements in constants and lanes.

        A leaf that is in no lanes has no offset there; if it varies, that is said.
        """
        leaves = []
        constant = lane = 0
        for leaf in self.leaves:
            where = {"constant_offset": constant, "lane_offset": lane if leaf.in_lanes else None}
            kept = {} if leaf.kept else {"kept": False}
            leaves.append({"name": leaf.name, "shape": list(leaf.shape), **where, **kept})
            constant += cells(leaf.shape)
            lane += cells(leaf.shape) if leaf.in_lanes else 0
        return leaves

    def identity(self) -> bytes:
        """Return the 32 bytes that tie a block to its sketch: a digest of all fields but the number of directions."""
        plain = self.to_json()
        del plain["directions"]
        return hashlib.sha256(canonical(plain)).digest()

    def differences(self, other: Header) -> list[str]:
        """Describe how another header differs; the number of directions does not count.

        >>> from circuitsketch.store.header import Header, Leaf
        >>> one = Header("sphere", 10, 0, 8, 3, True, "float64", 8, 5, 99, (Leaf("w", (2,), True),), {"data": "0" * 64})
        >>> one.differences(replace(one, seed=1, directions=16))
        ['seed 0, not 1']
        """
        differences = []
        for name, word in (
            ("distribution", "distribution"),
            ("seed", "seed"),
            ("order", "order"),
            ("dtype", "dtype"),
            ("width", "lane width"),
            ("n", "n"),
            ("steps", "steps"),
        ):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                differences.append(f"{word} {mine}, not {others}")
        kinds = {True: "complex directions", False: "real directions"}
        if self.is_complex != other.is_complex:
            differences.append(f"{kinds[self.is_complex]}, not {kinds[other.is_complex]}")
        mine, others = self.to_json(), other.to_json()
        if [(leaf.name, leaf.shape) for leaf in self.leaves] != [(leaf.name, leaf.shape) for leaf in other.leaves]:
            differences.append("different leaves of the state")
        elif mine["leaves"] != others["leaves"]:
            kept = list_some([leaf.name for leaf in self.leaves if leaf.in_lanes])
            differences.append(f"series of the leaves {kept} (keep=...), not of other leaves")
        words = {
            "circuits": "different circuits (the model, the loss, the optimiser, a user-defined gate, a constant)",
            "data": "different data, or the same data in a different order",
            "state": "a different initial state",
            "device": "a different device (results on a CPU and on a GPU differ by rounding)",
        }
        for part in sorted(set(self.fingerprint) | set(other.fingerprint)):
            if self.fingerprint.get(part) != other.fingerprint.get(part):
                differences.append(words.get(part, f"a different fingerprint of {part}"))
        if mine["at"] != others["at"]:
            differences.append("a different expansion point (at=...)")
        if mine["given"] != others["given"] and self.distribution == other.distribution:
            differences.append("different given directions")
        return differences


def from_json(plain: dict[str, Any], at: np.ndarray | None, given: np.ndarray | None) -> Header:
    """Build a header from its JSON form and its arrays. KeyError, TypeError, InputError: the form is invalid."""
    leaves = tuple(
        Leaf(leaf["name"], tuple(leaf["shape"]), leaf["lane_offset"] is not None or "kept" in leaf, "kept" not in leaf)
        for leaf in plain["leaves"]
    )
    distribution = plain["law"]
    header = Header(
        distribution["name"], distribution["n"], distribution["seed"],
        plain["directions"], plain["order"], plain["complex"], plain["dtype"],
        plain["width"], plain["steps"], plain["size"], leaves, dict(plain["fingerprint"]), at, given,
    )  # fmt: skip
    if canonical(header.to_json()) != canonical({key: plain[key] for key in header.to_json()}):
        raise InputError("its parts contradict each other")
    return header


def describe_array(array: np.ndarray) -> dict[str, Any]:
    """Return an array's shape, dtype and sha256."""
    digest = hashlib.sha256(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "sha256": digest}


def canonical(plain: Any) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def check_int(value: Any, name: str, low: int, high: float = LARGEST) -> int:
    """Return an integer from `low` to `high`, or raise InputError."""
    valid = isinstance(value, int | np.integer) and not isinstance(value, bool) and low <= int(value) <= high
    require(valid, f"{name} must be an integer from {low} to {high}, not {quoted(value)}")
    return int(value)


def require(condition: bool, message: str) -> None:
    """Raise InputError unless a condition holds."""
    if not condition:
        raise InputError(message)


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute, and of Python."""
    package = sys.modules[__name__.partition(".")[0]]
    packages = {module.__name__: module.__version__ for module in (np, numba, llvmlite)}
    return {"circuitsketch": package.__version__, **packages, "python": platform.python_version()}


def format_versions(packages: Any) -> str:
    """Format versions for a message; they may come from a file and be anything."""
    if not isinstance(packages, dict) or not packages:
        return "an unknown version"
    return ", ".join(f"{name} {version}" for name, version in packages.items())
