"""Training runs that look like users': what bench/trust.py asks about.

Each function returns a `UserRun`: a run, what is measured of it, and how to draw deletions of examples that are alike.
It is what a user would write, with the public API alone. One training takes a millisecond, that of the demo thirty.
"""

from __future__ import annotations

from collections.abc import Callable

from . import networks, tables
from .loop import Draw, UserRun

RUNS: dict[str, Callable[[], UserRun]] = {
    "relu .005": lambda: tables.build_relu(0.005),
    "relu .02": lambda: tables.build_relu(0.02),
    "relu .05": lambda: tables.build_relu(0.05),
    "adam 1e-12": lambda: tables.build_adam(1e-12),
    "adam 1e-8": lambda: tables.build_adam(1e-8),
    "adam 1e-2": lambda: tables.build_adam(1e-2),
    "rare category": tables.build_rare_category,
    "lstm": networks.build_lstm,
    "cnn": networks.build_convolution,
    "triplet": networks.build_triplet,
    "ppo": networks.build_ppo,
    "poisson": tables.build_poisson,
    "users": tables.build_users,
    "fairness gap": tables.build_fairness,
    "weight decay": networks.build_weight_decay,
    "demo": networks.build_demo,
}

__all__ = ["RUNS", "Draw", "UserRun"]
