"""Draw figures into a folder: PNG files, each with its data as JSON.

`small_figures` and `paper_figures` list the figures, as names and functions that compute their data. The data are
computed in `removal`, `step_test`, `decay`, `agreement` and `cost`, and drawn in `plots`, the only file that needs
matplotlib.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.errors import InputError
from circuitsketch.report.agreement import (
    compare_with_retraining,
    draw_name_subsets,
    measure_calibration,
    rank_examples,
    rank_names,
    read_agreement,
    read_calibration,
)
from circuitsketch.report.cost import Shape, measure_cost
from circuitsketch.report.decay import bound_terms, measure_decay
from circuitsketch.report.demo import Question, StageProgress
from circuitsketch.report.json_values import to_json
from circuitsketch.report.removal import (
    expand_along_deletion,
    predict_along_deletion,
    predict_along_subsets,
    predict_by_order,
)
from circuitsketch.report.step_test import step_along_metagradient
from circuitsketch.zoo import microgpt

SKETCHES = "sketches"  # the folder of sketches that unfinished figures need
CHECKS = "checks"  # the stage of retraining at points of a curve
REMOVED = 10  # examples that a curve deletes if none are named


@dataclasses.dataclass(frozen=True)
class Scale:
    """The sizes of the figures' experiments.

    Attributes
    ----------
    names : int
        The number of names to train on, one per step.
    letters, measured : str
        Names with these letters are deleted, and the loss on this name is measured.
    directions, order : int
        Of the sketch that predicts.
    few, highest : int
        The number of directions and the order for the figure of the decay.
    cut : int
        The highest order along the deletion itself.
    subsets : int
        The number of deletions that are retrained.
    shapes : tuple of Shape
        The runs whose cost is measured.
    seed : int
        The seed of all random numbers.
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
        """The deletion and measurement of the figures, or InputError if no name has the letters."""
        ids = tuple(i for i, name in enumerate(self.docs) if self.letters in name)
        if not ids:
            raise InputError(f"none of the first {self.names} names has {self.letters!r}; use more names")
        return Question(self.measured, self.letters, ids)

    @property
    def docs(self) -> list[str]:
        """The names to train on."""
        return microgpt.names()[: self.names]

    def run(self) -> cs.Training:
        """Return the training run to sketch."""
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
    progress: StageProgress | None = None,
    scale: Scale | None = None,
) -> list[Path]:
    """Draw figures into a folder: PNG, and the data of each as JSON of the same name.

    Parameters
    ----------
    folder : str or Path
        Created if it does not exist.
    paper : bool
        Draw the three figures of Gunn (arXiv 2604.07328) at the paper's scale, on 1,000 names: the decay of the Taylor
        tensors to order 100 along 12 directions, orders 1 to 6 along the deletion itself, and 500 directions at order
        3. Otherwise draw six small figures: a prediction over the strength of a deletion, steps along the metagradient
        at orders 1 to 3, the most helpful and harmful examples, the decay of the terms for several sizes of a deletion,
        predictions against retraining, and cost against size(A).
    threads : int, optional
        The number of threads; by default one per core.
    progress : callable, optional
        Called as `progress(figure, done, total)`.
    scale : Scale, optional
        Other sizes than SMALL or PAPER.

    Returns
    -------
    list of Path
        The PNG files, in order. Each is written when it is finished; sketches are kept in the folder `sketches` until
        all are, so that an interrupted call can be resumed.

    Raises
    ------
    InputError
        If matplotlib is not installed or the folder cannot be written.

    Examples
    --------
    >>> draw("pictures", paper=True)                                # doctest: +SKIP
    """
    load_plotters()
    folder = create_folder(folder)
    (folder / SKETCHES).mkdir(exist_ok=True)
    scale = scale or (PAPER if paper else SMALL)
    figures = (paper_figures if paper else small_figures)(scale, folder / SKETCHES, threads, progress or no_progress)
    paths = [write_figure(folder, name, scale, compute()) for name, compute in figures]
    shutil.rmtree(folder / SKETCHES, ignore_errors=True)
    return paths


def draw_sketch(
    folder: str | Path,
    query: cs.Query,
    measured: str,
    truths: str | Path | None = None,
    about: Any = None,
    subsets: Mapping[str, Sequence[int]] | None = None,
    calibrated: cs.Query | None = None,
    source: Source | None = None,
) -> list[Path]:
    """Draw a measurement of a sketch: PNG, and the data of each figure as JSON of the same name.

    Parameters
    ----------
    folder : str or Path
        Created if it does not exist.
    query : Query
        The measurement.
    measured : str
        Its name, for labels.
    truths : str or Path, optional
        A folder written by `Evaluation.save` or `circuitsketch evaluate --keep`.
    about : dict, optional
        The origin of the figures, stored in the JSON.
    subsets : mapping of str to sequence of int, optional
        The deletions whose curves are drawn, by name; by default the examples with the largest effects alone.
    calibrated : Query, optional
        The measurement, calibrated: its curves, and its subsets, each predicted without itself, are drawn.
    source : Source, optional
        What to retrain and measure at points of the curves.

    Returns
    -------
    list of Path
        The PNG files: `stability` if there are random directions of order 2 or more; `influence` and `removal` of a
        scalar; `calibration` if there are retrained values, and `agreement` if they are of a scalar, or if that is
        calibrated.

    Raises
    ------
    InputError
        If matplotlib is not installed, the folder cannot be written, the retrained values are of other subsets or of
        another measurement, subsets are given for an array, or there is nothing to draw.
    """
    load_plotters()
    data: list[tuple[str, Any]] = []
    if query.coefficients.shape[0] > 1 and query.coefficients.shape[1] > 2 and query.distribution.name != "given":
        sizes = [d for d in (1, 4, 16, 64) if d <= query.n]
        data.append(("stability", bound_terms(query, measured, sizes, "")))
    one = query.shape == () or query.shape == (1,)
    if query.shape == ():
        data.append(("influence", rank_examples(query, measured)))
    if one or subsets:
        chosen = subsets or most_influential(query)
        data.append(("removal", predict_along_subsets(calibrated or query, chosen, measured, source)))
    if truths is not None:
        masks, margins = cs.read_datamodels(truths)
        evaluation = query.evaluate(masks[: len(margins)], truth=margins.reshape(len(margins), *query.shape))
        data.append(("calibration", measure_calibration(evaluation, measured)))
        if one:
            data.append(("agreement", read_agreement(query, evaluation, measured)))
    elif calibrated is not None and one:
        data.append(("agreement", read_calibration(calibrated, measured)))
    if not data:
        raise InputError(
            "nothing to draw: the sketch has no directions of order 2 or more, the measurement is an array, and there "
            "are no retrained values"
        )
    folder = create_folder(folder)
    return [write_figure(folder, name, about, record) for name, record in data]


def most_influential(query: cs.Query) -> dict[str, list[int]]:
    """Return the examples of a scalar with the largest effects alone, by what they are called together."""
    changes = np.abs(np.reshape(query.influence().change, -1))
    ids = np.sort(np.argsort(-changes, kind="stable")[:REMOVED]).tolist()
    return {f"the {len(ids)} {query.unit}s with the largest effects": ids}


def load_plotters() -> dict[type, Callable[[Any], Any]]:
    """Return the function that draws each type of record, or raise InputError if matplotlib is not installed."""
    try:
        from circuitsketch.report.plots import PLOTTERS
    except ModuleNotFoundError as reason:
        if (reason.name or "").partition(".")[0] != "matplotlib":
            raise
        raise InputError(
            "drawing figures requires matplotlib, which is not installed: pip install 'circuitsketch[figures]'"
        ) from None
    return PLOTTERS


def check_picture(path: Path) -> None:
    """Raise InputError if a picture cannot be drawn to a path, before anything is computed for it."""
    load_plotters()
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise InputError(f"{path} does not say how to draw: let its name end in .png, .pdf or .svg")
    if not path.absolute().parent.is_dir():
        raise InputError(f"cannot write {path}: there is no such folder")


def draw_picture(path: Path, data: Any) -> None:
    """Draw one record to a file; its name's ending says in which format. InputError: it cannot be written."""
    picture = load_plotters()[type(data)](data)
    try:
        picture.savefig(path)
    except OSError as reason:
        raise InputError(f"cannot write {path}: {reason.strerror}") from None


def write_figure(folder: Path, name: str, about: Any, data: Any) -> Path:
    """Write a picture and its data; return the path of the picture."""
    picture, path = load_plotters()[type(data)](data), folder / f"{name}.png"
    (folder / f"{name}.json").write_text(format_json(name, about, data), encoding="utf-8")
    picture.savefig(path, metadata={"Software": f"circuitsketch {cs.__version__}"})
    return path


Figures = list[tuple[str, Callable[[], Any]]]


def small_figures(scale: Scale, sketches: Path, threads: int | None, progress: StageProgress) -> Figures:
    """List six figures of one run: names and functions that compute their data, to be called in order."""
    run, question = scale.run(), scale.question
    measured = f"loss on {question.name!r}"
    query = Shared(
        lambda: cs.sketch(
            run,
            scale.directions,
            scale.order,
            scale.seed,
            per_example="series",
            threads=threads,
            path=sketches / "per-example.sketch",
            progress=stage_progress(progress, "sketch"),
        ).measure(microgpt.loss, question.name)
    )
    decay = Shared(
        lambda: cs.sketch(
            run,
            scale.few,
            scale.highest,
            scale.seed,
            threads=threads,
            path=sketches / "stability.sketch",
            progress=stage_progress(progress, "stability"),
        ).measure(microgpt.loss, question.name)
    )

    def agreement() -> Any:
        subsets = draw_name_subsets(scale.docs, scale.subsets, scale.seed)
        return compare_with_retraining(
            run, query(), question.name, subsets, threads, stage_progress(progress, "agreement")
        )

    return [
        (
            "strength",
            lambda: predict_along_deletion(run, query(), question, threads, stage_progress(progress, "strength")),
        ),
        ("steps", lambda: step_along_metagradient(run, question.name, threads, stage_progress(progress, "steps"))),
        ("influence", lambda: rank_names(query(), scale.docs, measured)),
        ("stability", lambda: bound_terms(decay(), measured, (1, 4, 16, 64))),
        ("agreement", agreement),
        ("cost", lambda: measure_cost(scale.shapes, 16, scale.order, scale.seed, stage_progress(progress, "cost"))),
    ]


def paper_figures(scale: Scale, sketches: Path, threads: int | None, progress: StageProgress) -> Figures:
    """List the paper's three figures, the slow first one last: names and functions that compute their data."""
    run, question = scale.run(), scale.question
    measured = np.random.default_rng(scale.seed).choice(scale.docs, scale.few).tolist()

    def sketch(name: str, directions: int, order: int) -> cs.Sketch:
        return cs.sketch(
            run,
            directions,
            order,
            scale.seed,
            distribution="sphere",
            threads=threads,
            progress=stage_progress(progress, name),
            path=sketches / f"{name}.sketch",
        )

    def predictions() -> Any:
        query = sketch("figure3", scale.directions, scale.order).measure(microgpt.loss, question.name)
        return predict_by_order(
            run, query, question, range(1, scale.order + 1), threads, stage_progress(progress, CHECKS)
        )

    def series() -> Any:
        return expand_along_deletion(
            run, question, scale.cut, threads, stage_progress(progress, "figure2"), stage_progress(progress, CHECKS)
        )

    return [
        ("figure2", series),
        ("figure3", predictions),
        ("figure1", lambda: measure_decay(sketch("figure1", scale.few, scale.highest), measured)),
    ]


@dataclasses.dataclass
class Shared:
    """A computation that several figures share, done at the first call."""

    compute: Callable[[], Any]
    result: Any = None

    def __call__(self) -> Any:
        """Return the result."""
        if self.result is None:
            self.result = self.compute()
        return self.result


def stage_progress(progress: StageProgress, stage: str) -> Callable[[float, int], None]:
    """Return a progress function for one stage."""
    return lambda done, total: progress(stage, done, total)


def no_progress(stage: str, done: float, total: int) -> None:
    """Ignore progress."""


def create_folder(folder: str | Path) -> Path:
    """Create a folder if it does not exist, or raise InputError if it cannot be written to."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".circuitsketch"
        probe.touch()
        probe.unlink()
    except OSError as reason:
        raise InputError(f"cannot write figures into {folder}: {reason.strerror}; give another folder") from None
    return folder


def format_json(name: str, about: Any, data: Any) -> str:
    """Return a figure's record as JSON: {"figure", "scale", "data"}, numbers that are not finite as null."""
    scale = dataclasses.asdict(about) if isinstance(about, Scale) else about
    record = {"figure": name, "scale": scale, "data": dataclasses.asdict(data)}
    return json.dumps(to_json(record), indent=1, allow_nan=False) + "\n"
