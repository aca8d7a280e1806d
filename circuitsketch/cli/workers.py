"""The workers that --executor names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor


@contextmanager
def open_executor(name: str | None) -> Iterator[Executor | None]:
    """Yield the executor of a name, or None without one."""
    if name is None:
        yield None
        return
    from circuitsketch.workers.executors import executor

    with executor(name) as workers:
        yield workers
