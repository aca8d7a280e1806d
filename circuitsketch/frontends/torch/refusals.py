"""Refusals: an operation without gates names the user's line, itself, and what to write instead."""

from __future__ import annotations

from typing import Any

from circuitsketch.circuit import Place
from circuitsketch.errors import TraceError

BRANCH = (
    "needs the numbers in a tensor while the function is traced (a branch, .item(), int(), a mask as an index): "
    "compute both sides and choose with torch.where, and make choices that depend on the data alone before training, "
    "as part of the batches"
)
OWN_FUNCTION = (
    "calls a torch.autograd.Function, which PyTorch does not trace without mutations: write the function with others "
    "of torch; a gradient of your own is that of y in y + (value - y).detach()"
)
AUTOGRAD = (
    "takes a derivative by torch.autograd: a step is a function without a state of its own, and takes its gradient by "
    "torch.func.grad (torch.func.grad_and_value for the loss too)"
)
CONSTANT = (
    "its value is locally constant and has no Taylor series: compute it from the data (then no weight reaches it), or "
    "keep the choice soft (torch.softmax, torch.where)"
)
ORDER = (
    "the order of its elements is the weights': sort or rank the data instead, or use what does not depend on the "
    "order (torch.amax, torch.softmax, torch.logsumexp)"
)
SOLVE = (
    "there are no gates for decompositions of matrices: write small systems out (a 2 x 2 inverse, a few steps of "
    "Newton or of conjugate gradients), or decompose matrices of the data, which no weight reaches"
)
RANDOM = (
    "a random draw whose distribution depends on the weights has no derivative: draw from a fixed distribution, and "
    "move and scale the sample (mean + scale * torch.randn_like(mean))"
)
COMPLEX = "circuits compute on real numbers: carry real and imaginary parts as two tensors"
GENERAL = "write the function with other functions of torch; what depends on the data alone, PyTorch computes as it is"
ADVICE = {
    **dict.fromkeys("argmax argmin round floor ceil trunc fmod remainder bucketize searchsorted".split(), CONSTANT),
    **dict.fromkeys("sort topk argsort kthvalue median nanmedian mode max min".split(), ORDER),
    **dict.fromkeys("linalg_lu_factor_ex linalg_cholesky_ex linalg_qr _linalg_svd _linalg_eigh".split(), SOLVE),
    **dict.fromkeys(
        "linalg_inv_ex _linalg_solve_ex _linalg_slogdet _linalg_det linalg_solve_triangular".split(), SOLVE
    ),
    **dict.fromkeys("bernoulli multinomial normal poisson binomial".split(), RANDOM),
    **dict.fromkeys("_fft_r2c _fft_c2r _fft_c2c complex view_as_real view_as_complex".split(), COMPLEX),
}


def refuse(operation: Any, name: str, place: Place) -> TraceError:
    """Return the error for an operation on something that the examples' weights reach."""
    return TraceError(
        f"{place} needs the operation {operation} of a value that the examples' weights reach, for which there "
        f"is no gate: {ADVICE.get(name, GENERAL)}"
    )
