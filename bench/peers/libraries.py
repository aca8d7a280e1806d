"""The methods that are compared: one function per method of a library, with the settings that it is tried with.

A function takes a trained twin, the numbers of the values that are asked about and a setting of its own, and returns
how removing each example changes each value, (n, values). Its documented setting comes first; of several, the one with
the largest LDS counts, chosen with the truths that score it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from .settings import Setting

MODELS = 5  # of an ensemble
DAMPINGS = (1e-2, 1e-3, 1e-1, 1.0)
RIDGES = ((2048, 0.0), (512, 0.0), (128, 0.0), (512, 10.0), (512, 100.0), (512, 1000.0))


@dataclass(frozen=True)
class Method:
    """A method of a library; `predicts`: its effects are in the unit of what is measured, not ranks alone."""

    library: str
    name: str
    module: str
    function: str
    predicts: bool
    tried: tuple[Any, ...] = (None,)
    options: tuple[Any, ...] = ()
    excludes: Callable[[Setting], str] = lambda setting: ""  # why it has no answer for a setting
    ranks_words: bool = False  # of words, whose loss is a mean over tokens, its effects are ranks alone

    def predicts_for(self, setting: Setting) -> bool:
        return self.predicts and not (self.ranks_words and setting.activation is None)

    @property
    def label(self) -> str:
        return f"{self.library}: {self.name}"

    def describe(self, setting: Any) -> str:
        """Name a setting that was tried."""
        if isinstance(setting, tuple):
            return f"{setting[0]} projections, ridge {setting[1]:g}"
        if self.function == "embeddings":
            return f"rates times {setting:g}"
        return "damping by its heuristic" if setting is None else f"damping {setting:g}"

    def run(self, twin: Any, values: list[int], setting: Any) -> np.ndarray:
        """Return the effects by one of the settings; imports the library."""
        function = getattr(import_module(f"{__package__}.{self.module}"), self.function)
        return partial(function, twin, values, *self.options)(setting)


def exclude_words(setting: Setting) -> str:
    return "for classifiers with one label per example alone" if setting.activation is None else ""


METHODS = (
    Method("bergson", "MAGIC", "from_bergson", "magic", True),
    Method("dattri", "influence functions, CG", "from_dattri", "influence", True, DAMPINGS),
    Method("dattri", "data value embeddings", "from_dattri", "embeddings", True, (1.0, 10.0)),
    Method("dattri", "TracIn", "from_dattri", "tracin", False),
    Method("traker", "TRAK, 1 model", "from_trak", "trak", False, RIDGES, (1,)),
    Method("traker", f"TRAK, {MODELS} models", "from_trak", "trak", False, RIDGES[1:], (MODELS,)),
    Method("kronfluence", "EK-FAC", "from_kronfluence", "ekfac", True, (1e-8, None, 1e-2), ranks_words=True),
    Method("pyDVL", "influence functions, direct", "from_pydvl", "influence", True, DAMPINGS, ("direct",)),
    Method("pyDVL", "influence functions, Nyström", "from_pydvl", "influence", True, DAMPINGS, ("nystroem",)),
    Method("pyDVL", "EK-FAC", "from_pydvl", "influence", True, DAMPINGS, ("ekfac",), exclude_words),
    Method("captum", "influence functions, Arnoldi", "from_captum", "influence", True),
    Method("captum", "TracIn", "from_captum", "tracin", False),
)
