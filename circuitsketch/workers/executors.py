"""`executor`: workers by name, on this machine, on a Dask cluster, or in an MPI job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Any

from circuitsketch.arguments import quoted
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError, WorkerError
from circuitsketch.workers.processes import Processes

RETRIES = 5  # of a task whose Dask worker dies
MOST_PROCESSES = 10_000
FORMS = "'processes', 'processes:4', 'dask://host:port' or 'mpi'"


@contextmanager
def executor(name: str = "processes") -> Iterator[Executor]:
    """Start or find workers, for the argument `executor=` of computations, and let them go in the end.

    Any other `concurrent.futures.Executor` can be passed as well. The results have the same bits as without workers.

    Parameters
    ----------
    name : str
        "processes" or "processes:4": processes on this machine, by default one per core; one that dies is replaced.
        "dask://host:port": the workers of a running Dask scheduler (requires `circuitsketch[dask]`).
        "mpi": the ranks of an MPI job, started by ``mpiexec -n 8 python -m mpi4py.futures script.py`` (requires
        mpi4py).

    Yields
    ------
    concurrent.futures.Executor

    Raises
    ------
    InputError
        For another name, or if the package that it needs is not installed.
    WorkerError
        If the scheduler cannot be reached.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> with cs.executor("processes:1") as executor:
    ...     sketch = cs.sketch(run, directions=2, order=1, executor=executor)
    >>> bool((sketch.state == cs.sketch(run, directions=2, order=1).state).all())
    True
    """
    kind, rest = parse_name(name)
    if kind == "processes":
        with Processes(int(rest) if rest else thread_count(None, MOST_PROCESSES)) as processes:
            yield processes
    elif kind == "dask":
        yield from dask_executor("tcp:" + rest)
    else:
        yield from mpi_executor()


def parse_name(name: Any) -> tuple[str, str]:
    """Return the kind of an executor and the rest of its name, or raise InputError.

    >>> parse_name("processes:4"), parse_name("dask://127.0.0.1:8786"), parse_name("mpi")
    (('processes', '4'), ('dask', '//127.0.0.1:8786'), ('mpi', ''))
    """
    kind, colon, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    count = int(rest) if re.fullmatch("[0-9]{1,8}", rest) else 0
    if (kind == "processes" and (not colon or 1 <= count <= MOST_PROCESSES)) or (kind == "mpi" and not colon):
        return kind, rest
    if kind == "dask" and re.fullmatch(r"//\S+:[0-9]+", rest):
        return kind, rest
    raise InputError(f"there is no executor {quoted(name)}; use {FORMS}")


def dask_executor(address: str) -> Iterator[Executor]:
    """Yield the workers of a Dask scheduler."""
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise InputError("dask://... needs Dask's scheduler; pip install 'circuitsketch[dask]'") from None
    try:
        client: Any = Client(address, set_as_default=False)
    except (OSError, ValueError) as reason:
        text = f"there is no Dask scheduler at {address}: {reason}; start one with `dask scheduler`"
        raise WorkerError(text) from reason
    # A run is large for a task graph, but is sent to each worker only once; a very large one goes around the scheduler.
    with client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
        workers = client.get_executor(pure=False, retries=RETRIES)
        workers._max_workers = max(sum(client.ncores().values()), 1)
        workers.scatter = partial(client.scatter, broadcast=True, hash=False)
        try:
            yield workers
        finally:
            workers.shutdown(wait=False)


def mpi_executor() -> Iterator[Executor]:
    """Yield the other ranks of an MPI job."""
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as reason:
        raise InputError(
            f"executor 'mpi' needs mpi4py and an MPI library ({reason}); pip install mpi4py mpich"
        ) from None
    with MPIPoolExecutor() as ranks:
        yield ranks
