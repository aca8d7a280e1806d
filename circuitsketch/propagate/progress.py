"""How far a push has come: a callback of the user's, or a bar on the terminal with its rate and the time that is left.

In: True, a callback, or nothing. Out: a callback, or nothing, for as long as the work lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import Any

from circuitsketch.arguments import call, quoted
from circuitsketch.backends.watching import compiling, watching
from circuitsketch.errors import InputError

# Called with (blocks done, blocks) whenever a block is finished; where blocks take long, in between with a fraction.
Progress = Callable[[float, int], None]


def rate(speed: float | None, thing: str) -> str:
    """So many things a second, or so many seconds a thing.

    >>> rate(12.0, "block"), rate(1.5, "block"), rate(0.01, "block"), rate(None, "block")
    ('12 blocks/s', '1.50 blocks/s', '100 s a block', '')
    """
    if not speed:
        return ""
    return f"{speed:,.{0 if speed > 10 else 2}f} {thing}s/s" if speed >= 0.5 else f"{1 / speed:,.0f} s a {thing}"


def columns(bar_width: int | None = 40, rate_of: Callable[[float | None, str], str] = rate) -> list[Any]:
    """The columns of a bar: what is done, how much of it, how fast, for how long, and the time left where it is known.

    rate_of : the words for a speed and for what is counted, the field `thing` of a task (default: blocks).
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """The speed over the last half minute, or over all of it when it is done."""

        def render(self, task: Task) -> Text:
            return Text(rate_of(task.finished_speed or task.speed, task.fields.get("thing", "block")))

    class Left(ProgressColumn):
        """The time left, and nothing while it is not known."""

        max_refresh = 0.5  # seconds: an estimate that changes all the time cannot be read

        def render(self, task: Task) -> Text:
            seconds = task.time_remaining
            if task.total is None or seconds is None:
                return Text("")
            minutes, seconds = divmod(int(seconds), 60)
            hours, minutes = divmod(minutes, 60)
            return Text(f"{hours}:{minutes:02}:{seconds:02} left")

    return [
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        Left(),
    ]


def compile_bar(bars: Any) -> Callable[[int, int], None] | None:
    """A watch of compiling that draws a bar among others, under a line that says where kernels are kept; none where
    the bars are not on a terminal."""
    if not bars.console.is_terminal:
        return None
    begun: list[Any] = []

    def watch(done: int, total: int) -> None:
        bars.start()
        if not begun:
            bars.console.print(compiling(total), highlight=False, markup=False, soft_wrap=True)
            begun.append(bars.add_task("compile", total=total, completed=done - 1, thing="kernel"))
        bars.update(begun[-1], completed=done)
        if done == total:
            begun.clear()

    return watch


@contextmanager
def shown(progress: Progress | bool | None, stream: Any = None) -> Iterator[Progress | None]:
    """The callback that a user's `progress` stands for; True draws a bar on stderr (or on `stream`).

    >>> with shown(None) as tell:
    ...     tell is None
    True
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is not True:
        if not callable(progress):
            raise InputError(f"progress is True, or a function of (blocks done, blocks), not {quoted(progress)}")

        def call_back(done: float, blocks: int) -> None:
            call(progress, "progress", done, blocks)

        yield call_back
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True) if stream is None else Console(file=stream)
    with ExitStack() as stack:
        bars = Bars(*columns(), console=console)
        try:
            stack.enter_context(bars)
        except RuntimeError:  # no thread is to be had that draws it
            bars.live.stop()
            yield None
            return
        stack.enter_context(watching(compile_bar(bars)))
        bar = bars.add_task("sketch", total=None)

        def tell(done: float, blocks: int) -> None:
            if next(task for task in bars.tasks if task.id == bar).total is None:
                bars.reset(bar, total=blocks, completed=ceil(done) - 1)  # blocks of an earlier attempt have no rate
            bars.update(bar, completed=done)

        yield tell
