"""Report the progress of compiling kernels to whoever asks for it, such as a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from circuitsketch.backends.cache import locate_cache

# Called with (kernels compiled, kernels to compile), from PATIENCE seconds of compiling on.
Report = Callable[[int, int], None]
REPORT: ContextVar[Report | None] = ContextVar("REPORT", default=None)
PATIENCE = 1.0


@contextmanager
def watch_compiling(report: Report | None) -> Iterator[None]:
    """Within this context, report the compiling of kernels to a function."""
    outer = REPORT.set(report)
    try:
        yield
    finally:
        REPORT.reset(outer)


def describe_compiling(count: int) -> str:
    """Describe the compiling of a number of kernels."""
    folder = locate_cache()
    return f"compiling {count:,} kernels" + ("" if folder is None else f" (cached in {folder})")
