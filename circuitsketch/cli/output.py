"""Output of the commands: results on stdout, as tables or JSON; progress and errors on stderr.

Rich decides on colours (none without a terminal or with NO_COLOR) and on the line width (default: 80 columns).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress, TaskID
from rich.text import Text

from circuitsketch.backends.compile_progress import describe_compiling, watch_compiling
from circuitsketch.errors import InputError, printable
from circuitsketch.propagate.progress import columns, compile_bar

if TYPE_CHECKING:
    from circuitsketch.report import StageProgress


class Interrupted(Exception):
    """Ctrl-C, with a message of what was saved and how to resume."""


class Output:
    """The destination of a command's result: `--json -` writes only JSON to stdout, `--json FILE` both text and JSON.

    Create it before the work, so that a file that cannot be written is reported first.
    """

    def __init__(self, json_to: str | None) -> None:
        self.json_to = json_to
        if json_to is not None and json_to != "-":
            check_writable(Path(json_to))

    def write(self, plain: dict[str, Any], *shown: RenderableType) -> None:
        """Write the result: `plain` as JSON if requested, `shown` as text unless stdout is for JSON."""
        if self.json_to is not None:
            write_json(plain, self.json_to)
        if self.json_to != "-":
            console = Console(emoji=False)
            with writing("stdout"):
                for part in shown:
                    part = printable(part, keep="\n") if isinstance(part, str) else part
                    # Listings keep their lines; sentences are wrapped.
                    listing = isinstance(part, str) and "\n" in part
                    console.print(part, highlight=False, markup=False, soft_wrap=listing)


def print_status(text: str) -> None:
    """Print a status line on stderr."""
    Console(stderr=True, emoji=False).print(printable(text, keep="\n"), highlight=False, markup=False)


def print_error(message: str, code: int) -> int:
    """Print an error as one line on stderr; returns the exit code."""
    print(f"circuitsketch: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


@contextmanager
def report_kept(resume_hint: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C into `Interrupted`, with the message that `resume_hint` returns."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(resume_hint()) from None


@contextmanager
def show_status(what: str) -> Iterator[None]:
    """Show a status line on a terminal during work whose progress cannot be measured."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield
        return
    status = errors.status(Text(printable(what)))
    with suppress(RuntimeError):  # the thread that draws it cannot be started
        status.start()

    def report_compiling(done: int, total: int) -> None:
        status.update(Text(f"{describe_compiling(total)}: {done:,} done" if done < total else printable(what)))

    try:
        with watch_compiling(report_compiling):
            yield
    finally:
        status.stop()


def format_rate(speed: float | None, thing: str) -> str:
    """Format a speed as parts per second, or as seconds per part if it is slow."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:,.1f} s each"


@contextmanager
def progress_bars() -> Iterator[StageProgress]:
    """Show a progress bar per stage, with its rate and remaining time; a total of 0 is not known yet.

    Nothing is shown before the first stage begins, and a bar whose total was never known is removed.
    """
    progress = Progress(*columns(20, format_rate), console=Console(stderr=True))
    bars: dict[str, TaskID] = {}

    def report_progress(stage: str, done: float, total: int) -> None:
        if stage not in bars:
            bars[stage] = progress.add_task(stage, total=None)
            progress.start()
        bar = bars[stage]
        if total and next(task for task in progress.tasks if task.id == bar).total is None:
            progress.reset(bar, total=total, completed=max(ceil(done) - 1, 0))  # exclude earlier parts from the rate
        progress.update(bar, completed=done)

    try:
        with watch_compiling(compile_bar(progress)):
            yield report_progress
    finally:
        for task in progress.tasks:
            if task.total is None:
                progress.remove_task(task.id)
        if progress.tasks:
            progress.stop()
        else:  # without a final newline
            progress.live.transient = True
            progress.live.stop()


def check_writable(path: Path) -> None:
    """Raise a usage error if a file cannot be written; leaves no file behind."""
    existed = path.exists()
    try:
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as reason:
        raise typer.BadParameter(f"cannot write {path}: {reason.strerror}; give --json a writable file, or -") from None


def write_json(plain: dict[str, Any], target: str) -> None:
    """Write a result as JSON to a file, or to stdout for "-". InputError: the file cannot be written."""
    text = re.sub(r"[^\x20-\x7e\n]", escape, json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"
    if target == "-":
        with writing("stdout"):
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    with writing(target):
        Path(target).write_text(text, encoding="utf-8")


def escape(match: re.Match[str]) -> str:
    """Escape a character of a JSON string unless a terminal shows it."""
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Turn write errors into InputError, except for a closed pipe, which is left to `main`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as reason:
        raise InputError(f"cannot write {where}: {reason.strerror}") from None
