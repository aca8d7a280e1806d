"""What a page shows and answers, as plain values: examples, effects, predictions, curves, terms, pairs, warnings.

In: one or several measured queries. Out: values that JSON can hold. No web library and no file is touched; `server`,
`static_page` and `notebook` show the same view. Several people may ask at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from circuitsketch.arguments import check_int, is_int, quoted
from circuitsketch.attribution.calibrate import choose_kept_drawn, choose_subsets
from circuitsketch.attribution.formatting import to_json
from circuitsketch.attribution.left_out import compare_left_out
from circuitsketch.attribution.query import Query
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.page.answers import LEVEL, STRENGTHS, explaining, predict_query
from circuitsketch.page.examples import describe_examples, encode_images
from circuitsketch.page.plain_words import plain_words
from circuitsketch.page.retrained import (
    CHECKED,
    Check,
    Retrained,
    retrain_finite,
    retrain_values,
    score_points,
)
from circuitsketch.page.trust import describe_trust
from circuitsketch.page.values import Value, columns_of, list_values
from circuitsketch.store.header import versions
from circuitsketch.training.training import Training

IMAGES = 600_000  # bytes of pictures that a page holds
DIGITS = 9  # of the numbers that a browser gets

COUNTERFACTUAL = (
    "Without an example, its loss counts 0 times in the training; the order of the examples, the random seeds and the "
    "denominators of means stay the same."
)


class View:
    """One or several measurements of one sketch, ready for questions.

    Parameters
    ----------
    queries : mapping of str to Query
        Of the same run, by the names of their measurements.
    title : str
        What the page is about, such as the path of the sketch.
    about : sequence of (str, str)
        Facts of the sketch, by name.
    load_run : callable, optional
        Returns the run, if the queries do not know it; called when something is retrained first.

    Raises
    ------
    InputError
        If there are no queries, or too many values; if their examples differ in number.

    Examples
    --------
    >>> import circuitsketch as cs
    >>> step = lambda s, x, keep: s + keep.sum() * x
    >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> view = View({"sum": cs.sketch(run, 0, 1, per_example="series").measure(lambda s: s)})
    >>> view.ask([1])["values"][0]["value"]
    1.0
    """

    def __init__(
        self,
        queries: Mapping[str, Query],
        *,
        title: str = "",
        about: Sequence[tuple[str, str]] = (),
        load_run: Callable[[], Training] | None = None,
    ) -> None:
        if not queries:
            raise InputError("a page needs at least one measurement")
        first = next(iter(queries.values()))
        if any(query.n != first.n for query in queries.values()):
            raise InputError("the measurements of a page are of the same examples; measure one sketch")
        self.bases, self.queries = dict(queries), dict(queries)
        self.n, self.unit, self.labels, self.items = first.n, first.unit, first.labels, first.items
        self.title, self.about, self.load_run = title, tuple(about), load_run
        self.values: list[Value] = list_values(queries)
        calibrated = {name: query.estimators.get("calibrated") for name, query in queries.items()}
        self.retrained = Retrained(
            {name: one.retrained for name, one in calibrated.items() if isinstance(one, Calibrated)}
        )
        self.lock = threading.RLock()  # of queries and retrained, and of estimators, which fit on first use
        self.training = threading.Lock()  # one retraining at a time; questions are answered meanwhile
        self.effects, self.effect_errors, self.effect_warnings = self._measure_effects()

    # ------------------------------------------------------------------------------------- what there is

    def _measure_effects(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the effects of all examples alone and their errors, (n, V) each, and warnings."""
        changes, errors, warnings = [], [], []
        for name, query in self.bases.items():
            estimator = explaining(query)
            influence = query.influence(estimator=None if estimator in ("theorem", "series") else estimator)
            flat = influence.flattened()
            changes.append(columns_of(flat.change, 1))
            errors.append(columns_of(flat.stderr, 1))
            warnings += [self._word(name, text) for text in flat.warnings]
        return np.concatenate(changes, axis=1), np.concatenate(errors, axis=1), list(dict.fromkeys(warnings))

    @property
    def can_retrain(self) -> bool:
        """Whether the run and what was measured are at hand."""
        known = all(query.source is not None for query in self.bases.values())
        return known and (self.load_run is not None or next(iter(self.bases.values())).knows_run)

    def describe(self) -> dict[str, Any]:
        """Return everything that a page shows before a question: the examples, their effects, and what to trust."""
        return {
            "version": versions()["circuitsketch"],
            "title": self.title,
            "unit": self.unit,
            "n": self.n,
            "level": LEVEL,
            "about": [list(pair) for pair in self.about],
            "trust": self.describe_trust(),
            "counterfactual": COUNTERFACTUAL,
            "can_retrain": self.can_retrain,
            "values": [
                {
                    "name": value.name,
                    "baseline": value.baseline,
                    "effects": rounded(self.effects[:, i]),
                    "stderr": rounded(self.effect_errors[:, i]),
                }
                for i, value in enumerate(self.values)
            ],
            "effect_warnings": self.effect_warnings,
            "labels": describe_examples(self.labels),
            "items": None if self.unit == "group" else describe_examples(self.items),
            "images": encode_images(self.items, IMAGES),
        }

    def describe_trust(self) -> dict[str, Any]:
        """Return what the intervals rest on, in a sentence, and per measurement how far predictions can be trusted."""
        with self.lock:
            queries, retrained = dict(self.queries), self.retrained
        return describe_trust(queries, retrained, self.unit)

    def _word(self, name: str, sentence: str) -> str:
        """Return a sentence for the page: of which measurement, and without calls of Python."""
        return (f"{name}: " if len(self.bases) > 1 else "") + plain_words(sentence)

    def columns(self, name: str) -> list[int]:
        """Return which values are those of a measurement."""
        return [i for i, value in enumerate(self.values) if value.measurement == name]

    # ------------------------------------------------------------------------------------- questions

    def parse_ids(self, ids: Any) -> list[int]:
        """Return the distinct ids of a subset, sorted; raise InputError if one does not exist."""
        if not isinstance(ids, list | tuple | np.ndarray | range):
            raise InputError(f"a subset is a list of ids, not {quoted(ids)}")
        for one in ids:
            if not is_int(one, 0, self.n - 1):
                raise InputError(f"there is no {self.unit} {quoted(one)}; ids go from 0 to {self.n - 1}")
        return sorted({int(one) for one in ids})

    def ask(self, ids: Any) -> dict[str, Any]:
        """Predict every value without a subset.

        Parameters
        ----------
        ids : sequence of int
            The examples; there may be none.

        Returns
        -------
        dict
            "ids"; "values", one per value with "value", "change", "low", "high", "curve" (lists over "strengths"),
            "terms" and "pairs"; "warnings"; "words", what the prediction rests on; "truth", if it was retrained;
            "seconds".
        """
        begin = time.perf_counter()
        chosen = self.parse_ids(ids)
        with self.lock:
            answer = self._predict(chosen) if chosen else self._as_trained()
            answer["truth"] = self._truth(chosen)
        return {"ids": chosen, "strengths": STRENGTHS.tolist(), **answer, "seconds": time.perf_counter() - begin}

    def _as_trained(self) -> dict[str, Any]:
        values = []
        for value in self.values:
            same = [value.baseline] * len(STRENGTHS)
            curve = {"value": same, "low": same, "high": same}
            ends = {"low": value.baseline, "high": value.baseline}
            values.append(
                {"value": value.baseline, "change": 0.0, **ends, "curve": curve, "terms": [], "pairs": [], "outside": 0}
            )
        return {"values": values, "warnings": [], "words": "the trained model", "pair_note": ""}

    def _predict(self, ids: list[int]) -> dict[str, Any]:
        answers = []
        warnings: list[str] = []
        words: list[str] = []
        for name, query in self.queries.items():
            answer = predict_query(query, ids, self.effects[:, self.columns(name)])
            answers.append(answer)
            warnings += [self._word(name, text) for text in answer.warnings]
            words.append(self._word(name, answer.words))
        return {
            "values": [value for answer in answers for value in answer.values],
            "warnings": list(dict.fromkeys(warnings)),
            "words": "; ".join(dict.fromkeys(words)),
            "pair_note": next((answer.pair_note for answer in answers if answer.pair_note), ""),
        }

    def _truth(self, ids: list[int]) -> dict[str, Any] | None:
        for check in reversed(self.retrained.checks):
            if list(check.ids) == ids:
                return {"strengths": list(CHECKED), "values": to_json(check.truths.T)}
        return None

    # ------------------------------------------------------------------------------------- retraining

    def run(self) -> Training:
        """Return the run. InputError: it is not at hand."""
        first = next(iter(self.bases.values()))
        if first.source is not None and first.source.run is not None:
            return first.source.run
        if self.load_run is None:
            raise InputError("training again needs the run: start the page with --run module:function")
        return self.load_run()

    def calibrate(self, count: int = 48, largest: int | None = None, seed: int = 0) -> None:
        """Retrain subsets, random ones and ones of examples that act alike, which give the intervals.

        Those whose training diverges are left out.

        Parameters
        ----------
        count : int
            How many subsets.
        largest : int, optional
            The largest number of examples in one, by default a tenth of all; the smallest is two.
        seed : int
            The same seed draws the same subsets.
        """
        check_int(count, "count", 1)
        small = min(2, self.n)
        size = (small, max(small, self.n // 10) if largest is None else largest)
        subsets = choose_subsets(next(iter(self.bases.values())), None, None, size, count, seed, has_truth=False)
        rows = subsets.rows
        finite, values = retrain_finite(self.bases, self.run(), rows)
        changes = values - [value.baseline for value in self.values]
        diverged = tuple(tuple(np.flatnonzero(row).tolist()) for row in rows[~finite])
        drawn = {
            name: replace(subsets, rows=rows[finite], changes=changes[:, self.columns(name)])
            for name in self.bases
            if finite.any()
        }
        with self.training:
            self._take_in(Retrained(drawn, self.retrained.checks, diverged))

    def take_in_kept(self, count: int = 1) -> bool:
        """Calibrate on drawn subsets that the sketch has kept, at least `count` of them.

        Returns
        -------
        bool
            Whether it has some of each measurement; those that it has are taken in all the same.
        """
        kept = {name: choose_kept_drawn(query) for name, query in self.bases.items()}
        drawn = {name: one for name, one in kept.items() if one is not None and len(one.rows) >= count}
        if drawn:
            with self.training:
                self._take_in(Retrained(drawn, self.retrained.checks))
        return len(drawn) == len(self.bases)

    def check(self, ids: Any) -> dict[str, Any]:
        """Retrain without a subset, take the result into the calibration, and answer again.

        Raises
        ------
        InputError
            If the subset is empty, or the run is not at hand.
        DivergenceError
            If the training diverges.
        """
        chosen = self.parse_ids(ids)
        if not chosen:
            raise InputError(f"nothing is left out: pick at least one {self.unit}")
        before = self.ask(chosen)["values"]
        h = np.zeros(self.n)
        h[chosen] = 1.0
        truths = retrain_values(self.bases, self.run(), np.outer(CHECKED, h))
        if not np.isfinite(truths).all():
            raise DivergenceError("what is measured is not finite after training without them")
        predicted, low, high = (
            np.array([np.nan if value[key] is None else value[key] for value in before])
            for key in ("value", "low", "high")
        )
        check = Check(tuple(chosen), predicted, low, high, truths)
        with self.training:
            old = self.retrained
            kept = tuple(one for one in old.checks if one.ids != check.ids)
            self._take_in(Retrained(old.drawn, (*kept, check), old.diverged))
        return self.ask(chosen)

    def _take_in(self, retrained: Retrained) -> None:
        queries = retrained.calibrate(self.bases, self.values)
        with self.lock:
            self.retrained, self.queries = retrained, queries

    def calibration(self) -> dict[str, Any]:
        """Return predicted against retrained values: subsets of the calibration, each predicted without itself, and
        what was checked, as it was predicted before."""
        with self.lock:
            queries, checks = dict(self.queries), self.retrained.checks
        views = []
        for i, value in enumerate(self.values):
            query = queries[value.measurement]
            points = compare_left_out(query, value.column, LEVEL)
            checked = [
                {
                    "ids": list(check.ids),
                    **{
                        key: to_json(part[i])
                        for key, part in zip(
                            ("predicted", "low", "high", "truth"),
                            (check.predicted, check.low, check.high, check.truths[-1]),
                            strict=True,
                        )
                    },
                }
                for check in checks
            ]
            views.append({"points": points, "checks": checked} | score_points(query, value.column, points))
        return {"values": views, "trust": self.describe_trust()}


def rounded(values: np.ndarray) -> list[float | None]:
    """Return numbers with the digits that a browser gets; None for what is not finite.

    >>> rounded(np.array([1 / 3, np.inf]))
    [0.333333333, None]
    """
    return [float(f"{x:.{DIGITS}g}") if np.isfinite(x) else None for x in values.tolist()]
