"""Push directions of one's own choice through a training run: the exact series along each of them."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np

from circuitsketch.arguments import check_executor, check_order, refuse_device
from circuitsketch.arrays import check_dtype, plain_array
from circuitsketch.attribution.sketch import Sketch, make_sketch
from circuitsketch.attribution.validation import names_to_keep
from circuitsketch.backends.registry import check_device
from circuitsketch.directions import Given
from circuitsketch.errors import InputError
from circuitsketch.limits import within_memory
from circuitsketch.propagate.parts import SketchSpec
from circuitsketch.propagate.progress import Progress
from circuitsketch.training.training import Training


@within_memory("the sketch", "fewer directions", "dtype='complex64'", "a lower order")
def push(
    run: Training,
    directions: Any,
    order: int = 3,
    *,
    keep: Any = None,
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
) -> Sketch:
    """Push given directions through a training run.

    Parameters
    ----------
    run : Training
        The training run.
    directions : array_like, of shape (m, n)
        Real or complex; real ones cost a quarter.
    order, keep, dtype, threads, progress, device, executor : optional
        As for `sketch`.

    Returns
    -------
    Sketch
        Of distribution "given": along a direction psi, keep is 1 - z psi, and `state` holds the coefficients of z^k.

    Raises
    ------
    InputError
        For directions of another length, or not finite.
    DomainError, DivergenceError, DeviceError, WorkerError
        As for `sketch`.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep[0] * keep[0] * x, np.zeros(()), [1.0], [[0]])
    >>> cs.push(run, [[1.0]], order=2).state.real
    array([[ 1., -2.,  1.]])
    """
    if not isinstance(run, Training):
        raise InputError(f"cs.push takes a cs.Training, not {type(run).__name__}; for a function use cs.local_sketch")
    vectors = plain_array(directions, "the array of numbers that directions are")
    if vectors.ndim != 2 or vectors.shape[1] != run.n:
        raise InputError(
            f"directions of shape {vectors.shape}; give (directions, examples) = (any, {run.n}), one weight per example"
        )
    number = check_dtype(dtype)
    refuse_device(check_executor(executor), check_device(device))
    spec = SketchSpec(
        run,
        Given(vectors),
        len(vectors),
        check_order(order),
        dtype=number,
        threads=threads,
        device=device,
        keep=names_to_keep(run, keep),
        executor=executor,
    )
    return make_sketch(spec, progress=progress)
