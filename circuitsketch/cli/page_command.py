"""The command page: a sketch's measurements on a page in the browser, in one file, or as a log that is replayed."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuitsketch.cli.options import Device, Json, Seed, Store
from circuitsketch.cli.output import Output, print_status, show_status
from circuitsketch.cli.query_commands import DEFAULT_CALIBRATION, open_stored, run_for
from circuitsketch.errors import InputError

if TYPE_CHECKING:
    from circuitsketch.page.view import View
    from circuitsketch.training.training import Training

SHOWN = (
    "per example",
    "per group",
    "retrained",
    "groups",
    "labels",
    "similarity",
    "run",
    "path",
)  # of a sketch's facts
SAME = 1e-9  # relative, up to which a replayed answer is the logged one


def page(
    store: Store,
    measure: Annotated[
        list[str],
        typer.Option(
            metavar="FUNCTION",
            help="The measurement, as for predict; repeat the option to show several measurements side by side.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--run",
            "--target",
            metavar="TARGET",
            help="The training run of the sketch, for retraining; not needed for zoo models.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="First calibrate the intervals by retraining without N random subsets; requires the run. Default: "
            "use the retrained subsets stored in the sketch or, if there are none and --run is given, 48; 0 "
            "turns calibration off.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the page to one file, which a browser opens without a server, and exit.",
            show_default=False,
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Predict the questions of a log (JSON or CSV, downloaded from the page) again, compare with its "
            "answers, and exit.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 0,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Accept requests from other machines, at the address given by --host."),
    ] = False,
    seed: Seed = 0,
    json_to: Json = None,
) -> None:
    """Ask about deletions on a page in the browser, served by this machine.

    The printed address contains a token, without which the server refuses requests. The sketch is not changed. With
    --html, writes the page to a file instead, which predicts by adding the effects of single examples; with --replay,
    predicts the questions of a log again.
    """
    output = Output(json_to)
    if html is not None and replay is not None:
        raise typer.BadParameter("--html and --replay cannot be combined; give only one of them")
    view = open_view(store, measure, target, calibrate, seed)
    if replay is not None:
        output.write(*replay_log(view, replay, store))
        return
    if html is not None:
        from circuitsketch.page.static_page import write_static_page

        with show_status("writing the page"):
            size = write_static_page(view, html)
        output.write(
            {"file": str(html), "bytes": size},
            f"wrote {html}: {size / 1e3:,.0f} kB, which a browser opens without a server",
        )
        return
    serve(view, host, port, allow_remote, store)


def open_view(store: Path, measures: list[str], target: str | None, calibrate: int | None, seed: int) -> View:
    """Open a sketch, measure it, and calibrate the measurements if that was asked for."""
    with show_status("measuring"):
        from circuitsketch.attribution.description import facts, heading
        from circuitsketch.cli.parsing import load_measurement, load_run
        from circuitsketch.page.view import View

        sketch = open_stored(store, None if target is None else load_run(target))
        queries = {}
        for measure in measures:
            if measure in queries:
                raise typer.BadParameter(f"--measure {measure} is given twice")
            queries[measure] = sketch.measure(load_measurement(measure, sketch.origin), device=Device.cpu.value)

        @cache
        def load() -> Training:
            return run_for(sketch, target, "training again")

        about = [("sketch", heading(sketch)), *(fact for fact in facts(sketch) if fact[0] in SHOWN)]
        view = View(queries, title=store.name, about=about, load_run=load)
    kept = calibrate != 0 and view.take_in_kept(calibrate or 1)
    count = calibrate if calibrate is not None else DEFAULT_CALIBRATION if target is not None else 0
    if count and not kept:
        with show_status(f"calibrating: retraining without each of {count} subsets"):
            view.calibrate(count, seed=seed)
        if view.retrained.diverged:
            print_status(
                f"{len(view.retrained.diverged)} of {count} subsets are ignored, because retraining without them "
                "diverged"
            )
    with show_status("fitting"):
        view.ask([0])  # so that the first question is as quick as the others
    return view


def serve(view: View, host: str, port: int, allow_remote: bool, store: Path) -> None:
    """Serve a view until Ctrl-C."""
    from circuitsketch.page.server import PageServer

    server = PageServer(view, host, port, allow_remote=allow_remote, store=store)
    typer.echo(server.address)
    print_status("open this address in a browser; press Ctrl-C to stop the server")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print_status("the server has stopped")
    finally:
        server.server_close()


def replay_log(view: View, path: Path, store: Path) -> tuple[Any, ...]:
    """Ask the questions of a log again; returns JSON values, a title and a table."""
    from circuitsketch.cli.subsets import read_log
    from circuitsketch.report.tables import create_table, format_number

    table = create_table("question", "value", numbers=("logged", "now", ""))
    rows = []
    for name, ids, logged in read_log(path, view.n, view.unit):
        answer = view.ask(ids)
        for value, now in zip(view.values, answer["values"], strict=True):
            before = logged.get(value.name)
            same = before is not None and math.isclose(before, now["value"], rel_tol=SAME)
            rows.append(
                {"name": name, "ids": ids, "value_name": value.name, "logged": before, "same": same}
                | {key: now[key] for key in ("value", "low", "high")}
            )
            shown = "-" if before is None else format_number(before)
            table.add_row(name, value.name, shown, format_number(now["value"]), "same" if same else "differs")
    if not rows:
        raise InputError(f"--replay: {path} contains no questions")
    equal = sum(row["same"] for row in rows)
    title = f"{len(rows)} answers of {path}: {equal} the same, {len(rows) - equal} differ"
    return {"store": str(store), "log": str(path), "answers": rows}, title, table


EXAMPLES = {
    page: (
        "Examples:\n\n  circuitsketch page names.sketch --measure loss:max --measure loss:emma --calibrate 48\n\n"
        "  circuitsketch page mine.sketch --measure my_run.py:loss --run my_run.py:make --port 8000\n\n"
        "  circuitsketch page tumours.sketch --measure held_out_loss --html page.html"
    ),
}
