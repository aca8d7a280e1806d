"""Suggest alternatives to functions that have no gate, for error messages.

In: the name of a function or method, and the functions that have gates. Out: a sentence. A function of
similar spelling is suggested only if it is very close and in the same module.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

JUMPS = "it is locally constant and has no Taylor series; compute it on plain data, or use np.where"
LINEAR = (
    "linear algebra beyond products has no gate: use plain data before tracing, or write it out with + - * / and "
    "np.sqrt (an elimination, a Cholesky factor, some steps of conjugate gradients)"
)
ORDER = "the order of elements depends on their values; sort plain data before tracing, or use np.max, np.min, np.where"
INTEGERS = "its result is integers; compute it on plain data before tracing"
ANGLE = (
    "it has slope 1 and jumps where x crosses a multiple of the divisor; use plain data before tracing, or, for "
    "angles, use np.sin and np.cos"
)
MISSING = "a wire has no missing elements; use np.where(present, x, 0.0) with a mask from plain data"
HINTS: dict[str, str] = {
    **dict.fromkeys("floor ceil rint trunc round around fix sign heaviside floor_divide divmod".split(), JUMPS),
    **dict.fromkeys("isnan isfinite isinf isposinf isneginf signbit argmax argmin count_nonzero".split(), JUMPS),
    **dict.fromkeys("mod remainder fmod".split(), ANGLE),
    **dict.fromkeys(
        "solve inv pinv det slogdet cholesky eig eigh eigvals eigvalsh svd svdvals qr lstsq matrix_power "
        "matrix_rank cond".split(),
        LINEAR,
    ),
    **dict.fromkeys(
        "sort argsort partition argpartition median percentile quantile unique searchsorted".split(), ORDER
    ),
    **dict.fromkeys("nonzero flatnonzero argwhere digitize histogram bincount".split(), INTEGERS),
    **dict.fromkeys("nansum nanmean nanmax nanmin nanstd nanvar nanprod nan_to_num nanmedian".split(), MISSING),
    "fmax": "use np.maximum, which propagates NaN",
    "fmin": "use np.minimum, which propagates NaN",
    "average": "write np.sum(weights * x) / np.sum(weights)",
    "ptp": "write np.max(x) - np.min(x)",
    "cbrt": "write x ** (1 / 3), for positive x",
    "sinc": "write np.sin(np.pi * x) / (np.pi * x)",
    "deg2rad": "write x * (np.pi / 180)",
    "radians": "write x * (np.pi / 180)",
    "rad2deg": "write x * (180 / np.pi)",
    "degrees": "write x * (180 / np.pi)",
    "ldexp": "write x * 2.0**n",
    "copysign": "write np.where(y < 0, -1.0, 1.0) * np.abs(x)",
    "kron": "write np.einsum('ij,kl->ikjl', a, b).reshape(...)",
    "convolve": "np.stack shifted slices of x and contract them with np.einsum",
    "correlate": "np.stack shifted slices of x and contract them with np.einsum",
    "interp": "find the neighbouring points on plain data, and interpolate with + and *",
    "select": "nest np.where(test, a, b)",
    "piecewise": "nest np.where(test, a, b)",
    "choose": "nest np.where(test, a, b)",
    "column_stack": "use np.stack(columns, axis=1)",
    "dstack": "use np.stack(parts, axis=-1)",
    "append": "use np.concatenate",
    "insert": "use np.concatenate of slices",
    "delete": "use np.take with the remaining indices",
    "ndtr": "write 0.5 * scipy.special.erfc(-x / np.sqrt(2))",
    "polygamma": "use cs.special.polygamma(n, x)",
    "log_expit": "write -cs.softplus(-x)",
    "log1pexp": "use cs.softplus(x)",
    "softmax": "use cs.softmax(x, axis=...), or cs.special.softmax, of the same signature",
    "log_softmax": "use cs.log_softmax(x, axis=...), or cs.special.log_softmax, of the same signature",
    "logsumexp": "use cs.special.logsumexp, of the same signature, or cs.log_softmax where logits are normalised",
    "xlogy": "write x * np.log(np.where(x == 0, 1.0, y))",
    "xlog1py": "write x * np.log1p(np.where(x == 0, 0.0, y))",
    "entr": "write -x * np.log(np.where(x == 0, 1.0, x))",
    "rel_entr": "write x * np.log(x / y)",
    "sigmoid": "use cs.sigmoid",
    "relu": "use cs.relu",
    "gelu": "use cs.gelu",
    "exp10": "write 10.0 ** x",
    "cosm1": "write -2.0 * np.sin(0.5 * x) ** 2",
}


def advice(name: str, known: Iterable[str]) -> str:
    """Return what to use instead of a function; `known` are the names of functions with gates, such as np.exp.

    >>> advice("np.linalg.solve", ["np.absolute"]).split(":")[0]
    'linear algebra beyond products has no gate'
    >>> advice("np.logaddexp3", ["np.logaddexp", "np.log"])
    'build it from + - * / np.exp np.log np.where and np.einsum (similar: np.logaddexp)'
    """
    family, _, last = name.rpartition(".")
    if last in HINTS:
        return HINTS[last]
    relatives = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == family]
    near = difflib.get_close_matches(last, relatives, n=2, cutoff=0.85)
    listed = f" (similar: {', '.join(f'{family}.{k}' for k in near)})" if near else ""
    return f"build it from + - * / np.exp np.log np.where and np.einsum{listed}"
