"""The demo: predict the losses of a microgpt without groups of names within a budget, and retrain to check.

In: `Settings`. Out: `Demo`, a frozen record of predictions and retrained losses. `prepare` traces, `run_experiment`
computes; neither prints, progress is reported to a callback. The predictions are calibrated on groups like those asked
about: the names that share a pair of letters.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import microgpt

LEVEL = 0.95  # of the intervals
LEAST_BUDGET = 40  # trainings: the derivatives of the losses, and a calibration
CALIBRATED_ON = 48  # groups of names
StageProgress = Callable[[str, float, int], None]  # stage, parts done, number of parts

# Letters, which make a group of the names that contain them, and names whose loss may depend on that group.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x", ("max", "alex")),
    ("q", ("jacqueline",)),
    ("z", ("elizabeth",)),
    ("ck", ("patrick",)),
    ("ette", ("lynette",)),
    ("th", ("theodore",)),
)


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
        The seed of the initial parameters and of the choice of groups to calibrate on.

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
    """A traced training run, and the questions to answer."""

    settings: Settings
    run: Any
    questions: tuple[Question, ...]


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
    """Trace the training of a microgpt on the first names, and select the groups that occur among them.

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
        If no group occurs, because there are too few names.

    Examples
    --------
    >>> [question.letters for question in prepare(Settings(steps=20)).questions]
    ['z', 'th']
    """
    names = microgpt.names()
    questions = []
    for letters, measured in GROUPS:
        ids = tuple(i for i, name in enumerate(names[: settings.steps]) if letters in name)
        if ids:
            questions += [Question(name, letters, ids) for name in measured]
    if not questions:
        least = 1 + min(i for i, name in enumerate(names) if any(letters in name for letters, _ in GROUPS))
        raise InputError(
            f"steps must be at least {least}, not {settings.steps}: no group of the demo occurs in fewer names"
        )
    run = microgpt.training(names[: settings.steps], seed=settings.seed, alphabet=microgpt.ALPHABET)
    return Experiment(settings, run, tuple(questions))


def groups_like_those(experiment: Experiment) -> np.ndarray:
    """Return masks of up to CALIBRATED_ON groups of names that share letters, none of which is asked about.

    The groups have the sizes of those that are asked about, as far as the names have them.
    """
    names = microgpt.names()[: experiment.settings.steps]
    members: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        for part in {name[j : j + size] for size in (1, 2, 3) for j in range(len(name) - size + 1)}:
            members[part].append(i)
    sizes = [len(question.ids) for question in experiment.questions]
    asked = {question.ids for question in experiment.questions}
    low, high = max(2, min(sizes)), max(*sizes, 4)
    groups = sorted({tuple(ids) for ids in members.values() if low <= len(ids) <= high} - asked)
    rng = np.random.default_rng(experiment.settings.seed)
    measured = {question.name for question in experiment.questions}
    alike = {tuple(members[part]) for part in members for name in measured if part in name}
    # Uniform in the logarithm of the size, since small groups are far more frequent; half of them share letters with a
    # name that is measured, as the groups that are asked about do.
    weights = 1.0 / np.array([sum(abs(math.log(len(a) / len(b))) < 0.5 for b in groups) for a in groups])
    related = np.array([group in alike for group in groups])
    if related.any() and not related.all():
        weights = np.where(related, weights / weights[related].sum(), weights / weights[~related].sum())
    chosen = rng.choice(len(groups), min(CALIBRATED_ON, len(groups)), replace=False, p=weights / weights.sum())
    masks = np.zeros((len(chosen), len(names)), dtype=bool)
    for mask, group in zip(masks, chosen, strict=True):
        mask[list(groups[group])] = True
    return masks


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

    measured = list(dict.fromkeys(question.name for question in questions))

    def losses(params: Any) -> Any:
        return np.stack([microgpt.loss(params, name) for name in measured])

    with timed(seconds, "attribute"):
        query = cs.attribute(
            run,
            losses,
            budget=settings.budget,
            subsets=groups_like_those(experiment),
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
