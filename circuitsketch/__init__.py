"""What would a trained model say if some of its training data had never been there?

Training and inference, written in NumPy, are traced into an arithmetic circuit, compiled to kernels that carry
truncated Taylor series in many random complex directions, and summed up by an estimator that predicts any measurement
of the model after deleting or reweighting any subset of the data, without retraining (Sam Gunn, arXiv 2604.07328).

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> query = cs.sketch(run, directions=2, order=1).measure(lambda s: s)
    >>> round(query.without([1]).value, 6)
    1.0

An overview; help(circuitsketch.sketch), and so on, says all of each.

Describe a training run
    Training            a step function applied many times, with the data each step reads; it can also be retrained
    optim               SGD, momentum, Adam, as functions of a state
    grad, jvp, value_and_grad
                        derivatives of functions of wires
    cross_entropy, erf, gelu, log_softmax, relu, rsqrt, sigmoid, silu, softmax, softplus, stop_gradient, take
                        what NumPy does not have

Sketch it
    plan, Plan          how many directions an error takes, and what a sketch costs in time, memory and disk
    sketch, Sketch      push random directions, and every example alone, through the run
    push                push given directions
    open_sketch         a sketch that lies on disk
    local_sketch        the same for any function at a point, without a training run

Differentiate it
    metagradient        the derivative of a measurement with respect to every example's weight, by one reverse sweep

Ask it
    Query               what `sketch.measure(function)` gives: without, reweight, influence, stability
    Prediction          a value with its error, its terms and its warnings
    evaluate, Evaluation
                        hold predictions against retraining
    retrain_worst       retrain without the few examples whose own series leaves out most
    read_datamodels     masks and margins from a folder

Look below
    special             functions of scipy.special on wires: logsumexp, gammaln, log_ndtr, and so on
    extend, testing     define a gate of one's own, and check it
    trace, Circuit      a NumPy function as a circuit of gates
    compile             a circuit as machine code, for values and Taylor series

Errors and warnings, all in circuitsketch.errors
    CircuitSketchError  every error of the package: BoundsError, CircuitError, DeviceError, DivergenceError,
                        DomainError, GateError, InputError, ShapeError, StoreError, TraceError
    KinkWarning         a gate within rounding of its kink
    FrozenDrawWarning   a traced function draws random numbers, which every call then shares
"""

import sys

from circuitsketch import errors, extend, optim, special, testing
from circuitsketch.attribution.attribute import attribute
from circuitsketch.attribution.comparison import evaluate, retrain_worst
from circuitsketch.attribution.evaluation import Evaluation, read_datamodels
from circuitsketch.attribution.given_directions import push
from circuitsketch.attribution.local import local_sketch
from circuitsketch.attribution.plan import Plan, plan
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.sketch import Sketch, sketch
from circuitsketch.attribution.stored import open_sketch
from circuitsketch.autodiff import grad, jvp, value_and_grad
from circuitsketch.circuit import Circuit
from circuitsketch.compiler import compile
from circuitsketch.errors import (
    BoundsError,
    CircuitError,
    CircuitSketchError,
    DeviceError,
    DivergenceError,
    DomainError,
    FrozenDrawWarning,
    GateError,
    InputError,
    KinkWarning,
    ShapeError,
    StoreError,
    TraceError,
)
from circuitsketch.frontends.numpy import trace
from circuitsketch.functions import (
    cross_entropy,
    erf,
    gelu,
    log_softmax,
    relu,
    rsqrt,
    sigmoid,
    silu,
    softmax,
    softplus,
    stop_gradient,
    take,
)
from circuitsketch.gates.gate import close_table
from circuitsketch.reverse.metagradient import metagradient
from circuitsketch.training.training import Training

__version__ = "0.1.0"

close_table()  # gates that are registered from here on are the user's own

__all__ = [
    "BoundsError",
    "Circuit",
    "CircuitError",
    "CircuitSketchError",
    "DeviceError",
    "DivergenceError",
    "DomainError",
    "Evaluation",
    "FrozenDrawWarning",
    "GateError",
    "InputError",
    "KinkWarning",
    "Plan",
    "Prediction",
    "Query",
    "ShapeError",
    "Sketch",
    "StoreError",
    "TraceError",
    "Training",
    "compile",
    "attribute",
    "cross_entropy",
    "erf",
    "errors",
    "evaluate",
    "extend",
    "gelu",
    "grad",
    "jvp",
    "local_sketch",
    "log_softmax",
    "metagradient",
    "open_sketch",
    "optim",
    "plan",
    "push",
    "read_datamodels",
    "relu",
    "retrain_worst",
    "rsqrt",
    "sigmoid",
    "silu",
    "sketch",
    "softmax",
    "softplus",
    "special",
    "stop_gradient",
    "take",
    "testing",
    "trace",
    "value_and_grad",
]


def __dir__() -> list[str]:
    """The public names, without the rooms behind them, for tab completion.

    pydoc, which is `help`, gets none: it would go on below the overview with every method of every class of those that
    the overview names, 1,700 lines.
    """
    caller = sys._getframe().f_back
    for _ in range(3):  # pydoc calls inspect.getmembers, and that calls dir
        if caller is not None and caller.f_globals.get("__name__") == "pydoc":
            return []
        caller = caller and caller.f_back
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
