"""A measurement, ready for questions: what would it be at x + h, for any h?

In: a measured series (`MeasuredSeries`). Out: predictions, influences, stability, comparisons with retraining. For a
training run h are downweights (`without`, `reweight`); for a function of one's own, any vector (`predict`). How a
change is estimated is left to the estimators.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from circuitsketch.arguments import HIGHEST, check_executor, check_instance, check_int, is_int, quoted, refuse_device
from circuitsketch.arrays import plain_array
from circuitsketch.attribution.calibrate import calibrate_query, choose_subsets
from circuitsketch.attribution.evaluation import Evaluation, check_truth, score
from circuitsketch.attribution.ground_truth import ids_of_largest_errors
from circuitsketch.attribution.influence import Influence, TreeInfluence
from circuitsketch.attribution.prediction import Prediction, TreePrediction, in_units
from circuitsketch.attribution.series import ESTIMATORS, MeasuredSeries
from circuitsketch.attribution.validation import parse_downweights, real_vectors
from circuitsketch.backends.registry import check_device
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Basis, Given
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.estimators.checks import require_answers
from circuitsketch.estimators.gradients import GradientMonteCarlo
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.estimators.monte_carlo import MonteCarlo
from circuitsketch.limits import within_memory
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.reverse.metagradient import differentiate_run_along
from circuitsketch.store.kept_calibrations import KeptCalibration
from circuitsketch.training.subsets import NOTHING
from circuitsketch.training.training import Training


class Query(MeasuredSeries):
    """A measurement's Taylor coefficients along directions, ready for questions.

    `sketch.measure` and `local_sketch` make queries. For coefficients of one's own, the constructor takes the
    parameters of `circuitsketch.attribution.series.MeasuredSeries`.

    Attributes
    ----------
    baseline : float, ndarray or pytree
        The measurement at h = 0.
    n : int
        The number of coordinates of h: of examples, or groups, for a training run.
    shape, order : tuple of int, int
        The shape of the measurement, and the highest order of its series.
    estimator : str
        The estimator that answers if none is named; `estimators` holds all of them by name.
    coefficients, per_example : ndarray
        The Taylor coefficients along the directions, and every example's own series, or None.
    labels, items : tuple, or None
        Of the examples.
    source : Source, or None
        The run, the function and its arguments that were measured.

    Examples
    --------
    >>> from circuitsketch.directions import Given
    >>> line = Given(np.array([[1.0, 2.0]]))
    >>> query = Query(np.array([[5.0, 3.0, 1.0]]), line)     # 5 + 3 t + t^2 at h = t (1, 2)
    >>> query.predict([2.0, 4.0]).value
    15.0
    """

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

    # -------------------------------------------------------------------------------- retraining

    @within_memory("the evaluation", "fewer subsets", "a measurement of fewer values")
    def evaluate(
        self,
        subsets: Any,
        *,
        truth: Any = None,
        run: Training | None = None,
        threads: int | None = None,
        device: str = "cpu",
        executor: Executor | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Evaluation:
        """Compare predictions with retraining.

        Parameters
        ----------
        subsets : list of ids, masks or downweights, or 2-D array
            At least two subsets, in the forms of `without`.
        truth : array_like, of shape (subsets, *measurement), optional
            The values after retraining, if they are known; by default the run is retrained without each subset.
        run : Training, optional
            The training run, if the sketch was opened without it.
        threads, device, executor : optional
            Of the retraining, as for `Training.retrain`.
        seed : int
            Of the bootstrap.
        **options
            Of `predict`: estimator, order, median_groups.

        Returns
        -------
        Evaluation

        Raises
        ------
        InputError
            For fewer than two subsets; for truths of another shape; if there is no truth and what was measured is not
            known.
        DeviceError
            If there is no such device.

        Examples
        --------
        >>> import circuitsketch as cs
        >>> step = lambda s, x, keep: s + keep.sum() * x
        >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0, 2.0], [[0], [1], [2]])
        >>> scores = cs.sketch(run, directions=3, order=1).measure(lambda s: s).evaluate([[0], [1], [0, 2], [1, 2]])
        >>> round(scores.lds, 6), round(scores.rmse, 6)
        (1.0, 0.0)
        """
        refuse_device(check_executor(executor), check_device(device))
        thread_count(threads, 1)
        check_int(seed, "seed", 0, 2**64 - 1)
        weights = self.downweights(subsets)
        if weights.ndim != 2 or len(weights) < 2:
            raise InputError("an evaluation needs a list of at least two subsets: scores are over subsets")
        if truth is None:
            truth = self.known_source("evaluate", run).retrain(weights, threads, device, executor)
        elif self.structure is not None:
            truth = self.structure.flat(truth, 1)
        truth = check_truth(truth, (len(weights), *self.shape))
        prediction = self.predict(weights, **options).flattened()
        return score(prediction, truth, weights == 1 if np.isin(weights, (0, 1)).all() else None, seed)

    @within_memory("the calibration", "a smaller count", "threads=1")
    def calibrate(
        self,
        subsets: Any = None,
        *,
        kind: str | None = None,
        size: Any = None,
        count: int | None = None,
        truth: Any = None,
        run: Training | None = None,
        threads: int | None = None,
        device: str = "cpu",
        executor: Executor | None = None,
        seed: int = 0,
    ) -> Query:
        """Retrain subsets of the kind that will be asked about, and weigh the estimators by them.

        The result predicts by a weighted sum of this query's estimators, never much worse than the best of them or than
        "no change", and its intervals hold for subsets like those that were retrained, whatever the run is like; it
        warns of others. 19 subsets are enough for intervals of 95 %, 99 for 99 %.

        Parameters
        ----------
        subsets : list of ids, masks or downweights, or 2-D array, optional
            The subsets to retrain, in the forms of `without`; by default they are drawn.
        kind : {"mixed", "random", "label"}, optional
            Of drawn subsets: half of them any examples and half examples that act alike (those that move the parameters
            alike, or share a label), each with intervals of their own, the default for 40 or more if every example's
            own effect is known; any examples; or examples that share a label.
        size : int or (int, int), optional
            Of drawn subsets: the number of examples, or its smallest and largest value; by default up to a tenth of the
            examples at random, or up to all with a label.
        count : int, optional
            Of drawn subsets: how many; by default 48.
        truth : array_like, of shape (subsets, *measurement), optional
            The values after retraining, if they are known.
        run, threads, device, executor : optional
            As for `evaluate`.
        seed : int
            Of drawn subsets.

        Returns
        -------
        Query
            With the default estimator "calibrated"; `worth` says what it is worth.

        Raises
        ------
        InputError
            For fewer than eight subsets, or sizes that there are not; if there is no truth, and what was measured is
            not known.
        DeviceError
            If there is no such device.

        Examples
        --------
        >>> import circuitsketch as cs
        >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
        >>> run = cs.Training(step, np.zeros(()), np.linspace(0, 1, 50), [[i] for i in range(50)])
        >>> query = cs.sketch(run, directions=0, order=1, per_example="series").measure(lambda s: s)
        >>> calibrated = query.calibrate(size=5, count=24)
        >>> low, high = calibrated.without([3, 17, 22, 31, 44]).interval(0.9)
        >>> low < float(run.retrain(without=[3, 17, 22, 31, 44])) < high
        True
        """
        refuse_device(check_executor(executor), check_device(device))
        thread_count(threads, 1)
        check_int(seed, "seed", 0, 2**64 - 1)
        if run is not None:
            check_instance(run, "run", Training, "the cs.Training that was measured")
        retrained = choose_subsets(self, subsets, kind, size, count, seed, has_truth=truth is not None)
        rows = retrained.rows
        if truth is None:
            truth = self.known_source("calibrate", run).retrain(rows, threads, device, executor)
        elif self.structure is not None:
            truth = self.structure.flat(truth, 1)
        truth = check_truth(truth, (len(rows), *self.shape)).reshape(len(rows), -1)
        return calibrate_query(self, replace(retrained, changes=truth - np.reshape(self.first_value, -1)))

    def keep_calibration(self) -> str:
        """Keep what this query was calibrated on in the sketch's folder; `sketch.query` takes it in again.

        Kept are the subsets and what the measurement changed by, with digests; weights and intervals follow from them.

        Returns
        -------
        str
            The folder, within that of the sketch.

        Raises
        ------
        InputError
            If the query was not calibrated, or the sketch is not on disk.
        StoreError
            If the folder cannot be written.

        Examples
        --------
        >>> import tempfile, circuitsketch as cs
        >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
        >>> run = cs.Training(step, np.zeros(()), np.linspace(0, 1, 50), [[i] for i in range(50)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sketch = cs.sketch(run, directions=0, order=1, per_example="series", path=folder + "/a.sketch")
        ...     calibrated = sketch.measure(lambda s: s).calibrate(size=5, count=24)
        ...     kept = calibrated.keep_calibration()
        ...     again = cs.open_sketch(folder + "/a.sketch").query(lambda s: s)
        ...     again.without([3, 17]).interval() == calibrated.without([3, 17]).interval()
        True
        """
        calibrated = self.estimators.get("calibrated")
        if not isinstance(calibrated, Calibrated):
            raise InputError("only a calibrated query has a calibration to keep; call query.calibrate() before")
        if self.calibrations is None:
            raise InputError("a calibration is kept in its sketch's folder; make the sketch with path=")
        retrained = calibrated.retrained
        kept = KeptCalibration(retrained.kind, retrained.sizes, retrained.rows, retrained.changes)
        return self.calibrations.write(kept)

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
    ) -> Query:
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

    @within_memory("retraining", "a smaller count", "threads=1")
    def retrain_worst(
        self,
        count: int = 16,
        *,
        run: Training | None = None,
        threads: int | None = None,
        device: str = "cpu",
        executor: Executor | None = None,
    ) -> Query:
        """Retrain without each of the few examples whose own series leaves out most, and take the results in.

        Each is one training, and all are done at once. On a small GPT with 1,000 names, sixteen of them make
        predictions of random subsets as good as the summed effects of 1,000 examples that were each retrained without:
        the series of the first few names, which the optimiser saw before it had averaged much, converge slowly.

        Parameters
        ----------
        count : int
            How many examples, at most.
        run : Training, optional
            The training run, if the sketch was opened without it.
        threads, device, executor : optional
            Of the retraining, as for `Training.retrain`.

        Returns
        -------
        Query
            The query `with_evidence` of these examples; itself if every example's series ends.

        Raises
        ------
        InputError
            For a count below 1; without random directions of order 2 and per-example series; if what was measured is
            not known.
        DeviceError
            If there is no such device.

        Examples
        --------
        >>> import circuitsketch as cs
        >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
        >>> run = cs.Training(step, np.zeros(()), [1.0, 2.0, 0.5], [[0], [1], [2]])
        >>> query = cs.sketch(run, directions=3, order=2, per_example="series").measure(lambda s: s)
        >>> truth = float(run.retrain(without=[1]))
        >>> [round(abs(q.without([1]).value - truth), 3) for q in (query, query.retrain_worst(count=1))]
        [0.048, 0.0]
        """
        refuse_device(check_executor(executor), check_device(device))
        if not is_int(count, 1):
            raise InputError(f"the number of examples to retrain without is an int of at least 1, not {quoted(count)}")
        source = self.known_source("retrain_worst", run)
        if self.interactions is None:
            raise InputError(
                "a sketch with random directions of order 2 and per_example='series' can take in retrainings"
            )
        ids = ids_of_largest_errors(self.influence(), count)
        if not ids.size:
            return self
        one_each = np.eye(self.n)[ids]
        truth = check_truth(source.retrain(one_each, threads, device, executor), (len(ids), *self.shape))
        return self.with_evidence(one_each, truth)

    def explore(self, name: str | None = None, *, calibrate: int | None = None) -> Any:
        """Show the examples and their effects in a notebook, on a page that answers about any subset.

        The page sums single examples' effects in the browser and needs no server.

        Parameters
        ----------
        name : str, optional
            Of the measurement, by default that of its function.
        calibrate : int, optional
            The number of random subsets to retrain first, which give intervals: by default 48 if the run is at hand and
            the query is not calibrated, otherwise 0.

        Returns
        -------
        Explorer
            A notebook shows it as the page; `save(path)` writes the page to a file.

        Raises
        ------
        InputError
            If the effects of single examples are not known.

        Examples
        --------
        >>> import circuitsketch as cs
        >>> step = lambda s, x, keep: s + keep.sum() * x
        >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0], [[0], [1]])
        >>> cs.sketch(run, directions=0, order=1, per_example="series").measure(lambda s: s).explore("sum", calibrate=0)
        <page about sum, 2 examples: show it in a notebook, or save(path)>
        """
        # The page lies above this room, so it is asked for by name, as backends are. The package's __init__ cannot bind
        # it instead: rooms beside and below the page import from there, and would then stand above it.
        return import_module("circuitsketch.page.notebook").explore(self, name, calibrate)

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
