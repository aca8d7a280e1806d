"""How far a push has come: a callback of the user's, or a bar on the terminal with its rate and the time that is left.

In: True, a callback, or nothing. Out: a callback, or nothing, for as long as the work lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import Any

from circuitsketch.arguments import call, quoted
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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Blocks a second, over the last half minute."""

        def render(self, task: Task) -> Text:
            return Text(rate(task.finished_speed or task.speed, "block"))

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True) if stream is None else Console(file=stream)
    with ExitStack() as stack:
        bars = Bars(*columns, console=console)
        try:
            stack.enter_context(bars)
        except RuntimeError:  # no thread is to be had that draws it
            bars.live.stop()
            yield None
            return
        bar = bars.add_task("sketch", total=None)

        def tell(done: float, blocks: int) -> None:
            if bars.tasks[0].total is None:
                bars.reset(bar, total=blocks, completed=ceil(done) - 1)  # blocks of an earlier attempt have no rate
            bars.update(bar, completed=done)

        yield tell
