"""The demo: predict the losses of a microgpt without groups of names within a budget, and retrain to check.

In: `Settings`. Out: `Demo`, a frozen record of predictions and retrained losses. `prepare` traces, `run_experiment`
computes; neither prints, progress is reported to a callback. A question is about a name and the names that share some
of its letters. Questions are drawn at random from all of these, and so is what the predictions are calibrated on:
intervals hold for questions that were picked as those of the calibration were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.zoo import microgpt

LEVEL = 0.95  # of the intervals
LEAST_BUDGET = 40  # trainings: the derivatives of the losses, and a calibration
CALIBRATED_ON = 48  # questions whose answers are retrained beforehand, at most
ASKED = 7  # questions
StageProgress = Callable[[str, float, int], None]  # stage, parts done, number of parts

# Whose losses are measured.
NAMES = "max alex jacqueline elizabeth patrick lynette theodore zachary olivia william josephine matthew".split()
LETTERS = 3  # at most, that make a group of the names that contain them
SIZES = (0.005, 0.05)  # of a group, as shares of the names; but two to eight names at least


@dataclass(frozen=True)
class Settings:
    """The options of the demo.

    Attributes
    ----------
    budget : float
        What the predictions may cost, in trainings.
    steps : int
        Train on this many names, the most common first, one per step.
    seed : int
        The seed of the initial parameters and of the questions.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> Settings(steps=100).budget
    500
    """

    budget: float = 500
    steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.budget) or self.budget < LEAST_BUDGET:
            raise InputError(f"budget must be at least {LEAST_BUDGET} trainings, not {self.budget:g}")
        if self.seed < 0:
            raise InputError(f"seed must be non-negative, not {self.seed}")
        count = len(microgpt.names())
        if not 1 <= self.steps <= count:
            raise InputError(f"steps must be from 1 to {count}, the number of names, not {self.steps}")


@dataclass(frozen=True)
class Question:
    """A deletion and a measurement: the loss on `name` without the names `ids`, which contain `letters`."""

    name: str
    letters: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Experiment:
    """A traced training run, the questions to answer, and those to calibrate on."""

    settings: Settings
    run: Any
    questions: tuple[Question, ...]
    known: tuple[Question, ...]


@dataclass(frozen=True)
class Answer:
    """The prediction and the retrained loss of a question; losses in nats per token.

    Attributes
    ----------
    question : Question
        The deletion and the measurement.
    baseline : float
        The loss as trained, on all names.
    predicted, stderr, low, high : float
        The prediction, its standard error, and the ends of its 95 % interval.
    first_order : float
        The prediction to first order.
    retrained : float
        The loss after training without the group.
    warnings : tuple of str
        The warnings of the prediction.
    """

    question: Question
    baseline: float
    predicted: float
    stderr: float
    low: float
    high: float
    first_order: float
    retrained: float
    warnings: tuple[str, ...] = ()

    @property
    def covered(self) -> bool:
        """Whether the retrained loss lies in the interval."""
        return self.low <= self.retrained <= self.high

    def as_dict(self) -> dict[str, Any]:
        """Return values for JSON; numbers that are not finite become None."""
        numbers = {
            "baseline": self.baseline,
            "predicted": self.predicted,
            "stderr": self.stderr,
            "low": self.low,
            "high": self.high,
            "first_order": self.first_order,
            "retrained": self.retrained,
        }
        return {
            "name": self.question.name,
            "without": f"names with {self.question.letters}",
            "deleted": len(self.question.ids),
            **{key: value if math.isfinite(value) else None for key, value in numbers.items()},
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Attributes
    ----------
    settings : Settings
        The options.
    size : int
        size(A), the number of scalar gates of the training run.
    answers : tuple of Answer
        All answers, the main one first.
    seconds : dict
        Wall time by stage: train, attribute, predict, retrain.
    plan, worth : str
        What the budget was spent on, and what the predictions are worth on groups left out.
    """

    settings: Settings
    size: int
    answers: tuple[Answer, ...]
    seconds: dict[str, float]
    plan: str = ""
    worth: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the values of `circuitsketch demo --json`: the main answer at the top level, all in `groups`."""
        return {
            "size": self.size,
            "steps": self.settings.steps,
            "budget": self.settings.budget,
            "plan": self.plan,
            "worth": self.worth,
            "seed": self.settings.seed,
            **self.answers[0].as_dict(),
            "seconds": round(sum(self.seconds.values()), 3),
            "stages": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
            "groups": [answer.as_dict() for answer in self.answers],
        }


def prepare(settings: Settings) -> Experiment:
    """Trace the training of a microgpt on the first names, and draw the questions.

    Parameters
    ----------
    settings : Settings
        The options.

    Returns
    -------
    Experiment
        The run and the questions.

    Raises
    ------
    InputError
        If there are too few names, and so too few groups.

    Examples
    --------
    >>> experiment = prepare(Settings(steps=60))
    >>> len(experiment.questions), len(experiment.known), len(experiment.questions[0].ids)
    (7, 38, 2)
    """
    names = microgpt.names()
    drawn = draw_questions(names[: settings.steps], settings.seed)
    if len(drawn) <= MIN_SUBSETS:
        steps = range(settings.steps + 1, len(names) + 1)
        least = next(some for some in steps if len(draw_questions(names[:some], settings.seed)) > MIN_SUBSETS)
        raise InputError(
            f"steps must be at least {least}, not {settings.steps}: so few names have too few letters in common"
        )
    asked = min(ASKED, len(drawn) - MIN_SUBSETS)
    run = microgpt.training(names[: settings.steps], seed=settings.seed, alphabet=microgpt.ALPHABET)
    return Experiment(settings, run, drawn[:asked], drawn[asked : asked + CALIBRATED_ON])


def draw_questions(names: Sequence[str], seed: int) -> tuple[Question, ...]:
    """Return all questions of different groups, in random order.

    A group is all names that contain some letters, up to LETTERS of them, of one of NAMES; the question about it is the
    loss on that name, on one of them where there are several.
    """
    low, high = (max(least, int(share * len(names))) for least, share in zip((2, 8), SIZES, strict=True))
    by_group: dict[tuple[int, ...], list[Question]] = {}
    for name in NAMES:
        letters = {name[j : j + size] for size in range(1, LETTERS + 1) for j in range(len(name) - size + 1)}
        for part in sorted(letters):
            ids = tuple(i for i, other in enumerate(names) if part in other)
            if low <= len(ids) <= high:
                by_group.setdefault(ids, []).append(Question(name, part, ids))
    rng = np.random.default_rng(seed)
    one_each = [questions[rng.integers(len(questions))] for questions in by_group.values()]
    return tuple(one_each[i] for i in rng.permutation(len(one_each)))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record the wall time of a block."""
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin


def run_experiment(experiment: Experiment, progress: StageProgress = lambda stage, done, total: None) -> Demo:
    """Train, attribute within the budget, predict, and retrain without each group to check.

    Parameters
    ----------
    experiment : Experiment
        The run and the questions, from `prepare`.
    progress : callable
        Called as `progress(stage, done, total)`, with the stages "train", "attribute", "predict" and "retrain".

    Returns
    -------
    Demo
        The result.
    """
    settings, run, questions = experiment.settings, experiment.run, experiment.questions
    seconds: dict[str, float] = {}

    with timed(seconds, "train"):
        progress("train", 0, 1)
        run.train()
        progress("train", 1, 1)

    measured = list(dict.fromkeys(question.name for question in (*questions, *experiment.known)))

    def losses(params: Any) -> Any:
        return np.stack([microgpt.loss(params, name) for name in measured])

    with timed(seconds, "attribute"):
        query = cs.attribute(
            run,
            losses,
            budget=settings.budget,
            subsets=[list(question.ids) for question in experiment.known],
            values=[measured.index(question.name) for question in experiment.known],
            progress=lambda done, total: progress("attribute", done, total),
        )

    with timed(seconds, "predict"):
        predictions = [query.without(list(question.ids)) for question in questions]
        first_orders = [query.without(list(question.ids), estimator="first-order").value for question in questions]
        progress("predict", len(questions), len(questions))

    with timed(seconds, "retrain"):
        deletions = list(dict.fromkeys(question.ids for question in questions))  # once each, in order
        models = {}
        for done, ids in enumerate(deletions):
            progress("retrain", done, len(deletions))
            models[ids] = run.params(run.retrain(without=list(ids)))
        progress("retrain", len(deletions), len(deletions))

    answers = []
    for question, prediction, first_order in zip(questions, predictions, first_orders, strict=True):
        low, high = prediction.interval(LEVEL)
        of_all = (prediction.baseline, prediction.value, prediction.stderr, low, high, first_order)
        at = measured.index(question.name)
        baseline, predicted, stderr, low, high, first_order = (float(np.asarray(values)[at]) for values in of_all)
        is_warned = bool(np.asarray(prediction.outside)[at]) or not math.isfinite(low)
        answers.append(
            Answer(
                question=question,
                baseline=baseline,
                predicted=predicted,
                stderr=stderr,
                low=low,
                high=high,
                first_order=first_order,
                retrained=float(microgpt.loss(models[question.ids], question.name)),
                warnings=tuple(map(str, prediction.warnings)) if is_warned else (),
            )
        )
    return Demo(settings, int(run.size), tuple(answers), seconds, str(query.plan), str(query.worth))
