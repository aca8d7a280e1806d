"""The arguments and options that several commands share, each with its one help text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TARGET_HELP = (
    "A model of the zoo (microgpt, logistic, mlp, cnn), or module:function or file.py:function that returns a "
    "cs.Training; arguments after another colon, as in microgpt:200,width=8."
)


class Law(StrEnum):
    """Where random directions come from."""

    orthonormal = "orthonormal"
    sphere = "sphere"
    gaussian = "gaussian"


class Device(StrEnum):
    """What computes."""

    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """Of the coefficients."""

    complex128 = "complex128"
    complex64 = "complex64"


class Sum(StrEnum):
    """What costs are added up over."""

    gate = "gate"
    line = "line"
    both = "both"


class Estimator(StrEnum):
    """Which estimator answers."""

    interactions = "interactions"
    singles = "singles"
    first_order = "first-order"
    theorem = "theorem"


Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
TargetOrNone = Annotated[str | None, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
Store = Annotated[
    Path,
    typer.Argument(metavar="STORE", help="A folder that circuitsketch sketch has written.", show_default=False),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to a file; - is stdout, and nothing else."),
]
Measure = Annotated[
    str,
    typer.Option(
        metavar="FUNCTION",
        help="What to measure: module:function or file.py:function of the trained parameters, with arguments after "
        "another colon; of a zoo model a short name, such as held_out_loss, or loss:max for microgpt.",
        show_default=False,
    ),
]
RunOf = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="The run that was sketched, where it is needed; sketches of zoo models know theirs.",
        show_default=False,
    ),
]
EstimatorName = Annotated[
    Estimator | None,
    typer.Option(
        metavar="NAME",
        help="interactions (by default, where the sketch has --singles), singles, first-order, or theorem (else).",
        show_default=False,
    ),
]
DeviceName = Annotated[Device, typer.Option(metavar="NAME", help="cpu, or cuda for an NVIDIA GPU.")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="How many; by default one a core.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of what is drawn at random.")]
Dtype = Annotated[
    Precision,
    typer.Option(metavar="NAME", help="Of the coefficients: complex128, or complex64, which takes half the memory."),
]
Level = Annotated[
    float,
    typer.Option(metavar="P", help="Of the interval: the share of truths that it should hold, between 0 and 1."),
]
