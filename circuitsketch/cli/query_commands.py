"""Commands that start from a sketch on disk: info, predict, influence, stability, evaluate.

Measuring needs only the sketch. Retraining needs the run: from --target or, for a zoo model, from the sketch's origin.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuitsketch.arguments import text_of
from circuitsketch.cli.options import (
    Containing,
    Device,
    DeviceName,
    Estimator,
    EstimatorName,
    ExecutorName,
    Json,
    Label,
    Level,
    Measure,
    Plot,
    RetrainingDtype,
    RunOf,
    Seed,
    Store,
    StoreOrTarget,
    SubsetFile,
    Threads,
    TrainingPrecision,
    Without,
)
from circuitsketch.cli.output import Output, print_status, progress_bars, report_kept, show_status
from circuitsketch.cli.pictures import check_plot, plot_evaluation, plot_influence, plot_prediction
from circuitsketch.cli.workers import open_executor
from circuitsketch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from circuitsketch.attribution.influence import Influence
    from circuitsketch.attribution.query import Query
    from circuitsketch.attribution.sketch import Sketch
    from circuitsketch.training.training import Training

MAX_LISTED = 12  # of the deleted examples
DEFAULT_CALIBRATION = 48  # retrained subsets where the run is at hand


def info(store: Store, json_to: Json = None) -> None:
    """Describe a sketch: its directions, its run, its examples, its size on disk."""
    output = Output(json_to)
    from circuitsketch.report.json_values import describe_sketch

    sketch = open_stored(store)
    output.write(describe_sketch(sketch), sketch.info())


def predict(
    store: Store,
    measure: Measure,
    without: Without = None,
    label: Label = None,
    containing: Containing = None,
    file: SubsetFile = None,
    strength: Annotated[
        float,
        typer.Option(
            metavar="X", help="Fraction of the selected examples' loss to remove: 1 deletes, 0.5 halves, -1 doubles."
        ),
    ] = 1.0,
    order: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Truncate the Taylor series at this order.", show_default=False),
    ] = None,
    estimator: EstimatorName = None,
    level: Level = 0.95,
    calibrate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Calibrate the interval by retraining without N random subsets of similar sizes, which are stored in "
            "the sketch for later; requires the run. Default: use the stored ones or, if there are none and "
            "--target is given, 48; 0 turns calibration off.",
            show_default=False,
        ),
    ] = None,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Also retrain without the examples, to check the prediction; requires the run."),
    ] = False,
    dtype: RetrainingDtype = TrainingPrecision.float64,
    device: DeviceName = Device.cpu,
    executor: ExecutorName = None,
    target: RunOf = None,
    plot: Plot = None,
    json_to: Json = None,
) -> None:
    """Predict a measurement without some training examples.

    --without, --label, --containing and --file can be combined, and the first three can be repeated; the union of the
    selected examples is deleted. If the file has several subsets, each is predicted separately, in its own row.
    """
    output = Output(json_to)
    if without is None and label is None and containing is None and file is None:
        raise typer.BadParameter(
            "give the examples to delete: --without IDS, --label LABEL, --containing TEXT, or --file FILE"
        )
    if not math.isfinite(strength) or strength == 0:
        raise typer.BadParameter(
            f"--strength must be finite and not 0, not {strength:g}; 1 deletes, 0.5 halves, -1 doubles"
        )
    if not 0 < level < 1:
        raise typer.BadParameter(f"--level must be between 0 and 1, not {level:g}")
    check_plot(plot)
    import numpy as np

    from circuitsketch.attribution.structure import number_of
    from circuitsketch.cli.subsets import read_subsets
    from circuitsketch.report.tables import describe_missed, find_missed, format_prediction

    sketch, query, function = measure_stored(store, measure, target, device)
    ids = select_examples(sketch, without or [], label or [], containing or [])
    subsets = {} if file is None else read_subsets(file, sketch.n, unit_of(sketch))
    if calibrate and (estimator, order) != (None, None):
        raise typer.BadParameter("--calibrate combines all estimators and orders; omit --estimator and --order")
    # A named estimator, another order or strength is not what a calibration speaks of.
    if calibrate or (calibrate is None and (estimator, order, strength) == (None, None, 1)):
        counts = [len({*ids, *more}) for more in subsets.values()] or [len(ids)]
        with open_executor(executor) as workers:
            query = calibrate_stored(sketch, query, target, calibrate, counts, device, workers, dtype)
    if len(subsets) > 1:
        if plot is not None:
            raise typer.BadParameter(
                "--plot draws a single subset, but --file has several; use evaluate --plot for many subsets"
            )
        every = {name: sorted({*ids, *more}) for name, more in subsets.items()}
        run = run_for(sketch, target, "--retrain") if retrain else None
        chosen_estimator = None if estimator is None else estimator.value
        how: dict[str, Any] = {"strength": strength, "order": order, "estimator": chosen_estimator}
        how |= {"executor": executor, "dtype": dtype.value}
        output.write(
            *predict_many(sketch, query, function, every, how, level, run, device, request_fields(store, measure))
        )
        return
    for more in subsets.values():
        ids = sorted({*ids, *more})
    run = run_for(sketch, target, "--retrain") if retrain else None
    h = np.zeros(sketch.n)
    h[ids] = strength
    prediction = query.reweight(h, order=order, estimator=None if estimator is None else estimator.value)
    truth = None
    if run is not None:
        with show_status("retraining"):
            retrained = run.retrain(h, dtype=dtype.value, device=device.value)
            truth = number_of(function(run.params(retrained)))
    plain = (
        request_fields(store, measure)
        | {"deleted": len(ids), "ids": ids, "strength": strength}
        | prediction.to_dict(level)
    )
    if truth is not None:
        outside = find_missed(prediction, truth, level)
        plain |= {"retrained": to_plain(query, truth), "retrained_outside": to_plain(query, outside)}
        plain["warnings"] = plain["warnings"] + [describe_missed(prediction, truth, level)] * bool(outside.any())
    what = f"{unit_of(sketch)}s"
    verb = "without" if strength == 1 else f"with {strength:g} taken from"
    title = f"{measure} {verb} {len(ids):,} of {sketch.n:,} {what}: {format_examples(sketch, ids)}"
    plot_prediction(plot, query, h, measure, f"{len(ids):,} of {sketch.n:,} {what}", truth)
    output.write(plain, *format_prediction(prediction, title, truth, level))


def calibrate_stored(
    sketch: Sketch,
    query: Query,
    target: str | None,
    count: int | None,
    sizes: list[int],
    device: Device,
    executor: Executor | None,
    dtype: TrainingPrecision,
) -> Query:
    """Calibrate a query on subsets that the sketch has kept, else on ones that it draws and keeps; say the cost.

    count: of subsets at least; None: as many as are kept, else the default number if the run is given. sizes: of the
    subsets asked about.
    """
    from circuitsketch.attribution.calibrate import calibrate_query, choose_kept_drawn
    from circuitsketch.errors import StoreError

    # Up to a tenth of the examples; those of which the error is known already teach nothing, so two or more.
    size = (min(2, sketch.n), max(min(2, sketch.n), sketch.n // 10, *sizes))
    kept = choose_kept_drawn(query, max(size[0], *sizes))
    if kept is not None and len(kept.rows) >= (count or 0):
        query = calibrate_query(query, kept)
        print_status(
            f"calibrated on {len(kept.rows)} retrained subsets stored in the sketch, of {kept.sizes[0]:g} to "
            f"{kept.sizes[1]:g} {unit_of(sketch)}s; --calibrate 0 turns it off. {query.worth}"
        )
        return query
    if count is None and target is None:
        return query
    run = run_for(sketch, target, "--calibrate")
    begin = time.perf_counter()
    number = count or DEFAULT_CALIBRATION
    with show_status(f"calibrating: retraining without each of {number} subsets"):
        query = query.calibrate(
            size=size, count=number, run=run, dtype=dtype.value, device=device.value, executor=executor
        )
    spent = time.perf_counter() - begin
    print_status(
        f"calibrated on {number} retrained subsets of {size[0]} to {size[1]} "
        f"{unit_of(sketch)}s in {spent:,.1f} s; --calibrate 0 turns it off. {query.worth}"
    )
    try:
        query.keep_calibration()
    except StoreError as reason:  # the answer is there all the same
        print_status(f"the calibration could not be stored in the sketch: {reason}")
    return query


def predict_many(
    sketch: Sketch,
    query: Query,
    function: Callable[..., Any],
    subsets: dict[str, list[int]],
    how: dict[str, Any],
    level: float,
    run: Training | None,
    device: Device,
    about: dict[str, Any],
) -> tuple[Any, ...]:
    """Predict several named subsets; returns JSON values with a list of them, a title and a table."""
    import numpy as np

    from circuitsketch.attribution.ground_truth import retrain_and_measure
    from circuitsketch.report.tables import find_missed, format_predictions

    h = np.zeros((len(subsets), sketch.n))
    for row, ids in zip(h, subsets.values(), strict=True):
        row[ids] = how["strength"]
    prediction = query.reweight(h, order=how["order"], estimator=how["estimator"])
    truth = None
    if run is not None:
        with show_status(f"retraining {len(h)} times"), open_executor(how["executor"]) as workers:
            truth = retrain_and_measure(run, h, function, (), None, device.value, workers, how["dtype"])
    rows = []
    for i, (name, ids) in enumerate(subsets.items()):
        one = query.reweight(h[i], order=how["order"], estimator=how["estimator"])
        plain = {"name": name, "deleted": len(ids), "ids": ids, **one.to_dict(level)}
        if truth is not None:
            outside = find_missed(one, truth[i], level)
            plain |= {"retrained": to_plain(query, truth[i]), "retrained_outside": to_plain(query, outside)}
        rows.append(plain)
    counts: list[int] = [len(ids) for ids in subsets.values()]
    shown = format_predictions(prediction, list(subsets), counts, level, truth)
    title = f"{about['measure']} without each of {len(subsets):,} subsets of {sketch.n:,} {unit_of(sketch)}s"
    return about | {"strength": how["strength"], "level": level, "subsets": rows}, title, *shown


def influence(
    store: StoreOrTarget,
    measure: Measure,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of examples to list, the largest change first.")
    ] = 20,
    estimator: EstimatorName = None,
    device: DeviceName = Device.cpu,
    target: RunOf = None,
    plot: Plot = None,
    json_to: Json = None,
) -> None:
    """List the most influential examples: the change of a measurement without each of them.

    For a TARGET instead of a sketch, the changes are estimated to first order by derivatives in reverse mode.
    """
    output = Output(json_to)
    check_plot(plot)
    from circuitsketch.report.json_values import describe_influence
    from circuitsketch.report.tables import format_influence

    if names_target(store):
        if estimator not in (None, Estimator.first_order) or device is not Device.cpu or target is not None:
            raise typer.BadParameter(
                f"{store} is a run, not a sketch: its influences are first-order derivatives, computed in reverse "
                "mode on the CPU; omit --estimator, --device and --target"
            )
        influences, run = differentiate_target(str(store), measure, top)
        items, labels = run.items, run.labels if run.groups is None else None
        plot_influence(plot, influences, items, measure)
        plain = {"target": str(store), "measure": measure} | describe_influence(influences, items, labels)
        output.write(plain, *format_influence(influences, top, items, labels))
        return
    sketch, query, _ = measure_stored(store, measure, target, device)
    influences = query.influence(top, estimator=None if estimator is None else estimator.value)
    labels = sketch.labels if sketch.groups is None else None  # a group's label is its item
    plot_influence(plot, influences, sketch.items, measure)
    plain = request_fields(store, measure) | describe_influence(influences, sketch.items, labels)
    output.write(plain, *format_influence(influences, top, sketch.items, labels))


def stability(
    store: Store, measure: Measure, device: DeviceName = Device.cpu, target: RunOf = None, json_to: Json = None
) -> None:
    """Measure how fast the series converges, and up to how many deletions its predictions can be trusted."""
    output = Output(json_to)
    from circuitsketch.report.json_values import describe_stability
    from circuitsketch.report.tables import format_stability

    _, query, _ = measure_stored(store, measure, target, device)
    series = query.stability()
    output.write(request_fields(store, measure) | describe_stability(series), *format_stability(series))


def evaluate(
    store: Store,
    measure: Measure,
    subsets: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Number of random subsets to delete; default: 20.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Examples per subset; default: 2 % of all, at least 1.", show_default=False
        ),
    ] = None,
    by_label: Annotated[
        bool, typer.Option("--by-label", help="Delete all examples of each label in turn, instead of random subsets.")
    ] = False,
    seed: Seed = 0,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to save the retrained values in; an interrupted command resumes from it.",
            show_default=False,
        ),
    ] = None,
    estimator: EstimatorName = None,
    dtype: RetrainingDtype = TrainingPrecision.float64,
    threads: Threads = None,
    device: DeviceName = Device.cpu,
    executor: ExecutorName = None,
    target: RunOf = None,
    plot: Plot = None,
    json_to: Json = None,
) -> None:
    """Compare predictions with retraining, for random deletions or for each label: rank correlation (LDS), RMSE,
    coverage."""
    output = Output(json_to)
    if by_label and (subsets is not None or size is not None):
        raise typer.BadParameter("--by-label cannot be combined with --subsets or --size")
    check_plot(plot)
    import numpy as np

    from circuitsketch.report.retraining import draw_masks, retrain_subsets, split_by_label
    from circuitsketch.report.tables import format_predictions

    sketch, query, function = measure_stored(store, measure, target, device)
    names: list[str] = []
    if by_label:
        names, masks = split_by_label(sketch.labels)
    else:
        size = size or max(1, round(0.02 * sketch.n))
        if size >= sketch.n:
            raise InputError(f"--size must be from 1 to {sketch.n - 1}, not {size}")
        masks = draw_masks(sketch.n, subsets or 20, size, seed)
    run = run_for(sketch, target, "evaluate")
    done, count = [0], len(masks)

    def resume_hint() -> str:
        if keep is None:
            return "nothing was saved; --keep FOLDER saves retrained values"
        return f"{done[0]} of {count} retrainings are saved in {keep}; run the same command to resume"

    with report_kept(resume_hint), open_executor(executor) as workers, progress_bars() as report_progress:

        def progress(stage: str, now: int, total: int) -> None:
            done[0] = now
            report_progress(stage, now, total)

        truth = retrain_subsets(
            run,
            masks,
            function,
            shape=query.shape,
            what=measure,
            threads=threads,
            device=device.value,
            dtype=dtype.value,
            folder=keep,
            progress=progress,
            executor=workers,
        )
    options: dict[str, Any] = {} if estimator is None else {"estimator": estimator.value}
    evaluation = query.evaluate(masks, truth=truth, seed=seed, **options)
    plot_evaluation(plot, query, evaluation, measure)
    unit, chosen_by = unit_of(sketch), {"by_label": by_label}
    if not by_label:
        plain = request_fields(store, measure) | {"size": size, "seed": seed} | chosen_by | evaluation.to_dict()
        output.write(plain, f"{measure} without {size:,} of {sketch.n:,} {unit}s at random", str(evaluation))
        return
    sizes = [int(mask.sum()) for mask in masks]
    rows = [
        {"label": name, "deleted": gone, "predicted": value.tolist(), "retrained": true.tolist()}
        for name, gone, value, true in zip(names, sizes, np.asarray(evaluation.prediction.value), truth, strict=True)
    ]
    plain = request_fields(store, measure) | {"seed": seed} | chosen_by | evaluation.to_dict() | {"labels": rows}
    each = format_predictions(evaluation.prediction, names, sizes, 0.95, truth)
    output.write(plain, f"{measure} without each of {len(names):,} labels", *each, str(evaluation))


EXAMPLES = {
    info: "Example:\n\n  circuitsketch info names.sketch",
    predict: (
        "Examples:\n\n  circuitsketch predict names.sketch --measure loss:max --containing z --retrain\n\n"
        "  circuitsketch predict tumours.sketch --measure held_out_loss --without 1,5,7-9 --level 0.8\n\n"
        "  circuitsketch predict tumours.sketch --measure held_out_loss --file subsets.txt --json -\n\n"
        "  circuitsketch predict mine.sketch --measure my_run.py:loss --label web --json -"
    ),
    influence: (
        "Examples:\n\n  circuitsketch influence names.sketch --measure loss:max --top 20\n\n"
        "  circuitsketch influence logistic --measure held_out_loss"
    ),
    stability: "Example:\n\n  circuitsketch stability names.sketch --measure loss:max",
    evaluate: (
        "Examples:\n\n  circuitsketch evaluate tumours.sketch --measure held_out_loss --keep truths\n\n"
        "  circuitsketch evaluate mine.sketch --target my.py:make --measure my.py:loss --by-label"
    ),
}


# ------------------------------------------------------------------------------------------ shared


def open_stored(store: Path, run: Training | None = None) -> Sketch:
    """Open the sketch at a path; the error for a mistyped path suggests the sketches next to it."""
    import circuitsketch as cs
    from circuitsketch.cli.parsing import suggest_name

    if not store.exists():
        beside = store.parent if store.parent.is_dir() else Path()
        near = [str(path) for path in sorted(beside.glob("*.sketch"))]
        hint = suggest_name(str(store), near) or (f"; there is {', '.join(near[:5])}" if near else "")
        raise InputError(
            f"{store} does not exist{hint or '; create it with circuitsketch sketch TARGET --out ' + str(store)}"
        )
    return cs.open_sketch(store, run)


def names_target(store: Path) -> bool:
    """Return whether an argument names a run, and not the folder of a sketch."""
    from circuitsketch.cli.parsing import ZOO

    name = str(store)
    return not store.exists() and (":" in name or name in ZOO)


def differentiate_target(target: str, measure: str, top: int) -> tuple[Influence, Training]:
    """Return the first-order influences on a measurement of a run, and the run."""
    with show_status("differentiating"):
        import circuitsketch as cs
        from circuitsketch.cli.parsing import load_measurement, load_run

        run = load_run(target)
        return cs.influence(run, load_measurement(measure, target), top=top), run


def request_fields(store: Path, measure: str) -> dict[str, Any]:
    """Return the first fields of every output's JSON: the sketch and the measurement."""
    return {"store": str(store), "measure": measure}


def measure_stored(
    store: Path, measure: str, target: str | None, device: Device
) -> tuple[Sketch, Query, Callable[..., Any]]:
    """Open a sketch and measure it; returns the sketch, the query, and the measured function."""
    with show_status("measuring"):
        from circuitsketch.cli.parsing import load_measurement, load_run

        sketch = open_stored(store, None if target is None else load_run(target))
        function = load_measurement(measure, sketch.origin)
        return sketch, sketch.measure(function, device=device.value), function


def run_for(sketch: Sketch, target: str | None, what: str) -> Training:
    """Load the run of a sketch, and check that it is the run that was sketched.

    A sketch's origin is trusted for zoo models only: any other target would run code chosen by the sketch's author.
    """
    from circuitsketch.cli.parsing import ZOO, load_run

    if sketch.run is not None:
        return sketch.run
    assert sketch.path is not None
    if sketch.origin is None or sketch.origin.split(":")[0] not in ZOO:
        origin = f" (according to the sketch, {sketch.origin})" if sketch.origin else ""
        raise InputError(
            f"{what} requires the training run, in order to retrain; give --target module:function{origin}"
        )
    with show_status(f"tracing {sketch.origin}"):
        run = open_stored(Path(sketch.path), load_run(sketch.origin)).run
    assert run is not None
    return run


def unit_of(sketch: Sketch | Training) -> str:
    """Return what is deleted: an example, or a group of examples."""
    return "example" if sketch.groups is None else "group"


def to_plain(query: Query, truth: Any) -> Any:
    """Convert a retrained value to JSON values, with the structure of a pytree."""
    return truth.tolist() if query.structure is None else query.structure.plain(truth)


def select_examples(
    sketch: Sketch | Training, without: list[str], labels: list[str], containing: list[str]
) -> list[int]:
    """Return the sorted ids of all examples selected by any option."""
    from circuitsketch.cli.subsets import ids_containing, ids_with_label, parse_ids

    ids: set[int] = set()
    for text in without:
        ids |= set(parse_ids(text, sketch.n, unit=unit_of(sketch)))
    for label in labels:
        ids |= set(ids_with_label(label, sketch.labels, unit_of(sketch)))
    for text in containing:
        ids |= set(ids_containing(text, sketch.items, unit_of(sketch)))
    return sorted(ids)


def format_examples(sketch: Sketch | Training, ids: list[int]) -> str:
    """Format the first of some examples, by their items if these are known, else by id."""
    names = [str(i) if sketch.items is None else text_of(sketch.items[i]) for i in ids[:MAX_LISTED]]
    return ", ".join(names) + (", ..." if len(ids) > MAX_LISTED else "")
