"""The demo: predict the losses of a microgpt without groups of names, and retrain to check.

In: `Settings`. Out: `Demo`, a frozen record of predictions and retrained losses. `prepare` traces, `run_experiment`
computes; neither prints, progress is reported to a callback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import microgpt

LEVEL = 0.95  # of the intervals
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
    directions : int
        The number of random directions, in addition to the per-example series; at least 2.
    order : int
        The highest Taylor coefficient, at least 1.
    steps : int
        Train on this many names, the most common first, one per step.
    seed : int
        The seed of the initial parameters and of the directions.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> Settings(directions=64).order
    3
    """

    directions: int = 128
    order: int = 3
    steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.directions < 2:
            raise InputError(
                f"directions must be at least 2, not {self.directions}: errors are estimated from their spread"
            )
        if self.order < 1:
            raise InputError(f"order must be at least 1, not {self.order}")
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
        The prediction from the sketch, its standard error, and the ends of its 95 % interval.
    first_order : float
        The baseline plus the term of order 1.
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
        Wall time by stage: train, sketch, predict, retrain.
    """

    settings: Settings
    size: int
    answers: tuple[Answer, ...]
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the values of `circuitsketch demo --json`: the main answer at the top level, all in `groups`."""
        return {
            "size": self.size,
            "steps": self.settings.steps,
            "directions": self.settings.directions,
            "order": self.settings.order,
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


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record the wall time of a block."""
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin


def run_experiment(experiment: Experiment, progress: StageProgress = lambda stage, done, total: None) -> Demo:
    """Train, sketch, predict, and retrain without each group to check.

    Parameters
    ----------
    experiment : Experiment
        The run and the questions, from `prepare`.
    progress : callable
        Called as `progress(stage, done, total)`, with the stages "train", "sketch", "predict" and "retrain".

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

    with timed(seconds, "sketch"):
        sketch = cs.sketch(
            run,
            directions=settings.directions,
            order=settings.order,
            seed=settings.seed,
            per_example="series",
            progress=lambda done, total: progress("sketch", done, total),
        )

    with timed(seconds, "predict"):
        predictions = []
        for done, question in enumerate(questions):
            progress("predict", done, len(questions))
            predictions.append(sketch.measure(microgpt.loss, question.name).without(list(question.ids)))
        progress("predict", len(questions), len(questions))

    with timed(seconds, "retrain"):
        deletions = list(dict.fromkeys(question.ids for question in questions))  # once each, in order
        models = {}
        for done, ids in enumerate(deletions):
            progress("retrain", done, len(deletions))
            models[ids] = run.params(run.retrain(without=list(ids)))
        progress("retrain", len(deletions), len(deletions))

    answers = []
    for question, prediction in zip(questions, predictions, strict=True):
        low, high = prediction.interval(LEVEL)
        answers.append(
            Answer(
                question=question,
                baseline=float(prediction.baseline),
                predicted=float(prediction.value),
                stderr=float(prediction.stderr),
                low=float(low),
                high=float(high),
                first_order=float(prediction.baseline + prediction.terms[0]),
                retrained=float(microgpt.loss(models[question.ids], question.name)),
                warnings=tuple(str(warning) for warning in prediction.warnings),
            )
        )
    return Demo(settings, int(run.size), tuple(answers), seconds)
