"""circuitsketch: what would a trained model say if some of its training data had never been there?

Training and inference, written in NumPy, are traced into an arithmetic circuit, compiled to kernels that carry
truncated Taylor series in many random complex directions, and summed up by an estimator that predicts any measurement
of the model after deleting or reweighting any subset of the data, without retraining (Sam Gunn, arXiv 2604.07328).
"""

from circuitsketch import errors, optim
from circuitsketch.circuit import Circuit
from circuitsketch.compile import compile
from circuitsketch.deletion.evaluation import Evaluation, evaluate, read_datamodels
from circuitsketch.deletion.local import local_sketch
from circuitsketch.deletion.plan import Plan, plan
from circuitsketch.deletion.prediction import Prediction
from circuitsketch.deletion.query import Query
from circuitsketch.deletion.retrained import retrain_worst
from circuitsketch.deletion.sketch import Sketch, open_sketch, push, sketch
from circuitsketch.errors import (
    BoundsError,
    CircuitSketchError,
    DivergenceError,
    DomainError,
    InputError,
    KinkWarning,
    ShapeError,
    TraceError,
)
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
from circuitsketch.passes import grad, jvp, value_and_grad
from circuitsketch.trace import trace
from circuitsketch.training.training import Training

__version__ = "0.1.0"

close_table()  # gates that are registered from here on are the user's own

__all__ = [
    "BoundsError",
    "Circuit",
    "CircuitSketchError",
    "DivergenceError",
    "DomainError",
    "Evaluation",
    "InputError",
    "KinkWarning",
    "Plan",
    "Prediction",
    "Query",
    "ShapeError",
    "Sketch",
    "TraceError",
    "Training",
    "compile",
    "cross_entropy",
    "erf",
    "errors",
    "evaluate",
    "gelu",
    "grad",
    "jvp",
    "local_sketch",
    "log_softmax",
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
    "stop_gradient",
    "take",
    "trace",
    "value_and_grad",
]


def __dir__() -> list[str]:
    """What tab completion shows: the public names, without the rooms behind them."""
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
