"""The command figures: those of the paper and the package, or of a sketch on disk, with the data of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuitsketch.cli.options import Containing, Device, Json, Label, RunOf, SubsetFile, Threads, Without
from circuitsketch.cli.output import Output, progress_bars, report_kept, show_status


def figures(
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE",
            help="Folder of a sketch; default: the figures of the microgpt example.",
            show_default=False,
        ),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="The measurement; required with STORE.", show_default=False)
    ] = None,
    truths: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of retrained values, written by evaluate --keep.", show_default=False
        ),
    ] = None,
    without: Without = None,
    label: Label = None,
    containing: Containing = None,
    file: SubsetFile = None,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", help="Also retrain, and draw the retrained values as points on the curves; requires the run."
        ),
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Draw at the paper's scale (minutes) instead of a small one (seconds).")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write.")] = Path("figures"),
    target: RunOf = None,
    threads: Threads = None,
    json_to: Json = None,
) -> None:
    """Draw the figures of the paper and the package, or of your own sketch, and write the data of each.

    For STORE, draws the size of the series' terms by order, the most influential examples, the predicted change as a
    subset is removed gradually (one curve per subset of --file; default: the examples with the largest effects), and
    predictions against retrained values (those of --truths, or of the calibration stored in the sketch). Requires
    matplotlib.
    """
    output = Output(json_to)
    chosen = (without, label, containing, file)
    if store is None:
        from circuitsketch.report.figures import draw

        if (measure, truths, target, *chosen) != (None,) * 7 or retrain:
            raise typer.BadParameter("--measure, --truths, --target, --retrain and subsets require STORE")
        with report_kept(lambda: f"the finished figures are in {out}"), progress_bars() as progress:
            paths = draw(out, paper=paper, threads=threads, progress=progress)
    else:
        if paper:
            raise typer.BadParameter("--paper draws the paper's figures, not those of a sketch; leave out STORE")
        if measure is None:
            raise typer.BadParameter("STORE requires --measure FUNCTION")
        paths = draw_stored(store, measure, target, truths, chosen, retrain, out)
    output.write({"folder": str(out), "files": [str(path) for path in paths]}, "\n".join(str(path) for path in paths))


def draw_stored(
    store: Path,
    measure: str,
    target: str | None,
    truths: Path | None,
    chosen: tuple[list[str] | None, list[str] | None, list[str] | None, Path | None],
    retrain: bool,
    out: Path,
) -> list[Path]:
    """Draw the figures of a sketch; `chosen` holds --without, --label, --containing and --file."""
    from circuitsketch.attribution.calibrate import calibrate_query, choose_kept_drawn
    from circuitsketch.attribution.ground_truth import Source
    from circuitsketch.cli.query_commands import format_examples, measure_stored, run_for, select_examples, unit_of
    from circuitsketch.cli.subsets import read_subsets
    from circuitsketch.report.figures import draw_sketch

    sketch, query, function = measure_stored(store, measure, target, Device.cpu)
    *named, file = chosen
    ids = select_examples(sketch, *(texts or [] for texts in named))
    subsets = {} if file is None else read_subsets(file, sketch.n, unit_of(sketch))
    if ids:
        subsets = {name: sorted({*ids, *more}) for name, more in subsets.items()} or {
            f"{len(ids):,} of {sketch.n:,} {unit_of(sketch)}s ({format_examples(sketch, ids[:4])})": ids
        }
    source = Source(function, (), run_for(sketch, target, "--retrain")) if retrain else None
    kept = choose_kept_drawn(query)
    calibrated = None if kept is None else calibrate_query(query, kept)
    with show_status("drawing"):
        about = {"store": str(store), "measure": measure}
        return draw_sketch(out, query, measure, truths, about, subsets or None, calibrated, source)


EXAMPLES = {
    figures: (
        "Examples:\n\n  circuitsketch figures --paper --out figures\n\n"
        "  circuitsketch figures names.sketch --measure loss:max --containing z --out figures\n\n"
        "  circuitsketch figures tumours.sketch --measure held_out_loss --truths truths"
    ),
}
