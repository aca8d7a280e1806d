"""A measurement, ready for questions: what would it be at x + h, for any h?

In: a series that predicts (`PredictingSeries`). Out: `Query`, which also retrains the run, to compare predictions with
the truth, to calibrate them, or to take in the examples that they know least of; and which shows itself on a page.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from circuitsketch.arguments import check_executor, check_instance, check_int, is_int, quoted, refuse_device
from circuitsketch.arrays import check_real_dtype
from circuitsketch.attribution.calibrate import calibrate_query, choose_subsets
from circuitsketch.attribution.evaluation import Evaluation, check_truth, score
from circuitsketch.attribution.ground_truth import ids_of_largest_errors
from circuitsketch.attribution.predicting_series import PredictingSeries
from circuitsketch.backends.registry import check_device
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.limits import within_memory
from circuitsketch.store.kept_calibrations import KeptCalibration
from circuitsketch.training.training import Training


class Query(PredictingSeries):
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

    @within_memory("the evaluation", "fewer subsets", "a measurement of fewer values")
    def evaluate(
        self,
        subsets: Any,
        *,
        truth: Any = None,
        run: Training | None = None,
        threads: int | None = None,
        dtype: Any = np.float64,
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
        threads, dtype, device, executor : optional
            Of the retraining, as for `Training.retrain`. With dtype="float32" a few subsets are retrained in float64
            too, and a `RoundingWarning` says if effects are not large against the rounding.
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

        Warns
        -----
        RoundingWarning
            If dtype is float32, and its rounding is not small against the effects.

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
        check_real_dtype(dtype)
        check_int(seed, "seed", 0, 2**64 - 1)
        weights = self.downweights(subsets)
        if weights.ndim != 2 or len(weights) < 2:
            raise InputError("an evaluation needs a list of at least two subsets: scores are over subsets")
        if truth is None:
            truth = self.known_source("evaluate", run).retrain(weights, threads, device, executor, dtype)
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
        dtype: Any = np.float64,
        device: str = "cpu",
        executor: Executor | None = None,
        seed: int = 0,
    ) -> Query:
        """Retrain subsets of the kind that will be asked about, and weigh the estimators by them.

        The result predicts by a weighted sum of this query's estimators and by what the subsets teach of the examples
        in them, never much worse than the best estimator or than "no change". Its intervals hold for subsets like those
        that were retrained, whatever the run is like; it warns of others. 19 subsets are enough for intervals of 95 %,
        99 for 99 %.

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
        run, threads, dtype, device, executor : optional
            As for `evaluate`. Intervals include the rounding of float32.
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
        check_real_dtype(dtype)
        check_int(seed, "seed", 0, 2**64 - 1)
        if run is not None:
            check_instance(run, "run", Training, "the cs.Training that was measured")
        retrained = choose_subsets(self, subsets, kind, size, count, seed, has_truth=truth is not None)
        rows = retrained.rows
        if truth is None:
            truth = self.known_source("calibrate", run).retrain(rows, threads, device, executor, dtype)
        elif self.structure is not None:
            truth = self.structure.flat(truth, 1)
        truth = check_truth(truth, (len(rows), *self.shape)).reshape(len(rows), -1)
        changes = truth - np.reshape(self.first_value, -1)
        return calibrate_query(self, replace(retrained, changes=changes, dtype=np.dtype(dtype).name))

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
        kept = KeptCalibration(retrained.kind, retrained.sizes, retrained.rows, retrained.changes, retrained.dtype)
        return self.calibrations.write(kept)

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
