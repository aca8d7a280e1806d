"""Arguments and options shared by several commands, with their help texts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TARGET_HELP = (
    "The training run: a zoo model (microgpt, logistic, mlp, cnn), or module:function or file.py:function that "
    "returns a cs.Training. Arguments follow after a colon: microgpt:200,width=8 or my_run.py:make:200."
)


class Distribution(StrEnum):
    """The distribution of random directions."""

    orthonormal = "orthonormal"
    sphere = "sphere"
    gaussian = "gaussian"


class Device(StrEnum):
    """The device that computes."""

    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """The data type of the coefficients."""

    complex128 = "complex128"
    complex64 = "complex64"


class TrainingPrecision(StrEnum):
    """The precision in which models are retrained."""

    float64 = "float64"
    float32 = "float32"


class Sum(StrEnum):
    """How costs are grouped."""

    gate = "gate"
    line = "line"
    both = "both"


class Estimator(StrEnum):
    """The estimator of a prediction."""

    interactions = "interactions"
    per_example = "per-example"
    first_order = "first-order"
    theorem = "theorem"


class Kind(StrEnum):
    """The kind of the subsets that are retrained."""

    mixed = "mixed"
    random = "random"
    label = "label"


def check_executor_name(name: str | None) -> str | None:
    """Refuse a malformed --executor before anything is computed."""
    if name is not None:
        from circuitsketch.errors import InputError
        from circuitsketch.workers.executors import parse_name

        try:
            parse_name(name)
        except InputError as reason:
            raise typer.BadParameter(str(reason)) from None
    return name


def check_staging_address(address: str | None) -> str | None:
    """Refuse a malformed --staging before anything is computed."""
    if address is not None:
        from circuitsketch.errors import InputError
        from circuitsketch.store.objects import check_address

        try:
            check_address(address, "--staging")
        except InputError as reason:
            raise typer.BadParameter(str(reason)) from None
    return address


Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
TargetOrNone = Annotated[str | None, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
Store = Annotated[
    Path,
    typer.Argument(metavar="STORE", help="A folder written by circuitsketch sketch.", show_default=False),
]
StoreOrTarget = Annotated[
    Path,
    typer.Argument(
        metavar="STORE|TARGET",
        help="A folder written by circuitsketch sketch, or a run. " + TARGET_HELP,
        show_default=False,
    ),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to a file; - writes only JSON, to stdout."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw the result to a file, as .png, .pdf or .svg; requires matplotlib.",
        show_default=False,
    ),
]
Measure = Annotated[
    str,
    typer.Option(
        metavar="FUNCTION",
        help="The measurement, a function of the trained parameters: module:function or file.py:function, with "
        "further arguments after a second colon. For zoo models, a short name: held_out_loss, or loss:max for "
        "microgpt.",
        show_default=False,
    ),
]
RunOf = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="The training run of the sketch, for commands that retrain; not needed for zoo models.",
        show_default=False,
    ),
]
EstimatorName = Annotated[
    Estimator | None,
    typer.Option(
        metavar="NAME",
        help="Estimator: interactions, per-example, first-order, or theorem; default: interactions if the "
        "sketch has per-example series, otherwise theorem.",
        show_default=False,
    ),
]
DeviceName = Annotated[Device, typer.Option(metavar="NAME", help="Device: cpu, or cuda (an NVIDIA GPU).")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of threads; default: one per core.")]

ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Distribute the work over worker processes: processes or processes:4 on this machine, dask://host:port, "
        "or mpi. --threads is then the number per worker (default: 1).",
        show_default=False,
        callback=check_executor_name,
    ),
]
Staging = Annotated[
    str | None,
    typer.Option(
        "--staging",
        metavar="ADDRESS",
        help="Where the workers of --executor store finished blocks until this process collects them: "
        "s3://bucket/prefix (requires the package obstore; credentials come from the environment), or a folder "
        "that all workers share.",
        show_default=False,
        callback=check_staging_address,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random numbers.")]
Dtype = Annotated[
    Precision,
    typer.Option(
        metavar="NAME", help="Data type of the coefficients: complex128, or complex64, which takes half the memory."
    ),
]
RetrainingDtype = Annotated[
    TrainingPrecision,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="Precision of the retraining: float64, or float32, which takes about half the time; warns if its rounding "
        "matters.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help='Leaves of the trained state to store: "state" for all, or a path such as state.params.w1; can be '
        "repeated. Default: the leaves that measurements can read.",
        show_default=False,
    ),
]
Level = Annotated[
    float,
    typer.Option(metavar="P", help="Confidence level of the intervals, between 0 and 1."),
]
Without = Annotated[
    list[str] | None,
    typer.Option(metavar="IDS", help="Delete these examples, such as 1,5,7-9.", show_default=False),
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL", help="Delete all examples with this label.", show_default=False),
]
Containing = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="Delete all examples that contain this text.", show_default=False),
]
SubsetFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File of subsets to delete: text with the ids of one subset per line, or JSON with a list of subsets or "
        "a dict from names to subsets.",
        show_default=False,
    ),
]
