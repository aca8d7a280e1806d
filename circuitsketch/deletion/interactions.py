"""What examples do together: the off-diagonal part of every Taylor tensor, by kernel regression on random directions.

In: coefficients along random directions, every example's own series, a metric. Out: for any h the mean of O_r(h),
its variance, and covariances, where F_r(h, ..., h) = sum_i F_r(e_i, ..., e_i) h_i^r + O_r(h). The sum over examples
and what a user is told are left to `backbone`. What directions observe is c_r(psi) - sum_i F_r(e_i, ..., e_i)
psi_i^r = O_r(psi).

The prior over a symmetric tensor T with covariance S^(x r) has E T(x, ..) T(y, ..) = (x S y)^r, E T(x, ..) T_jj.. =
(x S)_j^r and E T_ii.. T_jj.. = S_ij^r. So its off-diagonal part has, at every order r and for complex x and y too,

    k(x, y) = (x S y)^r - (x S)^r . y^r - x^r . (S y)^r + x^r . S^r . y^r        (powers elementwise).

T is real, so that the real and the imaginary parts of one observation are two real ones, and k(x, y) = E O(x) O(y)
along with k(x, conj y) = E O(x) conj O(y) gives the covariance of all 2m. Seeing psi and conj psi in complex form is
the same; psi alone would leave out k(psi, psi'), which carries half of what is known. Beside S^(x r) the prior has
an isotropic part, seen as a white noise of variance tau by directions of random phases, and of variance 2 tau
(|h|^2r - sum h_i^2r) / n^r at a real h. Before the kernel two shapes that interactions often have are fitted by
least squares: that of similar examples, which act like one with more weight, and that of a curved link behind the
sum of first-order effects. tau and the scale are chosen by leaving out one direction after the other, in closed form
from one eigendecomposition an order; what does not help to predict the direction left out is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

TAUS = np.logspace(-3, 3, 19)  # of the isotropic part, beside a kernel whose mean diagonal is 1
TRIED_ON = 256  # directions on which metrics are compared: an eighth of the work of 512
KEPT = 64  # eigenvectors that reduce the variance at most; those left out make it larger, never smaller
NEEDED = 0.2  # eigenvalues over the smallest tau, below which an eigenvector says next to nothing
PAIRS = 500  # pairs of examples of one h, on average, below which looking each up beats products with whole rows
SPARSE = 0.1  # share of entries different from zero below which h is multiplied as a sparse matrix


@dataclass(frozen=True, eq=False)
class Points:
    """Real h's (B, n) and the products with the metric and the directions that every order needs."""

    h: np.ndarray
    rows: Any  # h again, as a sparse matrix where most of it is zero
    is_mask: bool
    through: np.ndarray  # h S, (B, n)
    seen: np.ndarray  # h S psi, complex (B, m)
    alike: np.ndarray | None  # h times the cosines, (B, n); with pairs, at its own examples alone
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # see `pairs_of`, where there are few

    def powers(self, r: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """h^r, (h S)^r and, real and imaginary parts in turn, (h S psi)^r: elementwise. That of a mask is itself."""
        own = self.rows if self.is_mask else self.rows**r
        return own, power(self.through, r), power(self.seen, r).view(np.float64)


@dataclass(frozen=True, eq=False)
class OneOrder:
    """The fit of one order r; C is the number of values measured, E that of eigenvectors kept.

    weights (2m, C): of (h S psi)^r, real and imaginary parts in turn, in the mean; what belongs to the
    diagonal terms of k is gathered by example in `through` and `own` (n, C). vectors (2m, E), `through_vectors`,
    `own_vectors` (n, E): the same for k(h, psi) in the eigenbasis.
    precision (E, C): 1 / (lambda + tau). scale, tau (C,); size: what k is divided by. shapes (2, C): the
    coefficients of
    the two fitted shapes. explained (C,): 1 - (squared error of the direction left out) / (square of what it observed).
    """

    r: int
    size: float
    scale: np.ndarray
    tau: np.ndarray
    shapes: np.ndarray
    weights: np.ndarray
    through: np.ndarray
    own: np.ndarray
    vectors: np.ndarray
    through_vectors: np.ndarray
    own_vectors: np.ndarray
    precision: np.ndarray
    explained: np.ndarray


@dataclass(frozen=True, eq=False)
class Interactions:
    """The fitted interactions of a measurement with C values, orders 2 to `order`.

    singles (n, order + 1, C) real. directions (m, n). metric: S (n, n), of trace n. cosines (n, n) or None.
    """

    singles: np.ndarray
    directions: np.ndarray
    metric: np.ndarray
    cosines: np.ndarray | None
    name: str
    orders: tuple[OneOrder, ...]

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.directions.shape[1]

    @cached_property
    def metric_directions(self) -> np.ndarray:
        """S psi, complex (n, m)."""
        return np.ascontiguousarray(self.metric @ self.directions.T)

    @cached_property
    def metric_powers(self) -> dict[int, np.ndarray]:
        """S^r, elementwise, by order."""
        return {fit.r: self.metric**fit.r for fit in self.orders}

    def points(self, h: np.ndarray) -> Points:
        """What all orders need of h (B, n). A sparse h touches only the rows of its examples."""
        rows: Any = sparse.csr_array(h) if np.count_nonzero(h) < SPARSE * h.size else h
        seen = (rows @ self.metric_directions.view(np.float64)).view(np.complex128)
        is_mask = bool(((h == 0) | (h == 1)).all())
        few = isinstance(rows, sparse.csr_array) and (np.diff(rows.indptr) ** 2).sum() < PAIRS * len(h)
        pairs = pairs_of(rows) if few else None
        if self.cosines is None:
            alike = None
        elif pairs is None:
            alike = rows @ self.cosines
        else:
            one, other, start = pairs
            near = self.cosines[rows.indices[one], rows.indices[other]] * rows.data[other]
            alike = np.add.reduceat(near, start) if near.size else near
        return Points(h, rows, is_mask, rows @ self.metric, seen, alike, pairs)

    def see(self, fit: OneOrder, at: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """At h's: the mean of O_r, the part of it that is the fitted shapes, the variance before any direction
        was seen, and the variance given the directions: four arrays (B, C).
        """
        own, through, seen = at.powers(fit.r)
        prior = self.prior(fit, at, own, through)
        both = shapes(self.singles, fit.r, at.h if at.pairs is None else at.rows, own, at.alike)
        shaped = both[0] * fit.shapes[0] + both[1] * fit.shapes[1]
        mean = seen @ fit.weights - through @ fit.through - own @ fit.own + shaped
        known = self.projected(fit, own, through, seen) ** 2 @ fit.precision
        return mean, shaped, prior, np.maximum(prior - fit.scale * known, 0)

    def projected(self, fit: OneOrder, own: Any, through: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """k(h, psi) in the eigenbasis, (B, E), from `Points.powers`."""
        single = np.float32  # a variance needs no more digits
        found = seen.astype(single) @ fit.vectors - through.astype(single) @ fit.through_vectors
        return found - own @ fit.own_vectors

    def prior(self, fit: OneOrder, at: Points, own: Any, through: np.ndarray) -> np.ndarray:
        """The variance of O_r at h's before any direction was seen, (B, C)."""
        if at.pairs is None:
            together = inner(own @ self.metric_powers[fit.r], own)
        else:
            one, other, _ = at.pairs
            near = (
                power(self.metric[own.indices[one], own.indices[other]], fit.r)
                * own.data[one]
                * own.data[other]
            )
            row = np.repeat(np.arange(len(at.h)), np.diff(own.indptr))
            together = np.bincount(row[one], near, len(at.h))
        found = inner(at.through, at.rows) ** fit.r - 2 * inner(through, own) + together
        isotropic = inner(at.rows, at.rows) ** fit.r - inner(own, own)
        isotropic = np.maximum(isotropic, 0) / float(self.n) ** fit.r
        return fit.scale * (np.maximum(found, 0)[:, None] / fit.size + 2 * fit.tau * isotropic[:, None])

    def covariance(self, fit: OneOrder, one: Points, other: Points) -> np.ndarray:
        """The covariance of O_r between h's given the directions: (B, B', C)."""
        (x, sx, px), (y, sy, py) = one.powers(fit.r), other.powers(fit.r)
        kernel = (
            (one.through @ other.h.T) ** fit.r
            - (y @ sx.T).T
            - x @ sy.T
            + (y @ (x @ self.metric_powers[fit.r]).T).T
        )
        both = x @ y.T
        both = both.toarray() if sparse.issparse(both) else both
        isotropic = ((one.h @ other.h.T) ** fit.r - both) / float(self.n) ** fit.r
        p, q = self.projected(fit, x, sx, px), self.projected(fit, y, sy, py)
        known = np.einsum("be,de,ec->bdc", p, q, fit.precision, optimize=True)
        return fit.scale * (kernel[:, :, None] / fit.size + 2 * fit.tau * isotropic[:, :, None] - known)


# ------------------------------------------------------------------------------------------------ the fit


def fit_interactions(
    coefficients: np.ndarray, directions: np.ndarray, singles: np.ndarray, factor: np.ndarray | None
) -> Interactions:
    """Fit orders 2 to that of the directions.

    coefficients (m, order + 1, C) along directions (m, n); singles (n, order' + 1, C) with order' >= order;
    factor (n, p) of the metric S = factor factor^T, or None for examples that have nothing in common.
    """
    directions = np.ascontiguousarray(directions, dtype=np.complex128)
    singles = np.asarray(singles, dtype=np.float64)
    order = coefficients.shape[1] - 1
    observed = [coefficients[:, r] - directions**r @ singles[:, r] for r in range(2, order + 1)]
    given = None if factor is None else factor @ factor.T
    cosines = None if given is None else cosine(given)
    metrics = candidates(given, singles)
    name, metric = metrics[0]
    if len(metrics) > 1 and observed:
        tried = min(TRIED_ON, len(directions))
        scores = [likelihood(metric, directions[:tried], observed[0][:tried]) for _, metric in metrics]
        name, metric = metrics[int(np.argmin(scores))]
    empty = Interactions(singles, directions, metric, cosines, name, ())
    fits = [fit_order(empty, r, seen) for r, seen in enumerate(observed, start=2)]
    return Interactions(singles, directions, metric, cosines, name, tuple(fits))


def candidates(given: np.ndarray | None, singles: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Metrics to choose among, each of trace n: the likelihood decides which one the directions agree with.

    The given one; the same half and half with its diagonal; and two whose examples are as large as their own orders
    two, all alike or with the given cosines (seen: a few examples with strong interactions dominate a full-batch run).
    """
    n = len(singles)
    own = np.sqrt((singles[:, 2] ** 2).mean(axis=1)) if singles.shape[1] > 2 else np.ones(n)
    if not own.any():
        own = np.ones(n)
    found = [("own", np.diag(own**2))]
    if given is not None and given.any():
        blend = np.diag(np.diag(given))
        found = [
            ("given", given),
            ("given and diagonal", given + blend),
            ("own and given", own[:, None] * (cosine(given) + np.eye(n)) * own),
            *found,
        ]
    else:
        found.append(("identity", np.eye(n)))
    return [(name, metric * (n / np.trace(metric))) for name, metric in found]


def power(x: np.ndarray, r: int) -> np.ndarray:
    """x^r by products: NumPy's own power takes many times as long from r = 3 on."""
    found = x
    for _ in range(r - 1):
        found = found * x
    return found


def in_turn(halves: np.ndarray) -> np.ndarray:
    """Rows of real parts, then of imaginary parts, (2m, ...), as one after the other in turn."""
    m = len(halves) // 2
    return np.stack([halves[:m], halves[m:]], axis=1).reshape(halves.shape)


def cosine(metric: np.ndarray) -> np.ndarray:
    """S_ij / sqrt(S_ii S_jj); an example of size zero is like no other."""
    size = np.sqrt(np.maximum(np.diag(metric), 0))
    size[size == 0] = np.inf
    return metric / size[:, None] / size


def shapes(singles: np.ndarray, r: int, x: Any, powers: Any, alike: np.ndarray | None) -> np.ndarray:
    """The two shapes of interactions of order r at x (B, n), real, complex or sparse, x^r being given: (2, B, C).

    Similar examples: sum_i F_r(e_i^r) x_i ((C x)_i^(r-1) - x_i^(r-1)), which is what d equal examples do
    together. A link:
    (sum_i F_1(e_i) x_i)^r - sum_i (F_1(e_i) x_i)^r, each relative to the largest first-order effect. alike: C
    x, of a sparse x at its own entries.
    """
    first = singles[:, 1]
    peak = np.abs(first).max(axis=0)
    first = first / np.where(peak > 0, peak, 1)
    link = (x @ first) ** r - powers @ first**r
    if alike is None:
        return np.stack([np.zeros_like(link), link])
    entries = x.data if sparse.issparse(x) else x
    weights = entries * (power(alike, r - 1) - power(entries, r - 1))
    if sparse.issparse(x):
        weights = sparse.csr_array((weights, x.indices, x.indptr), shape=x.shape)
    return np.stack([weights @ singles[:, r], link])


def pairs_of(rows: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ordered pairs of entries of the same row of a sparse matrix, and where those of each first entry start."""
    lengths = np.diff(rows.indptr)
    each = np.repeat(lengths, lengths)  # how many partners an entry has, itself among them
    one = np.repeat(np.arange(rows.nnz), each)
    start = np.cumsum(each) - each
    other = np.arange(len(one)) - np.repeat(start - np.repeat(rows.indptr[:-1], lengths), each)
    return one, other, start


def inner(x: Any, y: Any) -> np.ndarray:
    """The inner products of rows, y being sparse or not: (B,)."""
    if not sparse.issparse(y):
        return np.einsum("bi,bi->b", x, y)
    row = np.repeat(np.arange(y.shape[0]), np.diff(y.indptr))
    entries = x.data if sparse.issparse(x) else x[row, y.indices]
    return np.bincount(row, entries * y.data, y.shape[0])


def kernel_matrix(metric: np.ndarray, directions: np.ndarray, r: int) -> np.ndarray:
    """The covariance of the 2m real observations (real parts, then imaginary ones), up to a scale."""
    through = directions @ metric
    powers, through_powers = directions**r, through**r

    def k(y: np.ndarray, sy: np.ndarray) -> np.ndarray:
        cross = powers @ (sy**r).T
        return (through @ y.T) ** r - through_powers @ (y**r).T - cross + powers @ (metric**r) @ (y**r).T

    plain, conjugate = k(directions, through), k(directions.conj(), through.conj())
    total, difference = plain + conjugate, plain - conjugate
    matrix = np.block([[total.real, difference.imag], [total.imag, -difference.real]]) / 2
    return (matrix + matrix.T) / 2


def left_out(
    values: np.ndarray, vectors: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every tau: squared error of directions left out over their square, fitted scale, and minus twice the log
    likelihood: three arrays (taus, C). values, vectors: of the kernel matrix; seen (2m, C).

    The error of direction j predicted from all others is A_jj^-1 (A y)_j, with A = (K + tau)^-1 and A_jj its 2 by 2
    block of real and imaginary part.
    """
    m = len(seen) // 2
    along, real, imaginary = vectors.T @ seen, vectors[:m], vectors[m:]
    squares = (real**2, imaginary**2, real * imaginary)
    energy = np.maximum((seen**2).sum(axis=0), np.finfo(float).tiny)
    found = []
    for tau in TAUS:
        inverse = 1 / (values + tau)
        a, d, b = (square @ inverse for square in squares)
        solved = vectors @ (inverse[:, None] * along)
        u, v, det = solved[:m], solved[m:], (a * d - b * b)[:, None]
        errors = ((d[:, None] * u - b[:, None] * v) / det, (a[:, None] * v - b[:, None] * u) / det)
        scale = np.maximum((errors[0] * u + errors[1] * v).sum(axis=0) / (2 * m), np.finfo(float).tiny)
        surprise = 2 * m * np.log(scale) - np.log(det).sum()
        found.append(((errors[0] ** 2 + errors[1] ** 2).sum(axis=0) / energy, scale, surprise))
    loss, scale, surprise = (np.stack(column) for column in zip(*found, strict=True))
    return loss, scale, surprise


def decomposed(metric: np.ndarray, directions: np.ndarray, r: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean diagonal of the kernel matrix, and the eigenvalues and eigenvectors of it divided by that."""
    matrix = kernel_matrix(metric, directions, r)
    size = float(np.trace(matrix)) / len(matrix)
    size = size if size > 0 else 1.0
    values, vectors = np.linalg.eigh(matrix / size)
    return size, np.maximum(values, 0), vectors


def likelihood(metric: np.ndarray, directions: np.ndarray, observed: np.ndarray) -> float:
    """Minus twice the log likelihood of left-out directions at order 2, averaged over values; the smaller the
    better."""
    _, values, vectors = decomposed(metric, directions, 2)
    seen = np.concatenate([observed.real, observed.imag])
    return float(left_out(values, vectors, seen)[2].min(axis=0).mean())


def fit_shapes(columns: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Least squares of seen (2m, C) on the shapes (2, 2m, C), value by value: (2, C), zero where it does not help.

    Whether it helps is asked of the observations left out one by one: their error is residual / (1 - leverage).
    """
    count = seen.shape[1]
    found = np.zeros((len(columns), count))
    for c in range(count):
        size = np.linalg.norm(columns[:, :, c], axis=1)
        used = np.flatnonzero(size > 0)
        if not used.size:
            continue
        x = (columns[used, :, c] / size[used, None]).T
        q, _, _ = np.linalg.svd(x, full_matrices=False)
        residual = seen[:, c] - q @ (q.T @ seen[:, c])
        leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)
        if ((residual / (1 - leverage)) ** 2).sum() < (seen[:, c] ** 2).sum():
            found[used, c] = np.linalg.lstsq(x, seen[:, c], rcond=None)[0] / size[used]
    return found


def fit_order(model: Interactions, r: int, observed: np.ndarray) -> OneOrder:
    """Fit order r to what its directions observed, complex (m, C)."""
    directions, metric = model.directions, model.metric
    m = len(directions)
    alike = None if model.cosines is None else directions @ model.cosines
    columns = shapes(model.singles, r, directions, directions**r, alike)
    columns = np.concatenate([columns.real, columns.imag], axis=1)
    whole = np.concatenate([observed.real, observed.imag])
    fitted = fit_shapes(columns, whole)
    count = whole.shape[1]
    both = np.concatenate([whole - np.einsum("smc,sc->mc", columns, fitted), whole], axis=1)

    size, values, vectors = decomposed(metric, directions, r)
    loss, scale, surprise = left_out(values, vectors, both)
    # Two coefficients fitted are worth 2 each (Akaike). Where the metric holds everything the shapes only disturb it.
    shaped = surprise[:, :count].min(axis=0) + 2 * len(fitted) < surprise[:, count:].min(axis=0)
    fitted = np.where(shaped, fitted, 0.0)
    every = np.where(shaped, np.arange(count), count + np.arange(count))
    seen, best = both[:, every], surprise[:, every].argmin(axis=0)
    tau, scale, loss = TAUS[best], scale[best, every], loss[best, every]
    helps = loss < 1
    inverse = 1 / (values[:, None] + tau)
    alpha = vectors @ (inverse * (vectors.T @ seen)) * helps / size

    powers = directions**r  # the diagonal terms of the kernel, gathered by example
    rest = model.metric_directions**r - metric**r @ powers.T
    through = powers.real.T @ alpha[:m] + powers.imag.T @ alpha[m:]
    own = rest.real @ alpha[:m] + rest.imag @ alpha[m:]

    kept = np.argsort(-values)[:KEPT]
    kept = kept[values[kept] > NEEDED * tau.min()]
    chosen = vectors[:, kept] / size
    through_vectors = powers.real.T @ chosen[:m] + powers.imag.T @ chosen[m:]
    own_vectors = rest.real @ chosen[:m] + rest.imag @ chosen[m:]
    energy = np.maximum((whole**2).sum(axis=0), np.finfo(float).tiny)
    left = np.where(helps, loss, 1.0) * (seen**2).sum(axis=0) / energy
    return OneOrder(
        r=r,
        size=size,
        scale=scale,
        tau=tau,
        shapes=fitted,
        weights=in_turn(alpha),
        through=through,
        own=own,
        vectors=in_turn(chosen).astype(np.float32),
        through_vectors=through_vectors.astype(np.float32),
        own_vectors=own_vectors,
        precision=inverse[kept] * helps,
        explained=np.where(energy > np.finfo(float).tiny, 1 - left, 0.0) if m else np.zeros(len(every)),
    )
