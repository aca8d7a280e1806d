"""What is believed of interactions before any direction is seen: similarities of examples, a kernel, and two shapes.

In: a similarity S over examples, their own series, directions or h's. Out: the covariance of what directions observe,
and the columns of the shapes. Fitting is left to `fitting`, answers to `posterior`.

The prior over a symmetric tensor T with covariance S^(x r) has E T(x, ..) T(y, ..) = (x S y)^r, E T(x, ..) T_jj.. =
(x S)_j^r and E T_ii.. T_jj.. = S_ij^r. So its off-diagonal part has, at every order r and for complex x and y too,

    k(x, y) = (x S y)^r - (x S)^r . y^r - x^r . (S y)^r + x^r . S^r . y^r        (powers elementwise).

T is real, so that the real and the imaginary parts of one observation are two real ones, and k(x, y) = E O(x) O(y)
along with k(x, conj y) = E O(x) conj O(y) gives the covariance of all 2m. Seeing psi and conj psi in complex form is
the same; psi alone would leave out k(psi, psi'), which carries half of what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from circuitsketch.arrays import power

TRIED_ON = 256  # directions on which similarities are compared: an eighth of the work of 512
KEPT = 256 << 20  # bytes of eigenvectors up to which they are kept for the next measurement


@dataclass(frozen=True, eq=False)
class Decomposed:
    """The kernel matrix of 2m observations: its mean diagonal, eigenvalues (2m,) and eigenvectors of it over that."""

    size: float
    values: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class Prior:
    """A similarity, and what follows from it and the directions alone, made when first asked for and kept.

    similarity: S (n, n), of trace n; where no two examples are alike (is_diagonal), its diagonal (n,) alone, so that
    nothing of size (n, n) is held. cosines: (n, n) or None, how alike examples are. directions: complex (m, n).
    """

    name: str
    similarity: np.ndarray
    cosines: np.ndarray | None
    directions: np.ndarray
    is_diagonal: bool = field(init=False, repr=False)
    diagonal: np.ndarray = field(init=False, repr=False)
    found: dict[tuple[int, int], Decomposed] = field(default_factory=dict, repr=False)
    rests: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        is_diagonal = self.similarity.ndim == 1
        object.__setattr__(self, "is_diagonal", is_diagonal)
        object.__setattr__(self, "diagonal", self.similarity if is_diagonal else np.diag(self.similarity))

    @cached_property
    def metric_directions(self) -> np.ndarray:
        """S psi, complex (n, m)."""
        return times(self.similarity, self.directions.T)

    def rest(self, r: int) -> np.ndarray:
        """(S psi)^r - S^r psi^r, complex (n, m): what h^r meets in k(h, psi)."""
        if r not in self.rests:
            spread = times(power(self.similarity, r), power(self.directions, r).T)
            self.rests[r] = power(self.metric_directions, r) - spread
        return self.rests[r]

    def decomposed(self, r: int, first: int | None = None) -> Decomposed:
        """The kernel matrix of order r of the first few directions, or of all of them."""
        count = min(first or len(self.directions), len(self.directions))
        if (r, count) not in self.found:
            matrix = kernel_matrix(self.similarity, self.directions[:count], r)
            size = float(np.trace(matrix)) / len(matrix)
            size = size if size > 0 else 1.0
            values, vectors = np.linalg.eigh(matrix / size)
            made = Decomposed(size, np.maximum(values, 0), vectors)
            if vectors.nbytes > KEPT:
                return made
            self.found[r, count] = made
        return self.found[r, count]


@dataclass(eq=False)
class Priors:
    """The priors that rest on the sketch alone: its measurements share them.

    find_factor : returns J (n, p) of S = J J^T, or None. generate_directions : returns the directions, complex (m, n).
    Both are called when they are first needed.
    """

    find_factor: Callable[[], np.ndarray | None]
    generate_directions: Callable[[], np.ndarray]
    found: dict[str, Prior] = field(default_factory=dict, repr=False)

    @cached_property
    def factor(self) -> np.ndarray | None:
        """J, or None."""
        return self.find_factor()

    @cached_property
    def directions(self) -> np.ndarray:
        """The directions, complex (m, n)."""
        return self.generate_directions()

    @cached_property
    def given(self) -> np.ndarray | None:
        """J J^T, or None where it says nothing."""
        return None if self.factor is None or not self.factor.any() else self.factor @ self.factor.T

    @cached_property
    def cosines(self) -> np.ndarray | None:
        """S_ij / sqrt(S_ii S_jj) of the given similarity; an example of size zero is like no other."""
        return None if self.given is None else cosine(self.given)

    def candidates(self, per_example: np.ndarray) -> list[Prior]:
        """Priors to choose among: the likelihood decides which one the directions agree with.

        The given similarity; the same half and half with its diagonal; and two whose examples are as large as their own
        orders two, all unlike or with the given cosines (seen: a few examples with strong interactions dominate a
        full-batch run). These two are of one measurement, whose per_example (n, order + 1, C) they rest on.
        """
        n, own = len(per_example), own_sizes(per_example)
        alone = self._prior("own", np.diag(own**2))
        if self.given is None or self.cosines is None:
            return [alone, self._shared("identity", np.eye(n))]
        like = own[:, None] * (self.cosines + np.eye(n)) * own
        return [
            self._shared("given", self.given),
            self._shared("given and diagonal", self.given + np.diag(np.diag(self.given))),
            self._prior("own and given", like),
            alone,
        ]

    def diagonal_candidates(self, per_example: np.ndarray) -> list[Prior]:
        """Those of `candidates` that take no memory of size (n, n), since no two examples are alike in them."""
        own = own_sizes(per_example) ** 2
        tried = {"own": own * (len(own) / own.sum()), "identity": np.ones(len(own))}
        return [Prior(name, diagonal, None, self.directions) for name, diagonal in tried.items()]

    def _prior(self, name: str, similarity: np.ndarray) -> Prior:
        return Prior(name, similarity * (len(similarity) / np.trace(similarity)), self.cosines, self.directions)

    def _shared(self, name: str, similarity: np.ndarray) -> Prior:
        if name not in self.found:
            self.found[name] = self._prior(name, similarity)
        return self.found[name]


def own_sizes(per_example: np.ndarray) -> np.ndarray:
    """How large examples are by their own orders two, (n,); all alike where these are not known, or 0."""
    own = np.sqrt((per_example[:, 2] ** 2).mean(axis=1)) if per_example.shape[1] > 2 else np.zeros(len(per_example))
    return own if own.any() else np.ones(len(per_example))


def cosine(similarity: np.ndarray) -> np.ndarray:
    """S_ij / sqrt(S_ii S_jj); an example of size zero is like no other."""
    size = np.sqrt(np.maximum(np.diag(similarity), 0))
    size[size == 0] = np.inf
    return similarity / size[:, None] / size


def times(real: np.ndarray, number: np.ndarray) -> np.ndarray:
    """A real matrix, or a diagonal one (n,), times a complex one, in real products: NumPy would make the first
    complex."""
    if real.ndim == 1:
        return real[:, None] * np.ascontiguousarray(number)
    return (real @ np.ascontiguousarray(number).view(np.float64)).view(np.complex128)


def kernel_matrix(similarity: np.ndarray, directions: np.ndarray, r: int) -> np.ndarray:
    """The covariance of the 2m real observations (real parts, then imaginary ones), up to a scale."""
    through = times(similarity, directions.T).T
    powers, through_powers = power(directions, r), power(through, r)
    spread = times(power(similarity, r), powers.T)
    plain_cross, cross = through_powers @ powers.T, through_powers @ powers.conj().T
    plain = power(through @ directions.T, r) - plain_cross - plain_cross.T + powers @ spread
    conjugate = power(through @ directions.conj().T, r) - cross - cross.conj().T + powers @ spread.conj()
    total, difference = plain + conjugate, plain - conjugate
    matrix = np.block([[total.real, difference.imag], [total.imag, -difference.real]]) / 2
    return (matrix + matrix.T) / 2
