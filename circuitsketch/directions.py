"""The distributions of directions: from n, a seed and an index to a direction in C^n, and to its unbiasing factor.

In: the number of coordinates, a seed, a range of indices. Out: that block of directions, whose bits do not depend on
which blocks were generated before, and `log_factor(r)`, the weight of order r. Estimates are left to `estimators`.

A direction psi of a random distribution comes scaled so that its entries have size 1: |psi|^2 = n, or n on average.
With <psi, h> = sum_i conj(psi_i) h_i and c_r(psi) = F_r(psi, ..., psi),

    Z_r = exp(log_factor(r)) <psi, h>^r c_r(psi)     has     E Z_r = F_r(h, ..., h),

which is THEORY (1): C(n+r-1, r) for directions of length 1, divided by n^r for the scale, and 1 / r! for
Gaussian ones.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from circuitsketch.arguments import check_int, is_int, quoted
from circuitsketch.arrays import plain_array
from circuitsketch.errors import InputError

# -------------------------------------------------------------------------------- the distributions


@dataclass(frozen=True)
class Sphere:
    """The theorem's distribution: uniform on the complex sphere of radius sqrt(n) in C^n; directions are independent.

    Parameters
    ----------
    n, seed : int
        The number of coordinates; the seed, from 0 to 2^64 - 1.

    Examples
    --------
    >>> distribution = Sphere(n=3, seed=7)
    >>> distribution.block(0, 5).shape
    (5, 3)
    >>> bool((distribution.block(0, 5)[2:] == distribution.block(2, 5)).all())
    True
    """

    n: int
    seed: int = 0
    name: ClassVar[str] = "sphere"
    block_size: ClassVar[int] = 1  # this many directions depend on each other: none

    def __post_init__(self) -> None:
        _check_distribution(self)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Generate directions start, ..., stop - 1: complex128 of shape (stop - start, n)."""
        block = np.empty(_rows(start, stop, self.n), dtype=np.complex128)
        for row, index in zip(block, range(start, stop), strict=True):
            gaussian = gaussian_direction(self.n, self.seed, index)
            row[:] = gaussian * (math.sqrt(self.n) / _length(gaussian))
        return block

    def log_factor(self, r: int) -> float:
        """Return log of C(n+r-1, r) / n^r."""
        return log_sphere_factor(self.n, r)


@dataclass(frozen=True)
class Gaussian:
    """The distribution CN(0, I): independent complex normal entries, E |psi_i|^2 = 1 and E psi_i^2 = 0.

    Parameters
    ----------
    n, seed : int
        The number of coordinates; the seed, from 0 to 2^64 - 1.
    """

    n: int
    seed: int = 0
    name: ClassVar[str] = "gaussian"
    block_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_distribution(self)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Generate directions start, ..., stop - 1: complex128 of shape (stop - start, n)."""
        block = np.empty(_rows(start, stop, self.n), dtype=np.complex128)
        for row, index in zip(block, range(start, stop), strict=True):
            row[:] = gaussian_direction(self.n, self.seed, index)
        return block

    def log_factor(self, r: int) -> float:
        """Return log of 1 / r!."""
        return -math.lgamma(r + 1)


@dataclass(frozen=True)
class Orthonormal:
    """The rows of Haar unitaries, times sqrt(n): the first n directions are one block, and so on.

    Each direction has the distribution of `Sphere`, so the factor is the same; directions of one block are orthogonal,
    which takes away first-order noise (all of it, once a block is full); blocks are independent of each
    other. A direction depends only on those before it in its block, so fewer directions are a prefix of more.

    Parameters
    ----------
    n, seed : int
        The number of coordinates; the seed, from 0 to 2^64 - 1.
    """

    n: int
    seed: int = 0
    name: ClassVar[str] = "orthonormal"

    def __post_init__(self) -> None:
        _check_distribution(self)

    @property
    def block_size(self) -> int:
        """How many directions depend on each other: n."""
        return self.n

    def block(self, start: int, stop: int) -> np.ndarray:
        """Generate directions start, ..., stop - 1: complex128 of shape (stop - start, n).

        The first k rows of a block cost O(k^2 n) when they are first asked for: half a second for k = 512, n
        = 1000, on one core of a server of 2024, two to three for k = 1000. They are kept until other blocks
        are asked for.
        """
        block = np.empty(_rows(start, stop, self.n), dtype=np.complex128)
        done = 0
        while start + done < stop:
            number, first = divmod(start + done, self.n)
            last = min(self.n, first + stop - start - done)
            rows = _frame(self.n, self.seed, number).rows(last)[first:last]
            block[done : done + last - first] = rows * math.sqrt(self.n)
            done += last - first
        return block

    def log_factor(self, r: int) -> float:
        """Return log of C(n+r-1, r) / n^r."""
        return log_sphere_factor(self.n, r)


@dataclass(frozen=True, eq=False)
class Given:
    """Directions that were chosen by hand, real or complex, as an array `vectors` of shape (count, n).

    No distribution, so no factor and no average: a run pushed along them is known exactly, to its order, for every h
    that is a multiple of one of them. Distributions of this kind are compared by identity.

    Parameters
    ----------
    vectors : array_like, of shape (count, n)
        The directions.

    Raises
    ------
    InputError
        For another shape, or numbers that are not finite.
    """

    vectors: np.ndarray = field(repr=False)
    name: ClassVar[str] = "given"
    seed: ClassVar[None] = None
    block_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        try:
            vectors = plain_array(self.vectors, "the array of directions")
            complex_ = np.iscomplexobj(vectors)
            vectors = np.array(vectors, dtype=np.complex128 if complex_ else np.float64)
        except (TypeError, ValueError) as reason:
            raise InputError(f"directions are an array of numbers of shape (count, n): {reason}") from reason
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise InputError(f"directions are an array of shape (count, n), both at least 1, not {vectors.shape}")
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise InputError(f"direction {bad[0]} holds a NaN or an infinity: give finite numbers")
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)

    @property
    def n(self) -> int:
        """The number of coordinates of a direction."""
        return self.vectors.shape[1]

    @property
    def count(self) -> int:
        """The number of directions."""
        return self.vectors.shape[0]

    def block(self, start: int, stop: int) -> np.ndarray:
        """Generate directions start, ..., stop - 1: complex128 of shape (stop - start, n)."""
        _rows(start, stop, self.n)
        if stop > self.count:
            raise InputError(f"direction {stop - 1} was asked for and {self.count} were given: numbers start at 0")
        return self.vectors[start:stop].astype(np.complex128)

    def log_factor(self, r: int) -> float:
        """Raise InputError: directions chosen by hand have no distribution."""
        raise InputError(
            f"given directions have no distribution, so order {r} has no factor: use a random distribution "
            f"({', '.join(RANDOM_DISTRIBUTIONS)})"
        )


@dataclass(frozen=True, eq=False)
class Basis:
    """The n real unit vectors: each reweights one example alone, so its series is that example's own.

    Direction j is that of example `examples[j]` (default: j), so that whoever pushes them may say which come together.
    No distribution, so no factor: each coefficient F_r(e_i, ..., e_i) is exact. Distributions of this kind are compared
    by identity.

    Parameters
    ----------
    n : int
        The number of examples.
    examples : array_like of int, of shape (n,), optional
        The example of each direction, each once.
    """

    n: int
    examples: np.ndarray | None = field(default=None, repr=False)
    name: ClassVar[str] = "basis"
    seed: ClassVar[None] = None
    block_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.examples is None:
            object.__setattr__(self, "examples", np.arange(self.n))
        if not np.array_equal(np.sort(self.examples), np.arange(self.n)):  # type: ignore[arg-type]
            raise InputError(f"the examples of {self.n} basis directions are 0 to {self.n - 1}, each once")

    @property
    def count(self) -> int:
        """The number of directions: n."""
        return self.n

    def block(self, start: int, stop: int) -> np.ndarray:
        """Generate directions start, ..., stop - 1: float64 of shape (stop - start, n)."""
        block = np.zeros(_rows(start, stop, self.n))
        if stop > self.n:
            raise InputError(f"basis direction {stop - 1} was asked for, and there are {self.n}")
        assert self.examples is not None
        block[np.arange(stop - start), self.examples[start:stop]] = 1.0
        return block

    def log_factor(self, r: int) -> float:
        """Raise InputError: basis directions are no sample."""
        raise InputError(
            f"basis directions are no sample, so order {r} has no factor: use a random distribution "
            f"({', '.join(RANDOM_DISTRIBUTIONS)})"
        )


Distribution = Sphere | Gaussian | Orthonormal | Given | Basis

RANDOM_DISTRIBUTIONS: dict[str, type[Sphere | Gaussian | Orthonormal]] = {
    distribution.name: distribution for distribution in (Sphere, Gaussian, Orthonormal)
}


def find_distribution(name: str, n: int, seed: int = 0) -> Distribution:
    """Return the random distribution of a name, for directions in C^n.

    Parameters
    ----------
    name : {"orthonormal", "sphere", "gaussian"}
        Its name.
    n, seed : int
        The number of coordinates; the seed, from 0 to 2^64 - 1.

    Raises
    ------
    InputError
        For an unknown name, an n below 1, or another seed.

    Examples
    --------
    >>> find_distribution("gaussian", n=10, seed=3)
    Gaussian(n=10, seed=3)
    """
    if not isinstance(name, str) or name not in RANDOM_DISTRIBUTIONS:
        raise InputError(
            f"there is no distribution of directions called {quoted(name)}: choose one of "
            f"{', '.join(RANDOM_DISTRIBUTIONS)}"
        )
    return RANDOM_DISTRIBUTIONS[name](n, seed)


def check_count(directions: Any) -> int:
    """Return the number of directions, an int of at least 1; else raise InputError."""
    return check_int(directions, "directions", 1)


# -------------------------------------------------------------------------------- the factor


def log_sphere_factor(n: int, r: int) -> float:
    """Return log of C(n+r-1, r) / n^r = prod_{i<r} (1 + i/n) / r!.

    The product says the same as three lgammas, without their cancellation: at n = 10^6 those leave an error
    of 1e-9.
    """
    return math.fsum(math.log1p(i / n) for i in range(r)) - math.lgamma(r + 1)


# -------------------------------------------------------------------------------- the generator


def gaussian_direction(n: int, seed: int, index: int) -> np.ndarray:
    """Direction `index` of the distribution CN(0, I): complex128 of shape (n,).

    Counter-based: Philox keyed by (seed, index). By the Box-Muller transform g = sqrt(-log u) exp(2 pi i v),
    of raw words rather than of NumPy's own normals: the words of a bit generator are promised to stay the
    same in every version of NumPy, the normals are not, and a sketch keeps only its seed.
    """
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(2 * n)
    uniform = ((words >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0 or 1
    radius = np.sqrt(-np.log1p(-uniform[:n]))
    angle = (2 * np.pi) * uniform[n:]
    direction = np.empty(n, dtype=np.complex128)
    direction.real = radius * np.cos(angle)
    direction.imag = radius * np.sin(angle)
    return direction


class _Frame:
    """The orthonormal rows of one block, as far as they were asked for: Gram and Schmidt on Gaussian rows.

    A QR factorisation would be faster and give other bits with another number of threads (seen with OpenBLAS
    on two); `einsum` without `optimize` is a plain loop. The rows are those of a Haar unitary, since the
    diagonal of the triangular factor is positive.
    """

    def __init__(self, n: int, seed: int, number: int) -> None:
        self.n, self.seed, self.number = n, seed, number
        self.generated = np.empty((0, n), dtype=np.complex128)
        self.count = 0
        self.lock = threading.Lock()

    def rows(self, count: int) -> np.ndarray:
        with self.lock:
            if count > len(self.generated):
                room = np.empty((min(self.n, max(count, 2 * len(self.generated))), self.n), dtype=np.complex128)
                room[: self.count] = self.generated[: self.count]
                self.generated = room
            while self.count < count:
                self.generated[self.count] = self._next()
                self.count += 1
            return self.generated[:count]

    def _next(self) -> np.ndarray:
        earlier = self.generated[: self.count]
        row = gaussian_direction(self.n, self.seed, self.number * self.n + self.count)
        before = _length(row)
        for _ in range(2):  # twice is enough; the second time only if half of the length was lost
            shadow = np.einsum("kn,n->k", earlier, row.conj()).conj()
            row -= np.einsum("k,kn->n", shadow, earlier)
            after = _length(row)
            if after > before / 2:
                break
        return row / after


@lru_cache(maxsize=2)
def _frame(n: int, seed: int, number: int) -> _Frame:
    return _Frame(n, seed, number)


def _length(vector: np.ndarray) -> float:
    return math.sqrt((vector.real**2 + vector.imag**2).sum())


# -------------------------------------------------------------------------------- the border


def _check_distribution(distribution: Sphere | Gaussian | Orthonormal) -> None:
    if not is_int(distribution.n, 1):
        raise InputError(
            f"n is the number of coordinates of a direction, an int of at least 1, not {quoted(distribution.n)}"
        )
    if not is_int(distribution.seed, 0, 2**64 - 1):
        raise InputError(f"a seed is an int from 0 to 2^64 - 1, not {quoted(distribution.seed)}")
    object.__setattr__(distribution, "n", int(distribution.n))
    object.__setattr__(distribution, "seed", int(distribution.seed))


def _rows(start: int, stop: int, n: int) -> tuple[int, int]:
    if not (is_int(start, 0) and is_int(stop, 0)) or start > stop:
        raise InputError(
            f"a block of directions runs from start to stop, 0 <= start <= stop, not {quoted(start)} to {quoted(stop)}"
        )
    return stop - start, n
