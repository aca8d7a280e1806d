"""Capture a function of tensors as a graph of ATen operations, without mutations, each with the user's line.

In: a function of a list of tensors, and examples of which only shapes and dtypes matter. Out: a graph of core ATen
operations. What depends on the numbers in a tensor, such as a branch, is refused with its line.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from threading import RLock
from types import FrameType
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, get_decompositions
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from circuitsketch.circuit import NOWHERE, Place
from circuitsketch.errors import CircuitSketchError, TraceError
from circuitsketch.frontends.imported import is_inside_call
from circuitsketch.frontends.numpy.wire import is_users
from circuitsketch.frontends.torch.refusals import AUTOGRAD, BRANCH, OWN_FUNCTION

aten = torch.ops.aten
LIBRARY = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
TRACER = os.path.join(LIBRARY, "fx") + os.sep
LONGEST = 300  # characters of a message of PyTorch's
# Beyond the core: gradients and losses that are sums and products of simpler operations.
FURTHER = [
    aten.native_layer_norm, aten.native_group_norm, aten.native_batch_norm, aten._native_batch_norm_legit.no_stats,
    aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional, aten.addmm, aten.addmv, aten.baddbmm,
    aten.sigmoid_backward, aten.elu, aten.leaky_relu, aten.hardtanh, aten.clamp, aten.index_put,
    aten.nll_loss_forward, aten.nll_loss2d_forward, aten.nll_loss_backward,
    aten.nll_loss2d_backward, aten.embedding_dense_backward, aten.gelu_backward, aten.native_dropout,
    aten.native_dropout_backward, aten._log_softmax_backward_data, aten._softmax_backward_data,
    aten.masked_fill, aten.std,
]  # fmt: skip
# Decomposed into cases, for the sake of overflow, or into what has no gate: kept, and given a rule.
KEPT = frozenset(
    """softplus_backward log_sigmoid_forward log_sigmoid_backward logaddexp logsumexp linalg_vector_norm _softmax
    _log_softmax _safe_softmax var var_mean gelu relu silu convolution convolution_backward bernoulli""".split()
)
SHAPES = (
    "check the shapes and dtypes there: they are those of the state and of the batch; losses are one per example "
    "(reduction='none'), are multiplied by keep, and their mean is a number"
)
LISTS = "in a state or batch, a list is a pytree of its entries: pass tensors, torch.tensor(x)"
# What PyTorch says of what it cannot trace, and what to do about it.
ADVICE = {
    "get value out of a tracing tensor": BRANCH,
    "data-dependent": BRANCH,
    "Could not guard": BRANCH,
    "unbacked": BRANCH,
    "custom_function_call": OWN_FUNCTION,
    "requires_grad_()": AUTOGRAD,
    "does not require grad": AUTOGRAD,
    "backward() called inside": AUTOGRAD,
}


def user_line(files: Sequence[tuple[str, int]]) -> Place:
    """Return the innermost line outside PyTorch and this package; files : the innermost first."""
    for file, line in files:
        if is_users(file) and not file.startswith((LIBRARY, "<")):
            return Place(file, line)
    return NOWHERE


def current_line() -> Place:
    """Return the user's line that is being executed."""
    frame: FrameType | None = sys._getframe(1)
    files = []
    while frame is not None:
        files.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return user_line(files)


class RecordPlaces(TorchDispatchMode):
    """Notes the user's line in every node that is added to the graph."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        mode = get_proxy_mode()
        if mode is not None:
            place = current_line()
            for node in reversed(mode.tracer.graph.nodes):
                if node.op == "placeholder" or "place" in node.meta:
                    break
                node.meta["place"] = place
        return result


ONE_AT_A_TIME = RLock()  # PyTorch's modes of tracing are those of the process


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what operations outside the core are made of."""
    table = {**core_aten_decompositions(), **get_decompositions(FURTHER)}
    return {operation: made_of for operation, made_of in table.items() if operation.overloadpacket.__name__ not in KEPT}


def capture(function: Callable[..., Any], examples: Sequence[torch.Tensor]) -> torch.fx.GraphModule:
    """Return the graph of a function of tensors that returns a list of tensors.

    Raises
    ------
    TraceError
        If what it computes depends on the numbers in a tensor, or PyTorch cannot trace it otherwise.
    """

    def located_function(*tensors: Any) -> Any:
        with RecordPlaces():
            return function(*tensors)

    backend = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with ONE_AT_A_TIME, backend, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return make_fx(
                functionalize(located_function, remove="mutations"),
                decomposition_table=decompositions(),
                tracing_mode="fake",
                _allow_non_fake_inputs=True,
            )(*examples)
        except Exception as reason:
            said = [advice for text, advice in ADVICE.items() if text in str(reason)]
            if isinstance(reason, DataDependentOutputException | DynamicOutputShapeException):
                said = [BRANCH]
            frames = traceback.extract_tb(reason.__traceback__)
            files = [(frame.filename, frame.lineno or 0) for frame in reversed(frames)]
            place = user_line(files)
            if said:
                raise TraceError(f"{place} {said[0]}") from None
            # PyTorch looks on while a function runs, also when that fails.
            raised_at = next(file for file in files if not file[0].startswith(TRACER))
            is_own = place is not NOWHERE and (place.file, place.line) == raised_at
            meets_tensor = isinstance(reason, TypeError) and "Tensor'" in str(reason)
            is_own = is_own and not meets_tensor and is_inside_call(reason.__traceback__)
            if is_own or isinstance(reason, CircuitSketchError):
                raise
            text = " ".join(str(reason).split())[:LONGEST]
            where = "" if place is NOWHERE else f"{place}: "
            advice = LISTS if meets_tensor else SHAPES
            raise TraceError(f"{where}PyTorch cannot trace this: {text}; {advice}") from reason


def place_of(node: torch.fx.Node) -> Place:
    """Return the user's line of a node."""
    place: Place = node.meta.get("place", NOWHERE)
    return place


def shape_of(node: torch.fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's tensor."""
    return tuple(int(n) for n in node.meta["val"].shape)
