"""What the commands print: results on stdout, as tables or JSON; progress and complaints on stderr.

Colours, and the width of a line, are rich's to decide: none off a terminal or with NO_COLOR, 80 columns where nobody
says otherwise.
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

from circuitsketch.backends.watching import compiling, watching
from circuitsketch.errors import InputError, printable
from circuitsketch.propagate.progress import columns, compile_bar

if TYPE_CHECKING:
    from circuitsketch.report import Watch


class Interrupted(Exception):
    """Ctrl-C, with what was kept and how to go on."""


class Answer:
    """Where a command's result goes: `--json -` is JSON and nothing else on stdout, `--json FILE` is both.

    Made before the work, so that a file that cannot be written is known then.
    """

    def __init__(self, json_to: str | None) -> None:
        self.json_to = json_to
        if json_to is not None and json_to != "-":
            check_writable(Path(json_to))

    def give(self, plain: dict[str, Any], *shown: RenderableType) -> None:
        """Write the result: `plain` as JSON where it is wanted, what is shown to people unless stdout is JSON's."""
        if self.json_to is not None:
            write_json(plain, self.json_to)
        if self.json_to != "-":
            console = Console(emoji=False)
            with writing("stdout"):
                for part in shown:
                    part = printable(part, keep="\n") if isinstance(part, str) else part
                    # A listing keeps its lines; a sentence is broken between words.
                    listing = isinstance(part, str) and "\n" in part
                    console.print(part, highlight=False, markup=False, soft_wrap=listing)


def tell(text: str) -> None:
    """A line on stderr about what is being done."""
    Console(stderr=True, emoji=False).print(printable(text, keep="\n"), highlight=False, markup=False)


def complain(message: str, code: int) -> int:
    """One line on stderr; returns the exit code that goes with it."""
    print(f"circuitsketch: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


@contextmanager
def keeping(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C within says what was kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(how_to_go_on()) from None


@contextmanager
def working(what: str) -> Iterator[None]:
    """A line on a terminal for as long as something lasts that has no parts to count."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield
        return
    status = errors.status(Text(printable(what)))
    with suppress(RuntimeError):  # there is no thread to be had to draw it
        status.start()

    def watch(done: int, total: int) -> None:
        status.update(Text(f"{compiling(total)}: {done:,} done" if done < total else printable(what)))

    try:
        with watching(watch):
            yield
    finally:
        status.stop()


def rate(speed: float | None, thing: str) -> str:
    """Parts a second, or seconds a part where they are slow."""
    if not speed:
        return ""
    return f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:,.1f} s each"


@contextmanager
def progress_bars() -> Iterator[Watch]:
    """A bar for each stage of the work, with its rate and the time left; a total of 0 is one not known yet.

    Nothing is shown before the first stage begins, nor left of one whose total was never known.
    """
    progress = Progress(*columns(20, rate), console=Console(stderr=True))
    bars: dict[str, TaskID] = {}

    def watch(stage: str, done: float, total: int) -> None:
        if stage not in bars:
            bars[stage] = progress.add_task(stage, total=None)
            progress.start()
        bar = bars[stage]
        if total and next(task for task in progress.tasks if task.id == bar).total is None:
            progress.reset(bar, total=total, completed=max(ceil(done) - 1, 0))  # what is older has no rate
        progress.update(bar, completed=done)

    try:
        with watching(compile_bar(progress)):
            yield watch
    finally:
        for task in progress.tasks:
            if task.total is None:
                progress.remove_task(task.id)
        if progress.tasks:
            progress.stop()
        else:  # without the line that ends what was shown
            progress.live.transient = True
            progress.live.stop()


def check_writable(path: Path) -> None:
    """A usage error where a file cannot be written; leaves no file behind."""
    existed = path.exists()
    try:
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as reason:
        raise typer.BadParameter(
            f"cannot write {path}: {reason.strerror}; give --json a file that can be written, or -"
        ) from None


def write_json(plain: dict[str, Any], target: str) -> None:
    """A result to a file, or to stdout for "-"; InputError where the file cannot be written."""
    text = re.sub(r"[^\x20-\x7e\n]", escape, json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"
    if target == "-":
        with writing("stdout"):
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    with writing(target):
        Path(target).write_text(text, encoding="utf-8")


def escape(match: re.Match[str]) -> str:
    """A character in a JSON string, escaped where a terminal would not show it."""
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


@contextmanager
def writing(where: str) -> Iterator[None]:
    """InputError where something cannot be written; a reader that has gone is left to `main`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as reason:
        raise InputError(f"cannot write {where}: {reason.strerror}") from None
