"""`draw`: settings in, a folder of pictures out, each with its data as JSON beside it.

`small_figures` and `paper_figures` list what is drawn, as names and functions that compute; how each is computed is
told in `removal`, `decay`, `answers` and `cost`, and how it looks in `pictures`, the only file that needs matplotlib.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.report.answers import (
    agreement_of,
    agreement_with,
    calibration_of,
    influences_in,
    influences_of,
    subsets_of,
)
from circuitsketch.report.cost import Shape, cost_of
from circuitsketch.report.decay import decay_of, trust_of
from circuitsketch.report.demo import Question, Watch
from circuitsketch.report.facts import plain
from circuitsketch.report.removal import answer_along, predict_along, series_along
from circuitsketch.zoo import microgpt

KEPT = "sketches"  # the folder of sketches that are still needed
CHECKS = "checks"  # the stage of retraining at points of a curve


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the figures' experiments are. InputError where a question has no names.

    Attributes
    ----------
    names : to train on, one a step. letters, measured : the deletion is of names with these letters, and the loss is
        measured on this name. directions, order : of the sketch that predicts. few, highest : directions and order of
        the figure of decay. cut : the highest order along the deletion itself. subsets : how many deletions are
        retrained. shapes : of the runs whose cost is measured. seed : of everything drawn.
    """

    names: int
    letters: str
    measured: str
    directions: int
    order: int
    few: int
    highest: int
    cut: int = 6
    subsets: int = 60
    shapes: tuple[Shape, ...] = ()
    seed: int = 0

    @property
    def question(self) -> Question:
        """The deletion that the figures are about."""
        ids = tuple(i for i, name in enumerate(self.docs) if self.letters in name)
        if not ids:
            raise InputError(f"none of the first {self.names} names has {self.letters!r}; take more names")
        return Question(self.measured, self.letters, ids)

    @property
    def docs(self) -> list[str]:
        """The names to train on."""
        return microgpt.names()[: self.names]

    def run(self) -> cs.Training:
        """The training that is sketched."""
        return microgpt.training(self.docs, seed=self.seed, alphabet=microgpt.ALPHABET)


SMALL = Scale(
    names=300,
    letters="chr",
    measured="christian",
    directions=256,
    order=3,
    few=24,
    highest=10,
    shapes=(Shape(25), Shape(50), Shape(100), Shape(200), Shape(50, 32), Shape(50, 16, 2)),
)
PAPER = Scale(names=1000, letters="x", measured="max", directions=500, order=3, few=12, highest=100)


def draw(
    folder: str | Path,
    *,
    paper: bool = False,
    threads: int | None = None,
    watch: Watch | None = None,
    scale: Scale | None = None,
) -> list[Path]:
    """Draw figures into a folder: PNG, and the data of each as JSON of the same name.

    Parameters
    ----------
    folder : made where it is missing.
    paper : the three figures of Gunn (arXiv 2604.07328) at the paper's scale, on 1,000 names: the decay of the Taylor
        tensors to order 100 along 12 directions, orders 1 to 6 along the deletion itself, 500 directions at order 3.
        Otherwise five small figures: a prediction along the strength of a removal, helpful and harmful examples, the
        decay against the size of a deletion, predictions against retraining, and cost against size(A).
    threads : how many (default: one a core). watch : called with (figure, parts done, parts in all).
    scale : other sizes than SMALL or PAPER.

    Returns
    -------
    the paths of the pictures, in order. Each is written when it is done; sketches lie in the folder `sketches` beside
    them until all are, so that an interrupted call goes on where it stopped.

    Raises
    ------
    InputError : matplotlib is missing; the folder cannot be written.

    >>> draw("pictures", paper=True)                                # doctest: +SKIP
    """
    pictures()
    folder = writable(folder)
    (folder / KEPT).mkdir(exist_ok=True)
    scale = scale or (PAPER if paper else SMALL)
    figures = (paper_figures if paper else small_figures)(scale, folder / KEPT, threads, watch or ignore)
    paths = [save(folder, name, scale, compute()) for name, compute in figures]
    shutil.rmtree(folder / KEPT, ignore_errors=True)
    return paths


def draw_sketch(
    folder: str | Path, query: cs.Query, measured: str, truths: str | Path | None = None, about: Any = None
) -> list[Path]:
    """Draw what a measurement of one's own sketch says: PNG, and the data of each as JSON of the same name.

    Parameters
    ----------
    query, measured : the measurement, and words for it.
    truths : a folder that `Evaluation.save` or `circuitsketch evaluate --keep` has written.
    about : what the JSON says of where the figures come from.

    Returns
    -------
    the paths of the pictures: `stability` where there are random directions of two orders, `influence` and `agreement`
    of one number, `calibration` where there are truths.

    Raises
    ------
    InputError : matplotlib is missing; the folder cannot be written; truths of other subsets or another measurement;
        nothing that could be drawn.
    """
    pictures()
    data: list[tuple[str, Any]] = []
    if query.coefficients.shape[0] > 1 and query.coefficients.shape[1] > 2 and query.distribution.name != "given":
        sizes = [d for d in (1, 4, 16, 64) if d <= query.n]
        data.append(("stability", trust_of(query, measured, sizes, "")))
    one = query.shape == () or query.shape == (1,)
    if query.shape == ():
        data.append(("influence", influences_in(query, measured)))
    if truths is not None:
        masks, margins = cs.read_datamodels(truths)
        found = cs.evaluate(query, masks[: len(margins)], truth=margins.reshape(len(margins), *query.shape))
        data.append(("calibration", calibration_of(found, measured)))
        if one:
            data.append(("agreement", agreement_with(query, found, measured)))
    if not data:
        raise InputError("there is nothing to draw: no directions of order 2, several values, and no truths")
    folder = writable(folder)
    return [save(folder, name, about, record) for name, record in data]


def pictures() -> dict[type, Callable[[Any], Any]]:
    """How each record is drawn; InputError without matplotlib."""
    try:
        from circuitsketch.report.pictures import PICTURES
    except ModuleNotFoundError as reason:
        if (reason.name or "").partition(".")[0] != "matplotlib":
            raise
        raise InputError(
            "figures are drawn by matplotlib, which is not installed: pip install 'circuitsketch[figures]'"
        ) from None
    return PICTURES


def save(folder: Path, name: str, about: Any, data: Any) -> Path:
    """Write a picture and its data; the path of the picture."""
    picture, path = pictures()[type(data)](data), folder / f"{name}.png"
    (folder / f"{name}.json").write_text(json_of(name, about, data), encoding="utf-8")
    picture.savefig(path, metadata={"Software": f"circuitsketch {cs.__version__}"})
    return path


Figures = list[tuple[str, Callable[[], Any]]]


def small_figures(scale: Scale, kept: Path, threads: int | None, watch: Watch) -> Figures:
    """Five figures of one run: names and functions that compute their data, to be called in order."""
    run, question = scale.run(), scale.question
    words = f"loss on {question.name!r}"
    query = Once(
        lambda: cs.sketch(
            run,
            scale.directions,
            scale.order,
            scale.seed,
            per_example="series",
            threads=threads,
            path=kept / "per-example.sketch",
            progress=stage_progress(watch, "sketch"),
        ).measure(microgpt.loss, question.name)
    )
    decay = Once(
        lambda: cs.sketch(
            run,
            scale.few,
            scale.highest,
            scale.seed,
            threads=threads,
            path=kept / "stability.sketch",
            progress=stage_progress(watch, "stability"),
        ).measure(microgpt.loss, question.name)
    )

    def agreement() -> Any:
        subsets = subsets_of(scale.docs, scale.subsets, scale.seed)
        return agreement_of(run, query(), question.name, subsets, threads, stage_progress(watch, "agreement"))

    return [
        ("strength", lambda: answer_along(run, query(), question, threads, stage_progress(watch, "strength"))),
        ("influence", lambda: influences_of(query(), scale.docs, words)),
        ("stability", lambda: trust_of(decay(), words, (1, 4, 16, 64))),
        ("agreement", agreement),
        ("cost", lambda: cost_of(scale.shapes, 16, scale.order, scale.seed, stage_progress(watch, "cost"))),
    ]


def paper_figures(scale: Scale, kept: Path, threads: int | None, watch: Watch) -> Figures:
    """The paper's three figures, the long first one last: names and functions that compute their data."""
    run, question = scale.run(), scale.question
    measured = np.random.default_rng(scale.seed).choice(scale.docs, scale.few).tolist()

    def sketch(name: str, directions: int, order: int) -> cs.Sketch:
        progress, path = stage_progress(watch, name), kept / f"{name}.sketch"
        return cs.sketch(
            run, directions, order, scale.seed, distribution="sphere", threads=threads, progress=progress, path=path
        )

    def predictions() -> Any:
        query = sketch("figure3", scale.directions, scale.order).measure(microgpt.loss, question.name)
        return predict_along(run, query, question, range(1, scale.order + 1), threads, stage_progress(watch, CHECKS))

    def series() -> Any:
        return series_along(
            run, question, scale.cut, threads, stage_progress(watch, "figure2"), stage_progress(watch, CHECKS)
        )

    return [
        ("figure2", series),
        ("figure3", predictions),
        ("figure1", lambda: decay_of(sketch("figure1", scale.few, scale.highest), measured)),
    ]


@dataclasses.dataclass
class Once:
    """A computation that several figures share: done when it is first called."""

    compute: Callable[[], Any]
    found: Any = None

    def __call__(self) -> Any:
        """What was computed."""
        if self.found is None:
            self.found = self.compute()
        return self.found


def stage_progress(watch: Watch, stage: str) -> Callable[[float, int], None]:
    """A progress function that says of which stage it is."""
    return lambda done, total: watch(stage, done, total)


def ignore(stage: str, done: float, total: int) -> None:
    """A watch that does nothing."""


def writable(folder: str | Path) -> Path:
    """The folder, made where it is missing; InputError where it cannot be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".circuitsketch"
        probe.touch()
        probe.unlink()
    except OSError as reason:
        raise InputError(f"cannot write figures into {folder}: {reason.strerror}; give another folder") from None
    return folder


def json_of(name: str, about: Any, data: Any) -> str:
    """A figure's record as JSON: {"figure", "scale", "data"}, arrays as lists, None for what is not finite."""
    scale = dataclasses.asdict(about) if isinstance(about, Scale) else about
    record = {"figure": name, "scale": scale, "data": dataclasses.asdict(data)}
    return json.dumps(plain(record), indent=1, allow_nan=False) + "\n"
