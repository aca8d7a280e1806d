"""Predictions of a measurement at x + h, for any h, and of what each example changes alone.

In: a measured series (`MeasuredSeries`). Out: `PredictingSeries`, which chooses the estimator that answers, and widens
the answer by what the run says against it; `with_gradients` adds an estimator. For a training run h are downweights
(`without`, `reweight`); for a function of one's own, any vector (`predict`). How a change is estimated is left to the
estimators; retraining, to `Query`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Self

import numpy as np

from circuitsketch.arguments import HIGHEST, check_executor, check_int, is_int, quoted
from circuitsketch.arrays import plain_array
from circuitsketch.attribution.influence import Influence, TreeInfluence
from circuitsketch.attribution.prediction import Prediction, TreePrediction, in_units
from circuitsketch.attribution.series import ESTIMATORS, MeasuredSeries
from circuitsketch.attribution.validation import parse_downweights, real_vectors
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Basis, Given
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.checks import require_answers
from circuitsketch.estimators.gradients import GradientMonteCarlo
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.estimators.monte_carlo import MonteCarlo
from circuitsketch.limits import within_memory
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.reverse.metagradient import differentiate_run_along
from circuitsketch.training.subsets import NOTHING
from circuitsketch.training.training import Training


class PredictingSeries(MeasuredSeries):
    """A measured series that predicts; `Query`, which users hold, documents its attributes."""

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def predict(
        self, h: Any, *, estimator: str | None = None, order: int | None = None, median_groups: int | None = None
    ) -> Prediction:
        """Predict the measurement at x + h.

        Parameters
        ----------
        h : array_like, of shape (n,) or (B, n)
            One vector, or B of them.
        estimator : {"interactions", "per-example", "first-order", "theorem"}, optional
            "interactions": per-example series plus interactions, the default where there are per-example series;
            "per-example": without interactions; "first-order": the first orders alone, by a reverse sweep if there are
            no per-example series and the run is at hand; "theorem": random directions alone, unbiased, the default
            otherwise.
        order : int, optional
            Leave out the orders above this one.
        median_groups : int, optional
            Another number of groups of the theorem's median than the query's.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            For an h of another length, or not real and finite; for an estimator that the query has no data for; with
            given directions, for an h that is not a multiple of one.
        """
        h = real_vectors(h, self.n)
        chosen = self.choose_estimator(estimator)
        require_answers(self.measurement, 1 if h.ndim == 1 else len(h), self.order, chosen.working_bytes)
        estimate = self.judge(chosen.predict(h, order, median_groups), h, chosen)
        m = chosen.count if isinstance(chosen, GradientMonteCarlo) else len(self.coefficients)
        prediction = Prediction.of(estimate, self.first_value, m, self.unit, self.constancy)
        return prediction if self.structure is None else TreePrediction.packed(prediction, self.structure)

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
        """Predict the measurement without some training examples.

        Everything else stays: the order of steps, seeds and denominators; example i's loss is multiplied by 1 - w_i.

        Parameters
        ----------
        what : ids, mask, downweights, str, callable, or a list of these
            Ids, a mask, or downweights (1 = deleted); a label that is a string, or a list of labels; a function of an
            example's item that says whether it is deleted; a list of subsets, or a 2-D array of masks or downweights
            (B, n), to ask about B subsets at once.
        label : hashable, optional
            A label of any type, instead of `what`.
        estimator, order, median_groups : optional
            As for `predict`.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            For ids out of bounds, and for labels or items that are unknown.
        """
        h = self.downweights(what, label=label)
        return self.predict(h, estimator=estimator, order=order, median_groups=median_groups)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def downweights(self, what: Any, *, label: Any = NOTHING) -> np.ndarray:
        """Convert what `without` takes to downweights (n,), or (B, n)."""
        return parse_downweights(what, self.n, self.labels, self.items, label, self.unit)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def reweight(
        self,
        downweights: Any,
        *,
        estimator: str | None = None,
        order: int | None = None,
        median_groups: int | None = None,
    ) -> Prediction:
        """Predict the measurement under downweights.

        Parameters
        ----------
        downweights : array_like of float, of shape (n,) or (B, n)
            1 deletes an example, 0.5 halves its weight, -1 doubles it.
        estimator, order, median_groups : optional
            As for `predict`.

        Returns
        -------
        Prediction
        """
        weights = plain_array(downweights, "the array of downweights")
        if weights.dtype.kind in "iu" and weights.ndim and weights.shape[-1] == self.n:
            weights = weights.astype(np.float64)  # integers, one per example: here they cannot be ids
        if weights.dtype.kind != "f":
            text = f"reweight takes one float per example, n = {self.n} of them; for ids or a mask, use without"
            raise InputError(in_units(text, self.unit))
        return self.predict(self.downweights(weights), estimator=estimator, order=order, median_groups=median_groups)

    @within_memory("the answer", "fewer subsets at a time", "a measurement of fewer values")
    def influence(self, top: int = 10, *, estimator: str | None = None) -> Influence:
        """Predict all n leave-one-out changes, with their errors.

        Parameters
        ----------
        top : int
            How many of the largest are listed when the result is printed.
        estimator : str, optional
            As for `predict`. With per-example series the changes are these series, summed, and the errors what the
            series leave out. Without them, and with the run at hand, the default is "first-order": exact derivatives by
            a reverse sweep, whose errors are unknown; "theorem" estimates all orders from the random directions.

        Returns
        -------
        Influence
        """
        if not is_int(top, 1):
            raise InputError(f"the number of examples to show is an int of at least 1, not {quoted(top)}")
        chosen = self.choose_estimator(estimator)
        if estimator is None and chosen.name == "theorem" and isinstance(chosen, MonteCarlo) and self.knows_run:
            with suppress(CircuitSketchError):  # where there are no derivatives
                chosen = self.first_order
        if chosen.name == "per-example" and "interactions" in self.estimators:
            chosen = self.estimators["interactions"]  # the same for an example alone, evidence included
        require_answers(self.measurement, self.n, self.order if self.evidence else 0, chosen.working_bytes)
        influence = Influence.of(
            self.judge_effects(chosen.influence(), chosen),
            self.constancy,
            baseline=self.first_value,
            directions=chosen.count if isinstance(chosen, GradientMonteCarlo) else len(self.coefficients),
            shown=int(top),
            unit=self.unit,
            labels=self.labels,
            items=self.items,
        )
        return influence if self.structure is None else TreeInfluence.packed(influence, self.structure)

    def judge(self, estimate: Estimate, h: np.ndarray, estimator: Estimator) -> Estimate:
        """Widen an estimate by what the run says against it."""
        if self.checks is None:
            return estimate
        known = None if self.evidence is None else self.evidence.h[self.evidence.orders == 0]
        known = known if estimator.name == "interactions" else None
        return self.checks.apply(estimate, h, estimator, self.first_value, lambda: self.first_order_effects, known)

    def judge_effects(self, effects: Effects, estimator: Estimator) -> Effects:
        """Widen the effects of all examples alone by what the run says against them."""
        if self.checks is None or (self.evidence is not None and estimator.name == "interactions"):
            return effects
        return self.checks.apply_to_effects(effects, estimator, self.first_value, lambda: self.first_order_effects)

    @within_memory("the gradients", "fewer directions", "a measurement of fewer values", "threads=1")
    def with_gradients(
        self,
        directions: int = 64,
        order: int = 2,
        *,
        run: Training | None = None,
        threads: int | None = None,
        progress: Progress | bool | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """Differentiate the measurement along random directions: an unbiased estimator that is exact at first order.

        Reverse sweeps along the directions give n numbers each where a push gives one: order r + 1 is estimated with
        the variance that order r has from pushed directions.

        Parameters
        ----------
        directions : int
            The number of random directions, the first of the query's distribution.
        order : int
            The highest order of the estimates, at least 2.
        run : Training, optional
            The training run, if the sketch was opened without it.
        threads : int, optional
            The number of threads; by default all cores.
        progress : bool or callable, optional
            True for a progress bar, or a function of (steps done, steps).
        executor : concurrent.futures.Executor, optional
            Workers that share the directions, as for `metagradient`.

        Returns
        -------
        Query
            With the default estimator "theorem-gradient", and "first-order".

        Raises
        ------
        InputError
            For an order below 2, and for given directions; if what was measured is not known.
        DomainError, DivergenceError
            As for `metagradient`.

        Examples
        --------
        >>> import circuitsketch as cs
        >>> step = lambda s, x, keep: s + keep.sum() * x * (1 + s)
        >>> run = cs.Training(step, np.zeros(()), [0.1, 0.2, 0.3], [[0], [1], [2]])
        >>> query = cs.sketch(run, directions=1, order=1).measure(lambda s: s).with_gradients(directions=3)
        >>> round(query.without([0, 1]).value, 6), round(float(run.retrain(without=[0, 1])), 6)
        (0.3, 0.3)
        """
        check_int(directions, "directions", 1)
        check_int(order, "order", 2, HIGHEST)
        thread_count(threads, 1)
        check_executor(executor)
        source = self.known_source("with_gradients", run)
        if isinstance(self.distribution, Given | Basis):
            raise InputError(
                f"gradients are taken along random directions, and this query's are {self.distribution.name}"
            )
        assert source.run is not None
        series = self.with_source(source)
        with show_progress(progress, task="gradients", thing="step") as report:
            first = series.choose_estimator("first-order")
            rows = self.distribution.block(0, directions)
            coefficients = differentiate_run_along(
                source.run, source.measure, source.args, rows, order - 1, threads, report, executor
            )
        gradient = coefficients[0, 0].real.T
        own = GradientMonteCarlo(gradient, np.moveaxis(coefficients, 2, 3), self.distribution, self.shape)
        others = [one for one in self.estimators.values() if one.name not in (first.name, own.name)]
        return series.with_estimators([*others, first, own])

    def choose_estimator(self, name: str | None) -> Estimator:
        """Return an estimator by name, by default `estimator`; raise InputError if it is unknown, or lacks data."""
        if name is None:
            return self.estimators[self.estimator]
        if not isinstance(name, str) or name not in ESTIMATORS:
            raise InputError(f"there is no estimator {quoted(name)}; choose one of {', '.join(ESTIMATORS)}")
        if name == "first-order" and self.per_example is None and self.knows_run:
            return self.estimators.get(name) or self.first_order
        if name == "theorem-gradient" and name not in self.estimators:
            raise InputError(
                "estimator 'theorem-gradient' needs gradients along directions; use query.with_gradients()"
            )
        if name == "calibrated" and name not in self.estimators:
            raise InputError("estimator 'calibrated' weighs the others by retrained subsets; use query.calibrate()")
        if name == "pairs" and name not in self.estimators:
            raise InputError("estimator 'pairs' needs the effects of pairs; use cs.attribute with a larger budget")
        if name == "first-order" and name not in self.estimators and "per-example" in self.estimators:
            raise InputError("estimator 'first-order' needs derivatives, and there are none")
        if name not in self.estimators:
            raise InputError(
                f"estimator {name!r} needs every example's own series: make the sketch with per_example='series', or "
                "use "
                "estimator='theorem'"
            )
        return self.estimators[name]
