"""What would a trained model say if some of its training data had never been there?

A training run, written in NumPy, is traced into an arithmetic circuit and compiled to kernels that compute truncated
Taylor series along random complex directions in the space of example weights. From these, estimators predict any
measurement of the model after deleting or reweighting any subset of the data, without retraining (Sam Gunn, arXiv
2604.07328).

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> query = cs.sketch(run, directions=2, order=1).measure(lambda s: s)
    >>> round(query.without([1]).value, 6)
    1.0

This is an overview; for details see help(circuitsketch.sketch), and so on.

Describe a training run
    Training            a step function applied to one batch after another; trains and retrains
    optim               SGD, momentum and Adam as functions of a state, schedules, clipping
    grad, jvp, value_and_grad
                        derivatives of functions
    cross_entropy, erf, gelu, log_softmax, relu, rsqrt, sigmoid, silu, softmax, softplus, stop_gradient, take
                        functions that NumPy does not have

Sketch it
    plan, Plan          the directions that an error requires, and the cost of a sketch in time, memory and disk
    sketch, Sketch      propagate random directions, and per-example series, through the run
    push                propagate given directions
    open_sketch         open a sketch on disk
    local_sketch        sketch any function at a point, without a training run

Differentiate it
    metagradient        the derivative of a measurement with respect to every example's weight, by one reverse sweep
    influence           all examples, ranked by their first-order effect, in seconds and without a sketch

Query it
    attribute           a query of one measurement, as good as a budget of trainings allows
    Query               the result of `sketch.measure(function)`: without, reweight, influence, stability, evaluate,
                        calibrate, retrain_worst
    Prediction          a value with its error, its terms and its warnings
    evaluate, retrain_worst, Evaluation
                        compare predictions with retraining, and retrain without each of the examples with the largest
                        truncation errors, for queries that do not know their run
    read_datamodels     read masks and margins from a folder

Steps and measurements of other libraries
    jax, torch          training runs and functions that are written in JAX or PyTorch

Use many cores and machines
    executor            worker processes, a Dask cluster or an MPI job, for the argument executor= of what takes long

Circuits and gates
    special             functions of scipy.special on wires: logsumexp, gammaln, log_ndtr, and so on
    extend, testing     define a gate of your own, and check it
    trace, Circuit      trace a NumPy function into a circuit of gates
    compile             compile a circuit to machine code, for values and Taylor series

Errors and warnings, all in circuitsketch.errors
    CircuitSketchError  every error of the package: BoundsError, CircuitError, ConstantError, DeviceError,
                        DivergenceError, DomainError, GateError, InputError, ShapeError, StoreError, TraceError,
                        WorkerError
    KinkWarning         a gate within rounding of its kink
    RoundingWarning     effects that float32 rounds off
    FrozenDrawWarning   a traced function draws random numbers, which every call reuses
"""

import sys

from circuitsketch import errors, extend, optim, special, testing
from circuitsketch import jax as jax  # not in __all__: a star import must not hide JAX itself
from circuitsketch import torch as torch  # likewise
from circuitsketch.attribution.attribute import attribute
from circuitsketch.attribution.comparison import evaluate, retrain_worst
from circuitsketch.attribution.evaluation import Evaluation, read_datamodels
from circuitsketch.attribution.first_order import influence
from circuitsketch.attribution.given_directions import push
from circuitsketch.attribution.local import local_sketch
from circuitsketch.attribution.plan import plan
from circuitsketch.attribution.plan_record import Plan
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
    ConstantError,
    DeviceError,
    DivergenceError,
    DomainError,
    FrozenDrawWarning,
    GateError,
    InputError,
    KinkWarning,
    RoundingWarning,
    ShapeError,
    StoreError,
    TraceError,
    WorkerError,
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
from circuitsketch.workers.executors import executor

__version__ = "0.1.0"

close_table()  # gates that are registered from here on are the user's own

__all__ = [
    "BoundsError",
    "Circuit",
    "CircuitError",
    "CircuitSketchError",
    "ConstantError",
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
    "RoundingWarning",
    "ShapeError",
    "Sketch",
    "StoreError",
    "TraceError",
    "Training",
    "WorkerError",
    "compile",
    "attribute",
    "cross_entropy",
    "erf",
    "errors",
    "evaluate",
    "executor",
    "extend",
    "gelu",
    "grad",
    "jvp",
    "influence",
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
