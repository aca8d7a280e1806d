"""Progress of a computation: a user's callback, or a progress bar on the terminal with rate and remaining time.

In: True, a callback, or None. Out: a callback or None, valid while the computation runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import Any

from circuitsketch.arguments import call, quoted
from circuitsketch.backends.compile_progress import describe_compiling, watch_compiling
from circuitsketch.errors import InputError

# Called with (blocks done, blocks) whenever a block is finished; where blocks take long, in between with a fraction.
Progress = Callable[[float, int], None]


def format_rate(speed: float | None, thing: str) -> str:
    """Format a speed as things per second, or seconds per thing if it is slow.

    >>> [format_rate(speed, "block") for speed in (12.0, 1.5, 0.01, None)]
    ['12 blocks/s', '1.50 blocks/s', '100 s/block', '']
    """
    if not speed:
        return ""
    return f"{speed:,.{0 if speed > 10 else 2}f} {thing}s/s" if speed >= 0.5 else f"{1 / speed:,.0f} s/{thing}"


def columns(bar_width: int | None = 40, rate_of: Callable[[float | None, str], str] = format_rate) -> list[Any]:
    """Return the columns of a bar: description, count, rate, elapsed time, and remaining time where it is known.

    rate_of : formats a speed and the name of what is counted, the field `thing` of a task (default: blocks).
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
        """The speed over the last half minute, or over the whole task when it is finished."""

        def render(self, task: Task) -> Text:
            return Text(rate_of(task.finished_speed or task.speed, task.fields.get("thing", "block")))

    class Left(ProgressColumn):
        """The remaining time; empty while it is unknown."""

        max_refresh = 0.5  # seconds, so that it can be read

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
    """Return a callback that draws compilation as a bar, below a line that says where kernels are cached.

    None if the bars are not on a terminal.
    """
    if not bars.console.is_terminal:
        return None
    tasks: list[Any] = []

    def draw(done: int, total: int) -> None:
        bars.start()
        if not tasks:
            bars.console.print(describe_compiling(total), highlight=False, markup=False, soft_wrap=True)
            tasks.append(bars.add_task("compile", total=total, completed=done - 1, thing="kernel"))
        bars.update(tasks[-1], completed=done)
        if done == total:
            tasks.clear()

    return draw


@contextmanager
def show_progress(
    progress: Progress | bool | None, stream: Any = None, task: str = "sketch", thing: str = "block"
) -> Iterator[Progress | None]:
    """Yield the callback that a user's `progress` stands for; True draws a bar on stderr (or on `stream`).

    task, thing : the bar's description, and the name of what is counted.

    >>> with show_progress(None) as report_progress:
    ...     report_progress is None
    True
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is not True:
        if not callable(progress):
            raise InputError(
                f"progress must be True or a function of ({thing}s done, {thing}s in total), not {quoted(progress)}"
            )

        def forward(done: float, blocks: int) -> None:
            call(progress, "progress", done, blocks)

        yield forward
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True) if stream is None else Console(file=stream)
    with ExitStack() as stack:
        bars = Bars(*columns(), console=console)
        try:
            stack.enter_context(bars)
        except RuntimeError:  # the thread that draws it cannot be started
            bars.live.stop()
            yield None
            return
        stack.enter_context(watch_compiling(compile_bar(bars)))
        bar = bars.add_task(task, total=None, thing=thing)

        def report_progress(done: float, blocks: int) -> None:
            if next(task for task in bars.tasks if task.id == bar).total is None:
                bars.reset(
                    bar, total=blocks, completed=ceil(done) - 1
                )  # exclude the blocks of an earlier attempt from the rate
            bars.update(bar, completed=done)

        yield report_progress
