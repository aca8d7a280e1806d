"""The command line: words in, `report`'s numbers out, as a table or as JSON.

Only this file prints. Progress goes to stderr and results to stdout, a mistake is one line on stderr and exit code 2,
and Ctrl-C is exit code 130. What takes long to import is imported by the command that needs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from circuitsketch.errors import CircuitSketchError, InputError

if TYPE_CHECKING:
    from circuitsketch.report import Demo, Watch

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="circuitsketch",
    help="What would a trained model say if some of its training data had never been there?",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from circuitsketch import __version__

        typer.echo(f"circuitsketch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    """What would a trained model say if some of its training data had never been there?"""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    directions: Annotated[
        int, typer.Option(help="Random directions to sketch with: more, and errors shrink.")
    ] = 256,
    order: Annotated[int, typer.Option(help="The highest Taylor coefficient.")] = 3,
    steps: Annotated[int, typer.Option(help="Train on this many names, one a step.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the initial parameters and of the directions.")] = 0,
    json_to: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the numbers as JSON to a file; - is stdout."),
    ] = None,
) -> None:
    """Sketch the training of a small GPT on real names, predict what deletions would do, retrain to check."""
    errors = Console(stderr=True)
    if json_to is not None and json_to != "-":
        check_writable(Path(json_to))  # before the work, not after it

    with errors.status("tracing the training") if errors.is_terminal else nullcontext():
        from circuitsketch.report import Settings, prepare, study

        experiment = prepare(Settings(directions=directions, order=order, steps=steps, seed=seed))
    size = experiment.run.size
    errors.print(f"A microgpt trained on {steps:,} names: size(A) = {size:,} scalar gates.", highlight=False)
    with progress_bars(errors) as watch:
        found = study(experiment, watch)

    if json_to is not None:
        write_json(found, json_to)
    if json_to != "-":
        print_demo(found, Console())


@contextmanager
def progress_bars(console: Console) -> Iterator[Watch]:
    """A bar for each stage of a study, for as long as the block runs."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, total=total)

        yield watch


def print_demo(found: Demo, console: Console) -> None:
    """The table of predictions and truths, what it shows, and the warnings."""
    from circuitsketch.report.demo import LEVEL

    settings = found.settings
    table = Table(
        "loss on",
        "without",
        title=f"order {settings.order}, {settings.directions} directions, losses in nats a token",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for heading in ("trained", "predicted", f"{LEVEL:.0%} interval", "retrained", "order 1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for answer in found.answers:
        question = answer.question
        table.add_row(
            question.name,
            f"{question.letters} ({len(question.ids)})",
            f"{answer.baseline:.3f}",
            f"{answer.predicted:.3f}",
            f"{answer.low:.3f} to {answer.high:.3f}",
            f"{answer.retrained:.3f}",
            f"{answer.first_order:.3f}",
        )
    console.print(table)
    main = found.answers[0].question
    count = len(main.ids)
    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.seconds.items())
    lines = [
        f"{main.letters} ({count}): had the {count} name{'s' * (count > 1)} with {main.letters} never been there",
        "order 1: what the first-order term alone predicts",
        f"{found.covered} of {len(found.answers)} retrained losses lie in their interval",
        f"time: {spent}",
        *warning_lines(found),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def warning_lines(found: Demo) -> list[str]:
    """One line for each kind of warning: the first of its kind in full, and which others have it too."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for answer in found.answers:
        for warning in answer.warnings:
            kind = warning.split(":")[0]
            kinds.setdefault(kind, []).append(
                (f"{answer.question.name} without {answer.question.letters}", warning)
            )
    lines = []
    for (first, text), *others in kinds.values():
        too = f" (so do {', '.join(asked for asked, _ in others)})" if others else ""
        lines.append(f"{first} warns{too}: {text}")
    return lines


def check_writable(path: Path) -> None:
    """InputError where a file cannot be written; leaves no file behind."""
    existed = path.exists()
    try:
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as reason:
        raise InputError(
            f"cannot write {path}: {reason.strerror}; give --json a file that can be written, or -"
        ) from None


def write_json(found: Demo, target: str) -> None:
    """The demo's numbers to a file, or to stdout for "-"; InputError where the file cannot be written."""
    text = json.dumps(found.as_dict(), indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as reason:
        raise InputError(f"cannot write {target}: {reason.strerror}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments`, the process's own by default; leaves by SystemExit with the code."""
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="circuitsketch",
            standalone_mode=False,
        )
    except CircuitSketchError as reason:
        code = complain(str(reason), MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as reason:
        # A wrong option: typer's and click's usage errors share this method, and no base class across versions.
        if not hasattr(reason, "format_message"):
            raise
        code = complain(reason.format_message(), MISTAKE)
    if code == INTERRUPTED:
        complain("interrupted", INTERRUPTED)
    sys.exit(code or 0)


def complain(message: str, code: int) -> int:
    """One line on stderr; returns the exit code that goes with it."""
    print(f"circuitsketch: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
