"""The Taylor coefficients of a measurement, checked, with the estimators that they suffice for.

In: coefficients along directions, the distribution of the directions and, if they were pushed, every example's own
series. Out: `MeasuredSeries`, which holds them, lists the estimators and describes itself. Questions are left to
`Query`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property, partial
from typing import Any, Self

import numpy as np

from circuitsketch.arguments import check_choice, check_instance, kind_of
from circuitsketch.arrays import plain
from circuitsketch.attribution import validation
from circuitsketch.attribution.first_order import differentiate_source
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.run_checks import RunChecks
from circuitsketch.attribution.stability import Stability
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.dependence import Constancy
from circuitsketch.directions import Distribution, Given
from circuitsketch.display import list_completions, summarize, table
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import Calibrated, Worth
from circuitsketch.estimators.exact_series import ExactSeries
from circuitsketch.estimators.interactions.conditioning import Evidence
from circuitsketch.estimators.interactions.estimator import WithInteractions
from circuitsketch.estimators.interactions.fitting import InteractionsFit
from circuitsketch.estimators.interactions.posterior import Interactions
from circuitsketch.estimators.interactions.priors import Priors
from circuitsketch.estimators.interface import Estimator, Measurement
from circuitsketch.estimators.monte_carlo import MonteCarlo
from circuitsketch.estimators.own_effects import OwnEffects
from circuitsketch.limits import within_memory
from circuitsketch.store.kept_calibrations import CalibrationFolder
from circuitsketch.training.subsets import check_labels, entry_per_example
from circuitsketch.training.training import Training

ESTIMATORS = ("theorem", "theorem-gradient", "interactions", "pairs", "per-example", "first-order", "calibrated")

# What tab completion shows.
PUBLIC = (
    "without reweight predict influence explore stability evaluate calibrate keep_calibration worth retrain_worst "
    "with_evidence with_gradients downweights baseline shape order estimator n distribution coefficients per_example "
    "labels items"
).split()


class MeasuredSeries:
    """A measurement's Taylor coefficients along m directions, and the estimators that they suffice for.

    Parameters
    ----------
    coefficients : array_like, of shape (m, order + 1, *measurement)
        Taylor coefficients along the first m directions of the distribution. Coefficient 0 comes first; it is real and
        the same for every direction.
    distribution : Distribution
        The distribution of the directions; see `circuitsketch.directions`.
    median_groups : int, optional
        The number of groups whose median is taken; by default 1 to 9, growing with m. Given directions have none.
    per_example : array_like, of shape (n, order' + 1, *measurement), optional
        Real; coefficient k of example i is F_k(e_i, ..., e_i). The order may differ from that of the directions, of
        which there may then be none (m = 0).
    similarity : array_like, of shape (n, p), optional
        A real factor J of the similarity J J^T in which examples interact.
    labels, items : sequence, optional
        A label, and an item, per example; for `without`.
    priors : Priors, optional
        What the measurements of a sketch share of the fit of interactions, instead of `similarity`.
    unit : {"example", "group", "coordinate"}
        What a coordinate of h is called.
    structure : Structure, optional
        Of a measurement that is a pytree, whose leaves are concatenated in `coefficients` and `per_example`;
        predictions and influences are then such pytrees.
    constancy : Constancy, optional
        Which values do not change along any direction; predictions then say so.
    source : Source, optional
        The run, the function and its arguments that were measured, for `evaluate` and `retrain_worst`.
    checks : RunChecks, optional
        What the run says against predictions: its kinks, and examples retrained alone.

    Raises
    ------
    InputError
        For shapes that do not go together, a NaN, or a coefficient 0 that differs between directions.
    """

    def __init__(
        self,
        coefficients: Any,
        distribution: Distribution,
        *,
        median_groups: int | None = None,
        per_example: Any = None,
        similarity: Any = None,
        labels: Sequence[Any] | None = None,
        items: Sequence[Any] | None = None,
        priors: Priors | None = None,
        unit: str = "example",
        structure: Structure | None = None,
        constancy: Constancy | None = None,
        source: Source | None = None,
        checks: RunChecks | None = None,
    ) -> None:
        if not isinstance(distribution, Distribution):
            raise InputError(
                f"distribution must be a distribution of directions, such as that of a sketch, not "
                f"{kind_of(distribution)}"
            )
        for value, name, kind, words in (
            (structure, "structure", Structure, "the structure of a measurement"),
            (constancy, "constancy", Constancy, "what is known of a measurement"),
            (priors, "priors", Priors, "those of a sketch"),
            (source, "source", Source, "what was measured"),
            (checks, "checks", RunChecks, "those of a sketch"),
        ):
            if value is not None:
                check_instance(value, name, kind, words)
        check_choice(unit, "unit", ("example", "group", "coordinate"))
        self.distribution, self.n, self.unit = distribution, distribution.n, unit
        self.structure, self.constancy, self.source, self.checks = structure, constancy, source, checks
        self.coefficients = validation.coefficients(coefficients, fewest=1 if per_example is None else 0)
        self.shape = self.coefficients.shape[2:]
        if isinstance(distribution, Given) and len(self.coefficients) > distribution.count:
            raise InputError(
                f"{len(self.coefficients)} directions were measured and the distribution has {distribution.count}"
            )
        self.labels, self.items = check_labels(labels, self.n), entry_per_example(items, self.n, "items")
        self.per_example = None if per_example is None else validation.per_example(per_example, self.n, self.shape)
        if len(self.coefficients):
            validation.constant(self.coefficients, self.per_example)
        self.chosen_similarity = None if similarity is None else validation.similarity(similarity, self.n)
        self.evidence: Evidence | None = None
        self.chosen_estimators: dict[str, Estimator] | None = None
        self.plan: Any = None  # what a budget was spent on, see `attribute`
        self.calibrations: CalibrationFolder | None = None  # of a sketch on disk
        # First-order effects of examples on the parameters, or on projections of these, (n, p), by which alike examples
        # are found; None if they are not known.
        self.moves: Callable[[], np.ndarray | None] = (lambda: None) if checks is None else checks.moves
        self.first_value = plain(self.coefficients[0, 0].real if self.per_example is None else self.per_example[0, 0])
        self.measurement = Measurement(self.coefficients, distribution, self.per_example, unit)
        self.order = max(self.coefficients.shape[1], 0 if self.per_example is None else self.per_example.shape[1]) - 1
        estimator = ExactSeries if isinstance(distribution, Given) else MonteCarlo
        self.random: MonteCarlo | ExactSeries = estimator(self.measurement, median_groups)
        self.priors = priors or Priors(
            partial(getattr, self, "chosen_similarity"), partial(getattr, self, "directions")
        )
        self.estimator = "theorem" if self.per_example is None else "interactions"  # if none is named
        self.fit = InteractionsFit(self.measurement, self.priors)

    @property
    def baseline(self) -> Any:
        """The measurement at h = 0: a float for a scalar measurement, an array, or a pytree."""
        return self.first_value if self.structure is None else self.structure.pack(self.first_value)

    @property
    def worth(self) -> Worth | None:
        """What a calibrated query is worth, by the retrained subsets, each predicted without itself; else None."""
        calibrated = self.estimators.get("calibrated")
        return calibrated.worth if isinstance(calibrated, Calibrated) else None

    @property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n)."""
        return self.random.directions

    @property
    def similarity(self) -> np.ndarray | None:
        """The factor J (n, p) of the similarity in which examples interact; learned on first access, unless given."""
        return self.priors.factor

    @property
    def interactions(self) -> Interactions | None:
        """The fitted interactions of examples; None without per-example series and random directions of order 2."""
        return self.fit.model

    @cached_property
    def estimators(self) -> dict[str, Estimator]:
        """The estimators that answer, by name: those that were chosen, or those that the coefficients suffice for."""
        if self.chosen_estimators is not None:
            return self.chosen_estimators
        if self.per_example is None:
            return {"theorem": self.random}
        own = [OwnEffects(self.measurement, self.random, self.fit, name) for name in ("per-example", "first-order")]
        together = WithInteractions(self.measurement, self.random, self.fit, evidence=self.evidence)
        return {one.name: one for one in (self.random, together, *own)}

    @cached_property
    def first_order_effects(self) -> np.ndarray:
        """The first-order effect of each example, (n, *S): exact with per-example series."""
        if self.per_example is not None:
            return self.per_example[:, 1]
        if isinstance(self.random, ExactSeries):  # known only along the directions
            return np.zeros((self.n, *self.shape))
        return self.random.influence().change

    @cached_property
    def first_order(self) -> Estimator:
        """The estimator "first-order" of a query without per-example series, by one reverse sweep through its run."""
        return differentiate_source(self.known_source("first_order"))[1]

    @property
    def knows_run(self) -> bool:
        """Whether the run and the function that were measured are at hand."""
        return self.source is not None and self.source.run is not None

    def known_source(self, name: str, run: Training | None = None) -> Source:
        """Return what was measured, and of which run; raise InputError if one of them is missing."""
        source = self.source
        if source is None:
            raise InputError(
                f"this query was made from coefficients, not from a sketch: give cs.{name} run= and measure= to "
                "retrain "
                "with" + (", or the truth= of each subset" if name == "evaluate" else "")
            )
        return source.of_run(run, self.n, name)

    def stability(self) -> Stability:
        """Measure the norms ||F_r||, r = 1, ..., order, with standard errors; exact at order 1 with per-example series.

        Returns
        -------
        Stability

        Raises
        ------
        InputError
            For given directions, or none.
        """
        log_norms, relative = self.random.log_norms
        with np.errstate(over="ignore"):
            norms = np.exp(log_norms)
        examples = None if self.per_example is None else self.n
        notes = () if self.constancy is None else self.constancy.notes
        return Stability(norms, norms * relative, len(norms), len(self.coefficients), self.unit, examples, notes)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def with_evidence(self, what: Any, values: Any = None, *, coefficients: Any = None) -> Self:
        """Return a query that also knows retrained values, or series along other directions.

        Parameters
        ----------
        what : subsets or directions
            K of them, in the forms of `without`, or real h's (K, n).
        values : array_like, of shape (K, *measurement), optional
            What was measured after retraining without each. The prediction of such a subset becomes that, and those of
            similar subsets follow. An example retrained alone tells what its own series leaves out; the largest errors
            of `influence` say for which examples that is worthwhile.
        coefficients : array_like, of shape (K, order + 1, *measurement), optional
            Instead: real Taylor coefficients along each h, such as directions that are constant on groups.

        Returns
        -------
        Query

        Raises
        ------
        InputError
            Without random directions and per-example series to judge evidence by; for shapes that do not fit; for both
            or neither of values and coefficients.
        """
        together = self.estimators.get("interactions")
        if not isinstance(together, WithInteractions) or self.interactions is None:
            raise InputError(
                "evidence updates what is known of interactions: measure a sketch with random directions of order 2 "
                "and per_example='series'"
            )
        h = np.atleast_2d(validation.parse_downweights(what, self.n, self.labels, self.items, unit=self.unit))
        if self.structure is not None:
            values = None if values is None else self.structure.flat(values, 1)
            coefficients = None if coefficients is None else self.structure.flat(coefficients, 2)
        series = copy(self)
        series.evidence = together.take_in(h, np.asarray(self.first_value), values, coefficients)
        vars(series).pop("estimators")
        return series

    def with_estimators(self, estimators: Sequence[Estimator]) -> Self:
        """Return the same series, about which these estimators answer, the last of them if none is named."""
        series = copy(self)
        series.chosen_estimators = {estimator.name: estimator for estimator in estimators}
        series.estimator = estimators[-1].name
        vars(series).pop("estimators", None)
        return series

    def with_source(self, source: Source) -> Self:
        """Return the same series, measured from this."""
        series = copy(self)
        series.source = source
        vars(series).pop("first_order", None)
        return series

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
        random = (
            f"{len(self.coefficients)} of distribution {self.distribution.name!r}, to order {self.measurement.order}"
        )
        return table(
            "query: what would a measurement be",
            [
                ("as trained", self._kind() if self.shape else f"{self.baseline:.6g}"),
                ("coordinates", f"{self.n:,}" + (f", {single}" if single else "")),
                ("directions", random if len(self.coefficients) else "none at random"),
                ("estimator", self.estimator),
                *((name, summarize(values)) for name, values in about if values is not None),
            ],
        )

    def _kind(self) -> str:
        if self.structure is None:
            return f"shape {self.shape}"
        return f"{len(self.structure.shapes)} leaves, {self.structure.size:,} numbers"

    def __dir__(self) -> list[str]:
        return list_completions(self, PUBLIC)
