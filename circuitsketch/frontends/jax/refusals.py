"""Refusals: a primitive without gates names the user's line, itself, and what to write instead."""

from __future__ import annotations

from typing import Any

from circuitsketch.circuit import Place
from circuitsketch.errors import TraceError

CONSTANT = (
    "its value is locally constant and has no Taylor series: compute it from the data (then no weight reaches it), or "
    "keep the choice soft (jax.nn.softmax, jnp.where)"
)
ORDER = (
    "the order of its elements is the weights': sort or rank the data instead, or use what does not depend on the "
    "order (jnp.max, jax.nn.softmax, jax.nn.logsumexp)"
)
SOLVE = (
    "there are no gates for decompositions of matrices: write small systems out (a 2 x 2 inverse, a few steps of "
    "Newton or of conjugate gradients), or decompose matrices of the data, which no weight reaches"
)
COMPLEX = "circuits compute on real numbers: carry real and imaginary parts as two arrays"
GENERAL = (
    "write the function with other functions of jax.numpy; what depends on the data alone, no weight reaches, and JAX "
    "may compute it as it likes"
)
ADVICE = {
    **dict.fromkeys(("argmax", "argmin", "round", "floor", "ceil", "rem", "population_count", "clz"), CONSTANT),
    **dict.fromkeys(("sort", "top_k", "approx_top_k"), ORDER),
    **dict.fromkeys(
        "lu cholesky qr householder_product eigh eig svd triangular_solve tridiagonal_solve".split(), SOLVE
    ),
    **dict.fromkeys(("schur", "custom_linear_solve", "lu_pivots_to_permutation", "geqrf", "geqp3", "ormqr"), SOLVE),
    **dict.fromkeys(("fft", "complex", "real", "imag", "conj"), COMPLEX),
    **dict.fromkeys(
        ("pure_callback", "io_callback", "debug_callback"),
        "a callback's result has no derivative: call it on the data only, or write it with jax.numpy",
    ),
    **dict.fromkeys(
        ("scatter-mul", "scatter_mul", "scatter-min", "scatter_min", "scatter-max", "scatter_max"),
        "only .at[].add and .at[].set have gates: use jnp.where with a mask",
    ),
    "erf_inv": "it has no gate: draw from the data's keys, which no weight reaches, or write the function otherwise",
    "pallas_call": "a kernel of your own cannot be looked into: use the same function in jax.numpy for this import",
    "shard_map": "a sharded function is for many devices: call the function itself",
}


def refuse(equation: Any, place: Place) -> TraceError:
    """Return the error for a primitive of something that the examples' weights reach."""
    name = equation.primitive.name
    through = f" (in {place.through})" if place.through else ""
    complex_ = any("complex" in str(v.aval.dtype) for v in (*equation.invars, *equation.outvars))
    advice = ADVICE.get(name, COMPLEX if complex_ else GENERAL)
    return TraceError(
        f"{place}{through} computes JAX's primitive {name!r} of a value that the examples' weights reach, and there "
        f"is no gate for it: {advice}"
    )
