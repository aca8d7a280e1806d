"""The demo's numbers: what a microgpt would say to a name, had a group of names not been in its training data.

In: settings. Out: `Demo`, a frozen record of predictions, each beside the loss after really training again. The two
stages, `prepare` and `study`, compute and do not print; who watches is told how far they are.
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
Watch = Callable[[str, float, int], None]  # stage, parts done, parts in all

# Letters that make a group of the names that have them, and names whose loss that group may matter to.
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
    """What a user may choose. InputError for what cannot be.

    Attributes
    ----------
    directions : how many random directions the sketch has, beside every name alone; at least 2, since errors come from
        their spread.
    order : the highest Taylor coefficient, at least 1.
    steps : train on this many names, the most common first, one a step.
    seed : of the initial parameters and of the directions.

    >>> Settings(directions=64).order
    3
    """

    directions: int = 128
    order: int = 3
    steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.directions < 2:
            raise InputError(f"directions is {self.directions}; errors come from a spread, so take at least 2")
        if self.order < 1:
            raise InputError(f"order is {self.order}; a change begins at the first order, so take 1 or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; a seed is 0 or more")
        most = len(microgpt.names())
        if not 1 <= self.steps <= most:
            raise InputError(f"steps is {self.steps}; there are {most:,} names, one a step, so take 1 to {most}")


@dataclass(frozen=True)
class Question:
    """What would the trained model's loss on `name` be without the names that have `letters`, those of places `ids`?"""

    name: str
    letters: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Experiment:
    """A training run, yet to be trained, and the questions that will be asked of it."""

    settings: Settings
    run: Any
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Answer:
    """A question's prediction beside the truth; losses in nats a token.

    Attributes
    ----------
    baseline : the loss as trained, on all names.
    predicted, stderr, low, high : the prediction from the sketch, its standard error and its 95 % interval.
    first_order : the baseline plus the first order's term alone.
    retrained : the truth, from training without the group.
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
        """Whether the truth lies in the interval."""
        return self.low <= self.retrained <= self.high

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text; what is not finite becomes None, which JSON can say."""
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
    """All answers, the first the main one, with the size of what was sketched and how long each stage took.

    Attributes
    ----------
    size : size(A), the number of scalar gates of the whole training.
    seconds : of wall time by stage: train, sketch, predict, retrain.
    """

    settings: Settings
    size: int
    answers: tuple[Answer, ...]
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """What `circuitsketch demo --json` writes: the main answer's numbers at the top, all of them under `groups`."""
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
    """Trace the training of a microgpt on the first names, and find the groups that occur among them.

    InputError where no group does, because there are too few names.

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
        raise InputError(f"steps is {settings.steps}: so few names are in no group of the demo; take at least {least}")
    run = microgpt.training(names[: settings.steps], seed=settings.seed, alphabet=microgpt.ALPHABET)
    return Experiment(settings, run, tuple(questions))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Enter the wall time that a block takes."""
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin


def study(experiment: Experiment, watch: Watch = lambda stage, done, total: None) -> Demo:
    """Train, sketch, predict, and train again without each group to check.

    `watch(stage, done, total)` is called as work is done, with the stages "train", "sketch", "predict" and "retrain".
    Errors of the run itself (a divergence, a directions or order that cannot be) come through as they are.
    """
    settings, run, questions = experiment.settings, experiment.run, experiment.questions
    seconds: dict[str, float] = {}

    with timed(seconds, "train"):
        watch("train", 0, 1)
        run.train()
        watch("train", 1, 1)

    with timed(seconds, "sketch"):
        sketch = cs.sketch(
            run,
            directions=settings.directions,
            order=settings.order,
            seed=settings.seed,
            per_example="series",
            progress=lambda done, total: watch("sketch", done, total),
        )

    with timed(seconds, "predict"):
        predictions = []
        for done, question in enumerate(questions):
            watch("predict", done, len(questions))
            predictions.append(sketch.measure(microgpt.loss, question.name).without(list(question.ids)))
        watch("predict", len(questions), len(questions))

    with timed(seconds, "retrain"):
        deletions = list(dict.fromkeys(question.ids for question in questions))  # once each, in order
        models = {}
        for done, ids in enumerate(deletions):
            watch("retrain", done, len(deletions))
            models[ids] = run.params(run.retrain(without=list(ids)))
        watch("retrain", len(deletions), len(deletions))

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
