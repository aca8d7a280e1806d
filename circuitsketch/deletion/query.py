"""A measurement, ready for questions: what would it be at x + h, for any h?

In: the Taylor coefficients of a measurement along directions, and the law of the directions. Out:
predictions, influences, stability. For a training run h are downweights (`without`, `reweight`); for a
function of one's own, any vector (`predict`). Each further question costs O((d + order) m), no pass through
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.deletion import estimators
from circuitsketch.deletion.prediction import (
    Influence,
    Number,
    Prediction,
    Stability,
    plain,
    scaled_norms,
    truncation_of,
    warnings_of,
)
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.sketch.directions import Given, Law
from circuitsketch.training.weights import downweights, many_downweights

PARALLEL = 1e-12  # |h - t psi| / |h| below which h counts as a multiple of psi: some thousand roundings


@dataclass(frozen=True, eq=False, repr=False)
class Query:
    """A measurement's Taylor coefficients along m directions, and what follows from them.

    coefficients: complex, of shape (m, order+1, *measurement); coefficient 0 comes first, is real and the
    same for every direction. law: where the directions come from; the m are its first ones. groups: the
    number of groups of which the median is taken (None: see `estimators.arrange`); a law of given directions
    has none.

    InputError: shapes that do not go together, a NaN, a coefficient 0 that differs between directions.

    >>> from circuitsketch.sketch.directions import Given
    >>> line = Given(np.array([[1.0, 2.0]]))
    >>> query = Query(np.array([[5.0, 3.0, 1.0]]), line)     # 5 + 3 t + t^2 at h = t (1, 2)
    >>> query.predict([2.0, 4.0]).value
    15.0
    """

    coefficients: np.ndarray
    law: Law
    groups: int | None = field(default=None, kw_only=True)
    singles: np.ndarray | None = field(default=None, kw_only=True)
    metric: np.ndarray | None = field(default=None, kw_only=True)
    labels: Sequence[Any] | None = field(default=None, kw_only=True)
    items: Sequence[Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        coefficients = np.asarray(self.coefficients)
        if coefficients.dtype.kind not in "iufc":
            raise InputError(f"coefficients are numbers, not an array of dtype {coefficients.dtype}")
        if self.singles is not None and coefficients.ndim >= 2 and not len(coefficients):
            object.__setattr__(self, "coefficients", coefficients)
            return
        if coefficients.ndim < 2 or coefficients.shape[0] < 1 or coefficients.shape[1] < 1:
            raise InputError(
                "coefficients have the shape (directions, order + 1, *measurement), with at least one direction "
                f"and order 0, not {coefficients.shape}"
            )
        if coefficients.size == 0:
            raise InputError(f"a measurement of shape {coefficients.shape[2:]} holds nothing to predict")
        if coefficients.dtype.kind != "c" or coefficients.dtype.itemsize > 16:
            coefficients = coefficients.astype(np.complex128)
        bad = np.argwhere(~np.isfinite(coefficients))
        if len(bad):
            raise InputError(
                f"direction {bad[0][0]} has a NaN or an infinity at order {bad[0][1]}: the run left the "
                "floating-point numbers there; take a lower order or a wider dtype"
            )
        if isinstance(self.law, Given) and len(coefficients) > self.law.count:
            raise InputError(f"{len(coefficients)} directions were measured and the law has {self.law.count}")
        first = coefficients[0, 0]
        slack = np.sqrt(np.finfo(coefficients.dtype).eps) * max(
            np.abs(first).max(), np.finfo(np.float32).tiny
        )
        off = max(np.abs(coefficients[:, 0] - first).max(), np.abs(first.imag).max())
        if off > slack:
            raise InputError(
                "coefficient 0 is the measurement as it was, real and the same for every direction; this one is "
                f"off by {off:.3g}: the axes of coefficients are (directions, order + 1, *measurement)"
            )
        object.__setattr__(self, "coefficients", coefficients)
        self._grouping(self.groups)

    # -------------------------------------------------------------------------------- what is known

    @property
    def baseline(self) -> Number:
        """The measurement at h = 0: a float for a scalar measurement, else an array."""
        return plain(self.coefficients[0, 0].real)

    @property
    def n(self) -> int:
        """The number of coordinates of h: of examples, for a training run."""
        return self.law.n

    @property
    def order(self) -> int:
        """The highest order of the series."""
        return self.coefficients.shape[1] - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the measurement."""
        return self.coefficients.shape[2:]

    @cached_property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n), made when first asked for and kept."""
        directions = self.law.block(0, len(self.coefficients))
        directions.flags.writeable = False
        return directions

    @cached_property
    def _log_norms(self) -> tuple[np.ndarray, np.ndarray]:
        one_group = estimators.arrange(
            len(self.coefficients), self.law.block_size, 1, exact=self._alone_is_exact
        )
        return estimators.tensor_norms(self.coefficients, self._log_factors(self.order), one_group)

    # -------------------------------------------------------------------------------- questions

    def predict(self, h: Any, *, order: int | None = None, groups: int | None = None) -> Prediction:
        """The measurement at x + h, for real h of shape (n,), or for a batch (B, n).

        order: leave out the orders above this one; groups: another number of groups than the query's.

        InputError: h of another length, not real, not finite; with given directions, an h that is no multiple
        of one.
        """
        wanted, single = self._checked(h)
        order = self._checked_order(order)
        grouping = self._grouping(self.groups if groups is None else groups)
        if isinstance(self.law, Given):
            terms = self._series_terms(wanted, order)
            change, zero = terms.sum(axis=0), np.zeros_like(terms[0])
            if not np.isfinite(change).all():
                raise DivergenceError(
                    "the series leaves the floating-point numbers for this h: it lies far outside the "
                    "region where the series can be trusted; take a smaller h, or a lower order"
                )
            found = estimators.Estimate(change, zero, terms, np.zeros_like(terms))
            decay, kind, k, freedom = np.abs(terms), "series", 1, 0
        else:
            inner = estimators.inner_products(self.directions, wanted)
            found = estimators.estimate(
                self.coefficients[:, : order + 1], inner, self._log_factors(order), grouping
            )
            lengths = np.linalg.norm(wanted, axis=1)
            decay = scaled_norms(self._log_norms[0][:order], lengths)
            kind, k, freedom = "theorem", len(grouping.groups), grouping.freedom
        cut = 0 if single else slice(None)
        change, stderr, decay = found.change[cut], found.stderr[cut], decay[:, cut]
        return Prediction(
            value=plain(self.baseline + change),
            baseline=self.baseline,
            change=plain(change),
            stderr=plain(stderr),
            terms=found.terms[:, cut],
            term_stderr=found.term_stderr[:, cut],
            truncation=plain(truncation_of(decay)),
            order=order,
            directions=len(self.coefficients),
            groups=k,
            freedom=freedom,
            estimator=kind,
            warnings=warnings_of(decay, change, stderr, len(self.coefficients)),
        )

    def without(self, what: Any, *, order: int | None = None, groups: int | None = None) -> Prediction:
        """The measurement without some training examples: ids, a mask, or downweights (1 = deleted).

        Everything else stays: the order of steps, seeds and denominators; example i's loss is multiplied by 1
        - w_i. A 2-D array of masks or downweights (B, n) asks about B subsets at once. InputError as
        `training.weights`.
        """
        return self.predict(self._downweights(what), order=order, groups=groups)

    def reweight(
        self, downweights: Any, *, order: int | None = None, groups: int | None = None
    ) -> Prediction:
        """The measurement under downweights, floats (n,) or (B, n): 1 deletes, 0.5 halves, -1 doubles."""
        given = np.asarray(downweights)
        if given.dtype.kind in "iu" and given.ndim and given.shape[-1] == self.n:
            given = given.astype(np.float64)  # whole numbers, one an example: here they cannot be ids
        if given.dtype.kind != "f":
            raise InputError(
                f"reweight takes one float an example, n = {self.n} of them; for ids or a mask, use without"
            )
        return self.predict(self._downweights(given), order=order, groups=groups)

    def influence(self) -> Influence:
        """All n leave-one-out changes, h = e_i, with standard errors, worked off in blocks of examples."""
        self._checked_order(None)
        if isinstance(self.law, Given):
            parts = list(estimators.blocks_of(self.n, self.n + self.coefficients.size))
            each = [self._series_terms(_basis(self.n, part), self.order).sum(axis=0) for part in parts]
            change = np.concatenate(each)
            stderr = np.zeros_like(change)
        else:
            change, stderr = estimators.influence(
                self.coefficients, self.directions, self._log_factors(self.order), self._grouping(self.groups)
            )
        noisy = int((stderr > np.abs(change)).sum())
        note = f"{noisy} of {change.size} influences are smaller than their error: use more directions"
        m = len(self.coefficients)
        return Influence(change, stderr, self.baseline, self.order, m, (note,) if noisy else ())

    def stability(self) -> Stability:
        """The norms ||F_r||, r = 1..order, with standard errors. InputError for given directions."""
        self._checked_order(None)
        log_norms, relative = self._log_norms
        with np.errstate(over="ignore"):
            norms = np.exp(log_norms)
        return Stability(norms, norms * relative, self.order, len(self.coefficients))

    def __str__(self) -> str:
        what = f"a measurement of shape {self.shape}" if self.shape else f"a measurement, {self.baseline:.6g}"
        return (
            f"query: {what} at h = 0, to order {self.order} along {len(self.coefficients)} directions of "
            f"law {self.law.name!r} in {self.n} coordinates"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    # -------------------------------------------------------------------------------- inside

    @property
    def _alone_is_exact(self) -> bool:
        """In one coordinate a direction of length one knows everything; a Gaussian one does not."""
        return self.n == 1 and self.law.name != "gaussian"

    def _grouping(self, groups: int | None) -> estimators.Grouping:
        if isinstance(self.law, Given) and groups is not None:
            raise InputError("given directions are not averaged, so there are no groups: leave groups out")
        return estimators.arrange(
            len(self.coefficients), self.law.block_size, groups, exact=self._alone_is_exact
        )

    def _log_factors(self, order: int) -> np.ndarray:
        return np.array([self.law.log_factor(r) for r in range(1, order + 1)])

    def _downweights(self, what: Any) -> np.ndarray:
        if isinstance(what, np.ndarray) and what.ndim == 2:
            return many_downweights(what, self.n)
        return downweights(what, self.n)

    def _checked(self, h: Any) -> tuple[np.ndarray, bool]:
        """h as float64 (B, n), and whether it was a single one."""
        try:
            wanted = np.asarray(h)
        except ValueError as reason:
            raise InputError(f"h is an array of {self.n} real numbers: {reason}") from reason
        if wanted.dtype.kind not in "biuf":
            raise InputError(f"h is an array of {self.n} real numbers, not of dtype {wanted.dtype}")
        if self.n == 1 and wanted.ndim == 0:
            wanted = wanted.reshape(1)
        if wanted.ndim not in (1, 2) or wanted.shape[-1] != self.n or not wanted.size:
            raise InputError(
                f"h has the shape ({self.n},), or (B, {self.n}) for many at once, not {wanted.shape}; "
                "for example ids use without"
            )
        bad = np.argwhere(~np.isfinite(wanted))
        if len(bad):
            raise InputError(f"h holds a NaN or an infinity at coordinate {bad[0][-1]}: give finite numbers")
        return np.atleast_2d(wanted).astype(np.float64), wanted.ndim == 1

    def _checked_order(self, order: int | None) -> int:
        if not self.order:
            raise InputError(
                "coefficients of order 0 tell the measurement as it was, and nothing of changes: push to order 1"
            )
        if order is None:
            return self.order
        if isinstance(order, bool) or not isinstance(order, int | np.integer) or not 1 <= order <= self.order:
            raise InputError(f"the order of a prediction is an int from 1 to {self.order}, not {order!r}")
        return int(order)

    def _series_terms(self, wanted: np.ndarray, order: int) -> np.ndarray:
        """The terms (order, B, *measurement) of the exact series, for h's (B, n) along given directions."""
        own = self.directions
        squares = (own.real**2 + own.imag**2).sum(axis=1)
        squares[squares == 0] = np.inf
        peak = np.abs(wanted).max(axis=1, keepdims=True)  # so that no square leaves the floats
        peak[peak == 0] = 1
        wanted = wanted / peak
        inner = (wanted @ own.T).conj()
        nearest = np.argmax(np.abs(inner) / np.sqrt(squares), axis=1)
        chosen = own[nearest]
        factors = np.take_along_axis(inner, nearest[:, None], axis=1)[:, 0] / squares[nearest]
        off = np.linalg.norm(wanted - factors[:, None] * chosen, axis=1)
        stray = np.flatnonzero(off > PARALLEL * np.linalg.norm(wanted, axis=1))
        if stray.size:
            which = f"h number {stray[0]}" if len(wanted) > 1 else "h"
            raise InputError(
                f"{which} is no multiple of a given direction, and only along those is the series known: "
                "make a sketch with a random law (sphere, gaussian, orthonormal) to ask about any h"
            )
        return estimators.series(self.coefficients[nearest, : order + 1], factors * peak[:, 0])


def _basis(n: int, part: slice) -> np.ndarray:
    """The rows e_i of the identity for i in part: (len, n)."""
    rows = np.arange(part.start, part.stop)
    basis = np.zeros((len(rows), n))
    basis[np.arange(len(rows)), rows] = 1
    return basis
