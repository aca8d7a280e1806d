"""The command attribute: from a run, a measurement and a budget to answers with intervals, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuitsketch.cli.options import (
    Containing,
    ExecutorName,
    Json,
    Kind,
    Label,
    Level,
    Measure,
    RetrainingDtype,
    Seed,
    SubsetFile,
    Target,
    Threads,
    TrainingPrecision,
    Without,
)
from circuitsketch.cli.output import Output, print_status, progress_bars, report_kept
from circuitsketch.cli.query_commands import format_examples, select_examples, unit_of
from circuitsketch.cli.run_commands import trace_run
from circuitsketch.cli.workers import open_executor
from circuitsketch.errors import InputError

if TYPE_CHECKING:
    from circuitsketch.attribution.budget import AttributionPlan
    from circuitsketch.attribution.query import Query


def attribute(
    target: Target,
    measure: Measure,
    budget: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Cost limit of the predictions, in trainings of the run; a larger budget gives smaller errors.",
        ),
    ] = 200,
    without: Without = None,
    label: Label = None,
    containing: Containing = None,
    file: SubsetFile = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            metavar="NAME",
            help="How the subsets to retrain without are chosen; choose ones like those you will ask about: random, "
            "label (examples that share a label), or mixed (half random, half of examples with similar effects "
            "on the parameters). Default: mixed if the budget suffices.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Smallest and largest size of these subsets, or one size for all; default: up to a tenth of all "
            "examples.",
            show_default=False,
        ),
    ] = None,
    by_label: Annotated[
        bool,
        typer.Option(
            "--by-label", help="Use one weight per label (an owner, a source), to delete labels instead of examples."
        ),
    ] = False,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of influences to list if no examples to delete are given.")
    ] = 20,
    level: Level = 0.95,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to save finished work in; an interrupted command resumes from it.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    dtype: RetrainingDtype = TrainingPrecision.float64,
    threads: Threads = None,
    executor: ExecutorName = None,
    json_to: Json = None,
) -> None:
    """Predict a measurement without some training examples, as accurately as a budget of trainings allows.

    Computes derivatives in reverse mode, and retrains without some subsets to calibrate the intervals; a larger budget
    also pays for retraining without each single example. If none of --without, --label, --containing and --file is
    given, lists the examples with the largest influence.
    """
    output = Output(json_to)
    if not 0 < level < 1:
        raise typer.BadParameter(f"--level must be between 0 and 1, not {level:g}")
    sizes = None if size is None else parse_size(size)
    run = trace_run(target)
    if by_label:
        if run.labels is None:
            raise InputError(
                f"--by-label: the examples of {target} have no labels; pass labels= to its cs.Training(...)"
            )
        run = run.grouped(run.labels)
    import circuitsketch as cs
    from circuitsketch.cli.parsing import load_measurement
    from circuitsketch.cli.subsets import read_subsets

    unit = unit_of(run)
    ids = select_examples(run, without or [], label or [], containing or [])
    subsets = {} if file is None else read_subsets(file, run.n, unit)
    function = load_measurement(measure, target)

    def announce(plan: AttributionPlan) -> None:
        print_status(f"plan: {plan}")

    def resume_hint() -> str:
        if keep is None:
            return "nothing was saved; --keep FOLDER saves finished work"
        return f"finished work is saved in {keep}; run the same command to resume"

    with report_kept(resume_hint), open_executor(executor) as workers, progress_bars() as report_progress:
        query = cs.attribute(
            run,
            function,
            budget=budget,
            kind=None if kind is None else kind.value,
            size=sizes,
            threads=threads,
            progress=lambda done, total: report_progress("attribute", done, total),
            on_plan=announce,
            dtype=dtype.value,
            path=keep,
            executor=workers,
            seed=seed,
        )
    plain: dict[str, Any] = {"target": target, "measure": measure, "plan": query.plan.to_dict()}
    plain["worth"] = None if query.worth is None else query.worth.to_dict()
    what = f"{unit}s"
    if subsets:
        every = {name: sorted({*ids, *more}) for name, more in subsets.items()}
        answers, rows = predict_each(query, every, level)
        shown = [f"{measure} without each of {len(every):,} subsets of {run.n:,} {what}", *rows]
        plain |= {"level": level, "subsets": answers}
    elif ids:
        from circuitsketch.report.tables import format_prediction

        prediction = query.without(ids)
        title = f"{measure} without {len(ids):,} of {run.n:,} {what}: {format_examples(run, ids)}"
        plain |= {"deleted": len(ids), "ids": ids} | prediction.to_dict(level)
        shown = list(format_prediction(prediction, title, None, level))
    else:
        from circuitsketch.report.json_values import describe_influence
        from circuitsketch.report.tables import format_influence

        influences = query.influence(top)
        labels = run.labels if run.groups is None else None
        plain |= describe_influence(influences, run.items, labels)
        shown = list(format_influence(influences, top, run.items, labels))
    worth = [] if query.worth is None else [f"worth: {query.worth}"]
    output.write(plain, *shown, *worth, f"took {query.plan.spent:,.3g} s")


def predict_each(query: Query, subsets: dict[str, list[int]], level: float) -> tuple[list[dict[str, Any]], Any]:
    """Predict several named subsets; returns JSON values and what to show."""
    from circuitsketch.report.tables import format_predictions

    predictions = query.without(list(subsets.values()))
    each = [
        {"name": name, "deleted": len(ids), "ids": ids} | query.without(ids).to_dict(level)
        for name, ids in subsets.items()
    ]
    counts = [len(ids) for ids in subsets.values()]
    return each, format_predictions(predictions, list(subsets), counts, level)


def parse_size(text: str) -> int | tuple[int, int]:
    """Parse --size: one number, or two with a comma between them.

    >>> parse_size("5"), parse_size("5,20")
    (5, (5, 20))
    """
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"--size must be a number such as 5, or two such as 5,20, not {text!r}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


EXAMPLES = {
    attribute: (
        "Examples:\n\n  circuitsketch attribute microgpt:200 --measure loss:elizabeth --containing z\n\n"
        "  circuitsketch attribute logistic --measure held_out_loss --budget 500\n\n"
        "  circuitsketch attribute my_run.py:make --measure my_run.py:loss --by-label --keep work"
    ),
}
