"""A measurement, ready for questions: what would it be at x + h, for any h?

In: the Taylor coefficients of a measurement along directions, the distribution of the directions, and, where they were pushed,
every example's own series. Out: predictions, influences, stability. For a training run h are downweights (`without`,
`reweight`); for a function of one's own, any vector (`predict`). Further questions pass through nothing again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.arguments import check_choice, check_instance, is_int, kind_of, quoted
from circuitsketch.arrays import plain_array
from circuitsketch.attribution import validation
from circuitsketch.attribution.late import Late
from circuitsketch.attribution.prediction import (
    Influence,
    Number,
    Prediction,
    Stability,
    TreeInfluence,
    TreePrediction,
    flag,
    plain,
)
from circuitsketch.attribution.structure import Structure
from circuitsketch.attribution.validation import PER_EXAMPLE
from circuitsketch.checks.dependence import Constancy
from circuitsketch.directions import Distribution, Given
from circuitsketch.display import completed, some, table
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators import exact_series, monte_carlo, own_effects
from circuitsketch.estimators.convergence import (
    Region,
    ratio_of_decay,
    reach_of,
    sentence_outside,
    truncation_of,
    warnings_of,
    warnings_of_beyond,
    warnings_of_influence,
)
from circuitsketch.estimators.interactions.conditioning import Evidence, Updated, evidence_of, weigh
from circuitsketch.estimators.interactions.fitting import fit_interactions
from circuitsketch.estimators.interactions.posterior import Interactions
from circuitsketch.estimators.interactions.priors import Priors
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.training.subsets import NOTHING, check_labels, downweights_of, entry_per_example

# Arrays that are held together while interactions are fitted, as tracemalloc counts: (n, n), (2m, 2m), complex (n, m).
SQUARES, KERNELS, TABLES = 9, 10, 8

# What tab completion shows.
PUBLIC = (
    "without reweight predict influence stability with_evidence baseline shape order estimator n distribution directions "
    "coefficients per_example labels items"
).split()


@dataclass(frozen=True, eq=False, repr=False)
class Query:
    """A measurement's Taylor coefficients along m directions, and what follows from them.

    coefficients: complex, of shape (m, order+1, *measurement); coefficient 0 comes first, is real and the
    same for every direction. distribution: where the directions come from; the m are its first ones. median_groups: the
    number of groups of which the median is taken (None: see `estimators.arrange`); a distribution of given directions
    has none.

    per_example: real (n, order' + 1, *measurement), coefficient k of [i] being F_k(e_i, ..., e_i); the order may be another
    than that of the directions, of which there may then be none (m = 0). similarity: (n, p), a real factor J of the similarity
    J J^T in which examples interact. labels, items: n groups, n examples, for `without`. evidence: see `with_evidence`.
    priors: what follows from similarity and directions, which the measurements of a sketch share; made where it is not
    given. Similarity and priors may be functions: they are called when an estimator first needs them. unit: what a
    coordinate of h is called: an example, a group. structure: of a measurement that is a pytree, whose leaves lie one
    after the other in `coefficients` and `per_example`; predictions and influences are then such pytrees, norms are not.
    constancy: what is known of values that do not change along any direction, which predictions then say.

    InputError: shapes that do not go together, a NaN, a coefficient 0 that differs between directions.

    >>> from circuitsketch.directions import Given
    >>> line = Given(np.array([[1.0, 2.0]]))
    >>> query = Query(np.array([[5.0, 3.0, 1.0]]), line)     # 5 + 3 t + t^2 at h = t (1, 2)
    >>> query.predict([2.0, 4.0]).value
    15.0
    """

    coefficients: np.ndarray
    distribution: Distribution
    _: KW_ONLY
    median_groups: int | None = None
    per_example: np.ndarray | None = None
    similarity: Any = Late()
    labels: Sequence[Any] | None = None
    items: Sequence[Any] | None = None
    evidence: Evidence | None = None
    priors: Any = Late()
    unit: str = "example"
    structure: Structure | None = None
    constancy: Constancy | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.distribution, Distribution):
            raise InputError(
                f"distribution must be a distribution of directions, such as that of a sketch, not {kind_of(self.distribution)}"
            )
        if self.evidence is not None:
            check_instance(self.evidence, "evidence", Evidence, "what `with_evidence` has taken in")
        if self.constancy is not None:
            check_instance(self.constancy, "constancy", Constancy, "what is known of a measurement")
        check_choice(self.unit, "unit", ("example", "group", "coordinate"))
        if self.structure is not None:
            check_instance(self.structure, "structure", Structure, "the structure of a measurement")
        coefficients = validation.coefficients(self.coefficients, fewest=1 if self.per_example is None else 0)
        if isinstance(self.distribution, Given) and len(coefficients) > self.distribution.count:
            raise InputError(
                f"{len(coefficients)} directions were measured and the distribution has {self.distribution.count}"
            )
        found = {
            "coefficients": coefficients,
            "labels": check_labels(self.labels, self.n),
            "items": entry_per_example(self.items, self.n, "items"),
        }
        if self.per_example is not None:
            found["per_example"] = validation.per_example(self.per_example, self.n, coefficients.shape[2:])
        similarity, priors = vars(self).get("similarity"), vars(self).get("priors")
        found["similarity"] = (
            similarity if similarity is None or callable(similarity) else validation.similarity(similarity, self.n)
        )
        if priors is not None and not callable(priors):
            check_instance(priors, "priors", Priors, "those of a sketch, or a function that makes them")
        for name, value in found.items():
            object.__setattr__(self, name, value)
        if len(coefficients):
            validation.constant(coefficients, self.per_example)
            self._grouping(self.median_groups)

    # -------------------------------------------------------------------------------- what is known

    @property
    def baseline(self) -> Any:
        """The measurement at h = 0: a float for a scalar measurement, an array, or a pytree."""
        return self._baseline if self.structure is None else self.structure.pack(self._baseline)

    @property
    def _baseline(self) -> Number:
        return plain(self.coefficients[0, 0].real if self.per_example is None else self.per_example[0, 0])

    @property
    def n(self) -> int:
        """The number of coordinates of h: of examples, for a training run."""
        return self.distribution.n

    @property
    def order(self) -> int:
        """The highest order of the series: along directions, or of single examples where it is higher."""
        return max(part.shape[1] - 1 for part in (self.coefficients, self.per_example) if part is not None)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the measurement."""
        return self.coefficients.shape[2:]

    @cached_property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n), made when first asked for and kept."""
        m = len(self.coefficients)
        require_memory(16 * m * self.n, f"{m:,} directions of {self.n:,} coordinates", ["fewer directions"])
        directions = self.distribution.block(0, m)
        directions.flags.writeable = False
        return directions

    @property
    def estimator(self) -> str:
        """Which estimator answers when none is named: "interactions" where single examples were pushed, else
        "theorem"."""
        return "theorem" if self.per_example is None else "interactions"

    @cached_property
    def interactions(self) -> Interactions | None:
        """The fitted interactions of examples, made when first asked for; None without directions of order 2."""
        order = self.coefficients.shape[1] - 1
        if self.per_example is None or isinstance(self.distribution, Given) or not len(self.coefficients) or order < 2:
            return None
        order = min(order, self.per_example.shape[1] - 1)
        flat = self.coefficients[:, : order + 1].reshape(len(self.coefficients), order + 1, -1)
        if order < 2:
            return None
        m, n = len(self.coefficients), self.n
        require_memory(
            8 * (SQUARES * n * n + KERNELS * (2 * m) ** 2) + TABLES * 16 * n * m,
            f"what {n:,} {self.unit}s do together, fitted to {m:,} directions,",
            ["estimator='theorem'", "a sketch with groups=..."],
        )
        return fit_interactions(flat, self._flat_per_example, self.priors or Priors(self.similarity, self.directions))

    @property
    def _flat_per_example(self) -> np.ndarray:
        assert self.per_example is not None
        return self.per_example.reshape(*self.per_example.shape[:2], -1)

    @cached_property
    def _weighed(self) -> Updated | None:
        if self.evidence is None:
            return None
        assert self.interactions is not None
        return weigh(self.evidence, self.interactions, self._flat_per_example, self.order)

    @cached_property
    def _log_norms(self) -> tuple[np.ndarray, np.ndarray]:
        self._need_directions()
        one_group = monte_carlo.arrange(
            len(self.coefficients), self.distribution.block_size, 1, exact=self._alone_is_exact
        )
        logs, errors = monte_carlo.tensor_norms(self.coefficients, self._log_factors(self._theorem_order), one_group)
        if self.per_example is not None:
            with np.errstate(divide="ignore"):
                logs[0] = 0.5 * np.log((self.per_example[:, 1] ** 2).sum(axis=0))
            errors[0] = 0
        return logs, errors

    @cached_property
    def _region(self) -> Region | None:
        """The region of trust; None where no random directions have measured it."""
        if isinstance(self.distribution, Given) or not len(self.coefficients) or not self._theorem_order:
            return None
        return Region(self._log_norms[0], None if self.per_example is None else self.n)

    # -------------------------------------------------------------------------------- questions

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def predict(
        self, h: Any, *, estimator: str | None = None, order: int | None = None, median_groups: int | None = None
    ) -> Prediction:
        """The measurement at x + h, for real h of shape (n,), or for a batch (B, n).

        estimator: "interactions" (single examples' series plus interactions: the default where single examples were
        pushed), "per-example" (without interactions), "first-order", or "theorem" (random directions alone: unbiased, the
        default otherwise). order: leave out the orders above this one; median_groups: another number of groups than the
        query's, of the theorem's median.

        InputError: h of another length, not real, not finite; an estimator that this query has no data for; with given
        directions, an h that is no multiple of one.
        """
        wanted, single = validation.real_vectors(h, self.n)
        estimator = validation.estimator(estimator, self.estimator, self.per_example is not None)
        self._need_memory(len(wanted), estimator)
        if estimator in PER_EXAMPLE:
            if median_groups is not None:
                raise InputError(f"median_groups belongs to estimator='theorem'; {estimator!r} takes no median")
            return self._shaped(self._noted(self._from_per_example(wanted, single, estimator, order)))
        return self._shaped(self._noted(self._from_directions(wanted, single, order, median_groups)))

    def _noted(self, prediction: Prediction) -> Prediction:
        """The prediction, of unknown error where the measurement is locally constant, with the sentences about that."""
        if self.constancy is None:
            return prediction
        flat = np.broadcast_to(self.constancy.flat, np.shape(prediction.value))
        return replace(
            prediction,
            stderr=plain(np.where(flat, np.inf, prediction.stderr)),
            truncation=plain(np.where(flat, np.inf, prediction.truncation)),
            outside=flag(flat | prediction.outside),
            warnings=self.constancy.notes + prediction.warnings,
        )

    def _from_directions(
        self, wanted: np.ndarray, single: bool, order: int | None, median_groups: int | None
    ) -> Prediction:
        self._need_directions()
        order = validation.order(order, self._theorem_order)
        grouping = self._grouping(self.median_groups if median_groups is None else median_groups)
        if isinstance(self.distribution, Given):
            terms = exact_series.series_terms(self.coefficients, self.directions, wanted, order)
            change, zero = terms.sum(axis=0), np.zeros_like(terms[0])
            if not np.isfinite(change).all():
                raise DivergenceError(
                    "the series leaves the floating-point numbers for this h: it lies far outside the "
                    "region where the series can be trusted; take a smaller h, or a lower order"
                )
            found = monte_carlo.Estimate(change, zero, terms, np.zeros_like(terms))
            decay, kind, k, degrees_of_freedom = np.abs(terms), "series", 1, 0
            outside, reach = ratio_of_decay(decay) >= 1, ""
        else:
            inner = monte_carlo.inner_products(self.directions, wanted)
            found = monte_carlo.estimate(self.coefficients[:, : order + 1], inner, self._log_factors(order), grouping)
            lengths = np.linalg.norm(wanted, axis=1)
            assert self._region is not None
            decay, outside = self._region.terms(lengths), self._region.excludes(lengths)
            reach = reach_of(self._region, lengths, outside)
            kind, k, degrees_of_freedom = "theorem", len(grouping.groups), grouping.degrees_of_freedom
        cut = 0 if single else slice(None)
        change, stderr, decay, outside = found.change[cut], found.stderr[cut], decay[:, cut], outside[cut]
        return Prediction(
            value=plain(self._baseline + change),
            baseline=self._baseline,
            change=plain(change),
            stderr=plain(stderr),
            terms=found.terms[:, cut],
            term_stderr=found.term_stderr[:, cut],
            truncation=plain(truncation_of(decay, order)),
            order=order,
            directions=len(self.coefficients),
            median_groups=k,
            degrees_of_freedom=degrees_of_freedom,
            estimator=kind,
            outside=flag(outside),
            warnings=warnings_of(decay, outside, change, stderr, len(self.coefficients), reach),
        )

    def _from_per_example(self, wanted: np.ndarray, single: bool, estimator: str, order: int | None) -> Prediction:
        order = 1 if estimator == "first-order" else validation.order(order, self.order)
        parts, found = [], []
        weighed = self._weighed if estimator == "interactions" and order > 1 else None
        for part in monte_carlo.blocks_of(len(wanted), 16 * self.n):
            known = own_effects.parts_of(self._flat_per_example, self.interactions, wanted[part], estimator, order)
            found.append(own_effects.combine(known, *(weighed.update(known) if weighed else ())))
            parts.append(part)

        def joined(name: str, axis: int = 0) -> np.ndarray:
            whole = np.concatenate([getattr(answer, name) for answer in found], axis=axis)
            shaped = whole.reshape(*whole.shape[:-1], *self.shape)
            return shaped.take(0, axis=axis) if single else shaped

        change, stderr = joined("change"), joined("stderr")
        if not np.isfinite(change).all():
            raise DivergenceError(
                "a term of the series leaves the floating-point numbers for this h: it lies far outside the region "
                "where the series can be trusted; take a smaller h, or a lower order"
            )
        beyond = np.concatenate([answer.beyond for answer in found])
        beyond = beyond[0] if single else beyond
        slow = (beyond > own_effects.TRUST).reshape(beyond.shape + (1,) * len(self.shape))
        slow = np.broadcast_to(slow, change.shape) & ((change != 0) | (stderr != 0))
        outside = np.zeros(change.shape, dtype=bool)
        sentences: tuple[str, ...] = ()
        if self._region is not None:
            lengths = np.linalg.norm(wanted, axis=1)
            excluded = self._region.excludes(lengths)
            outside = excluded[0] if single else excluded
            if outside.any():
                terms = self._region.terms(lengths)
                reach = reach_of(self._region, lengths, excluded)
                sentences = (sentence_outside(terms[:, 0] if single else terms, outside, reach),)
                every = outside.reshape(*beyond.shape, -1).all(axis=-1)
                beyond = np.where(every, 0.0, beyond)  # said already
        return Prediction(
            value=plain(self._baseline + change),
            baseline=self._baseline,
            change=plain(change),
            stderr=plain(stderr),
            terms=joined("terms", 1),
            term_stderr=joined("term_stderr", 1),
            truncation=plain(joined("left_out")),
            order=len(found[0].terms),
            directions=len(self.coefficients),
            median_groups=1,
            degrees_of_freedom=plain(joined("degrees_of_freedom")),
            estimator=estimator,
            outside=flag(outside | slow),
            warnings=sentences + warnings_of_beyond(beyond, own_effects.TRUST, change, stderr),
        )

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def without(
        self,
        what: Any = None,
        *,
        label: Any = NOTHING,
        estimator: str | None = None,
        order: int | None = None,
        median_groups: int | None = None,
    ) -> Prediction:
        """The measurement without some training examples.

        what: ids, a mask, or downweights (1 = deleted); a group's label, if it is a string, or a list of labels; a
        function of an example that says whether it goes; a list of subsets, or a 2-D array of masks or downweights (B,
        n), to ask about B subsets at once. label: a label of any kind. The others: as `predict`.

        Everything else stays: the order of steps, seeds and denominators; example i's loss is multiplied by 1 - w_i.
        InputError as `training.weights`, and for labels or items that are unknown.
        """
        h = self.downweights(what, label=label)
        return self.predict(h, estimator=estimator, order=order, median_groups=median_groups)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def downweights(self, what: Any, *, label: Any = NOTHING) -> np.ndarray:
        """What `without` is given, as downweights (n,) or (B, n)."""
        try:
            return downweights_of(what, self.n, self.labels, self.items, label)
        except InputError as reason:
            if self.unit == "example":
                raise
            raise InputError(of_units(str(reason), self.unit)) from None

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def with_evidence(self, what: Any, values: Any = None, *, coefficients: Any = None) -> Query:
        """A query that also knows what somebody retrained, or pushed along directions of their own.

        what : subsets or directions, in the forms of `without` (many of them), or real h's (K, n).
        values : (K, *measurement), what was measured after retraining without each; the prediction of such a subset
            becomes that, and those of subsets like it move along. An example retrained alone tells what its own series
            leaves out; the largest errors of `influence` say of which examples that is worth while.
        coefficients : (K, order + 1, *measurement) instead, real Taylor coefficients along each h, such as directions
            that are constant on groups.

        InputError: no random directions and single examples to judge evidence by; shapes that do not fit; both, or
        neither.
        """
        if self.interactions is None:
            raise InputError(
                "evidence updates what is known of interactions: measure a sketch with random directions of order 2 "
                "and per_example='series'"
            )
        h = np.atleast_2d(self.downweights(what))
        pieces = len(h) + (0 if self.evidence is None else len(self.evidence.h))
        require_memory(
            48 * pieces**2 * cells(self.shape), f"evidence of {pieces:,} pieces", ["fewer pieces", "fewer values"]
        )
        last = len(self.interactions.orders) + 1
        if self.structure is not None:
            values = None if values is None else self.structure.flat(values, 1)
            coefficients = None if coefficients is None else self.structure.flat(coefficients, 2)
        new = evidence_of(h, np.asarray(self._baseline), values, coefficients, last)
        return replace(self, evidence=new if self.evidence is None else self.evidence.also(new))

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def reweight(
        self,
        downweights: Any,
        *,
        estimator: str | None = None,
        order: int | None = None,
        median_groups: int | None = None,
    ) -> Prediction:
        """The measurement under downweights, floats (n,) or (B, n): 1 deletes, 0.5 halves, -1 doubles."""
        given = plain_array(downweights, "the array of downweights")
        if given.dtype.kind in "iu" and given.ndim and given.shape[-1] == self.n:
            given = given.astype(np.float64)  # whole numbers, one an example: here they cannot be ids
        if given.dtype.kind != "f":
            said = f"reweight takes one float per example, n = {self.n} of them; for ids or a mask, use without"
            raise InputError(of_units(said, self.unit))
        return self.predict(self.downweights(given), estimator=estimator, order=order, median_groups=median_groups)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def influence(self, top: int = 10, *, estimator: str | None = None) -> Influence:
        """All n leave-one-out changes, h = e_i, with their errors; the `top` largest are listed when it is printed.

        Where single examples were pushed they are their own series, and the error is what the series leaves out.
        """
        if not is_int(top, 1):
            raise InputError(f"the number of examples to show is an int of at least 1, not {quoted(top)}")
        estimator = validation.estimator(estimator, self.estimator, self.per_example is not None)
        self._need_memory(self.n, estimator, terms=False)
        if estimator in PER_EXAMPLE:
            kind = "first-order" if estimator == "first-order" else "per-example"
            order = 1 if kind == "first-order" else self._flat_per_example.shape[1] - 1
            if self.evidence is not None and kind == "per-example":
                alone = self.predict(np.eye(self.n), estimator="interactions")
                found = np.asarray(alone.flattened().change), np.asarray(alone.flattened().stderr)
            else:
                found = own_effects.influence(self._flat_per_example, order)
            change, stderr = (part.reshape(self.n, *self.shape) for part in found)
        else:
            self._need_directions()
            kind, order = "series" if isinstance(self.distribution, Given) else "theorem", self._theorem_order
            if kind == "series":
                change = exact_series.influence(self.coefficients, self.directions)
                stderr = np.zeros_like(change)
            else:
                change, stderr = monte_carlo.influence(
                    self.coefficients, self.directions, self._log_factors(order), self._grouping(self.median_groups)
                )
        warnings, m = warnings_of_influence(change, stderr), len(self.coefficients)
        if kind == "theorem" and self._region is not None:
            outside = np.broadcast_to(self._region.excludes(np.ones(1))[0], self.shape)
            if outside.any():
                terms = self._region.terms(1.0)
                reach = reach_of(self._region, np.ones(1), outside[None])
                warnings += (sentence_outside(terms, outside, reach),)
        if self.constancy is not None:
            stderr = np.where(self.constancy.flat, np.inf, stderr)
            warnings = self.constancy.notes + warnings
        about: dict[str, Any] = {"unit": self.unit, "labels": self.labels, "items": self.items}
        effects = Influence(change, stderr, self._baseline, order, m, warnings, kind, int(top), **about)
        return effects if self.structure is None else TreeInfluence.of(effects, self.structure)

    def stability(self) -> Stability:
        """The norms ||F_r||, r = 1..order, with standard errors. InputError for given directions, or none.

        Where single examples were pushed, ||F_1|| is exact.
        """
        log_norms, relative = self._log_norms
        with np.errstate(over="ignore"):
            norms = np.exp(log_norms)
        examples = None if self.per_example is None else self.n
        notes = () if self.constancy is None else self.constancy.notes
        m, top = len(self.coefficients), self._theorem_order
        return Stability(norms, norms * relative, top, m, self.unit, examples, notes)

    def __str__(self) -> str:
        what = f"a measurement of {self._kind()}" if self.shape else f"a measurement, {self.baseline:.6g}"
        return (
            f"query: {what} at h = 0, to order {self.order} along {len(self.coefficients)} directions of "
            f"distribution {self.distribution.name!r} in {self.n} coordinates"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def _repr_html_(self) -> str:
        about = (("labels", self.labels), ("items", self.items))
        single = "" if self.per_example is None else f"every one alone to order {self.per_example.shape[1] - 1}"
        random = f"{len(self.coefficients)} of distribution {self.distribution.name!r}, to order {self._theorem_order}"
        return table(
            "query: what would a measurement be",
            [
                ("as trained", self._kind() if self.shape else f"{self.baseline:.6g}"),
                ("coordinates", f"{self.n:,}" + (f", {single}" if single else "")),
                ("directions", random if len(self.coefficients) else "none at random"),
                ("estimator", self.estimator),
                *((name, some(values)) for name, values in about if values is not None),
            ],
        )

    def _kind(self) -> str:
        """What the measurement is, in words."""
        if self.structure is None:
            return f"shape {self.shape}"
        return f"{len(self.structure.shapes)} leaves, {self.structure.size:,} numbers"

    def _shaped(self, found: Prediction) -> Prediction:
        """A prediction as the user measures: of a pytree where the measurement is one."""
        found = replace(found, unit=self.unit, warnings=tuple(of_units(text, self.unit) for text in found.warnings))
        return found if self.structure is None else TreePrediction.of(found, self.structure)

    def __dir__(self) -> list[str]:
        return completed(self, PUBLIC)

    # -------------------------------------------------------------------------------- inside

    @property
    def _alone_is_exact(self) -> bool:
        """In one coordinate a direction of length one knows everything; a Gaussian one does not."""
        return self.n == 1 and self.distribution.name != "gaussian"

    def _grouping(self, median_groups: int | None) -> monte_carlo.Grouping:
        if isinstance(self.distribution, Given) and median_groups is not None:
            raise InputError("given directions are not averaged, so there is no median: leave median_groups out")
        return monte_carlo.arrange(
            len(self.coefficients), self.distribution.block_size, median_groups, exact=self._alone_is_exact
        )

    def _log_factors(self, order: int) -> np.ndarray:
        return np.array([self.distribution.log_factor(r) for r in range(1, order + 1)])

    @property
    def _theorem_order(self) -> int:
        return self.coefficients.shape[1] - 1

    def _need_memory(self, count: int, estimator: str, terms: bool = True) -> None:
        """Refuse more h's than memory holds answers for: a change, its error and, if wanted, terms for each value; and
        for one h at a time what every direction says of it, or a few copies of the per-example series."""
        values, orders = cells(self.shape), self.order if terms else 0
        if estimator in PER_EXAMPLE and self.per_example is not None:
            besides = 2 * self.per_example.nbytes
        else:
            besides = 24 * self._theorem_order * len(self.coefficients) * values
        require_memory(
            8 * values * count * (8 + 4 * orders) + besides,
            f"the answers for {count:,} subsets of {values:,} values",
            ["fewer subsets at a time", "a measurement of fewer values"],
        )

    def _need_directions(self) -> None:
        if not len(self.coefficients):
            raise InputError(
                "this query has no random directions, only single examples' series: make the sketch with "
                "directions=, or use estimator='per-example'"
            )
        validation.order(None, self._theorem_order)


def of_units(sentence: str, unit: str) -> str:
    """A sentence about examples, of what the coordinates of h are.

    >>> of_units("ask about fewer examples", "group")
    'ask about fewer groups'
    """
    article = "an" if unit[0] in "aeiou" else "a"
    return re.sub(r"\bexample(s?)\b", rf"{unit}\1", re.sub(r"\ban example\b", f"{article} {unit}", sentence))
