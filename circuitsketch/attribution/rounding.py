"""How much the rounding of models that are retrained in float32 matters, measured on a few that are retrained in both.

In: retrained values in float32, those of a few of the same subsets in float64. Out: the standard error that rounding
gives a value, and a warning where the changes that were measured are not large against it.

Changes are measured from the plain run in float64. One in float32 would share a part of its rounding with the
retrained models and add its own: seen, errors of 0.75 to 1.9 times as much (`bench/float32_runs.py`).
"""

from __future__ import annotations

import warnings

import numpy as np

from circuitsketch.errors import RoundingWarning

CHECKED = 8  # subsets that are retrained in float64 too: a lane block
LARGE = 0.05  # the share of the changes above which rounding is warned of: a score of predictions then is off by .1 %
MARGIN = 1.2  # eight models tell a standard error to within a quarter


def choose_checked(count: int) -> np.ndarray:
    """Return the numbers of the subsets to retrain in float64 too, spread over all."""
    return np.unique(np.linspace(0, count - 1, min(count, CHECKED)).astype(np.int64))


def measure_rounding(single: np.ndarray, double: np.ndarray) -> np.ndarray:
    """Return the standard error of retrained values by rounding, (values,), from the same models in both precisions.

    single, double : (models, values)
    """
    return MARGIN * np.sqrt(((single - double) ** 2).mean(axis=0))


def warn_of_rounding(rounding: np.ndarray, values: np.ndarray) -> None:
    """Warn if rounding is not small against how far values (models, values) differ between models.

    Warns
    -----
    RoundingWarning
    """
    spread = values.std(axis=0)
    is_large = rounding > LARGE * spread
    if len(values) < 2 or not is_large.any():
        return
    worst = int(np.argmax(np.divide(rounding, spread, out=np.zeros_like(spread), where=spread > 0)))
    which = f" of {is_large.sum()} of {len(spread)} values, at most" * (len(spread) > 1)
    warnings.warn(
        f"retraining in float32 rounds off part of the effects{which}: the standard error of a retrained value is "
        f"{rounding[worst]:.2g}, and the values differ by {spread[worst]:.2g} from subset to subset; pass "
        "dtype='float64', or ask about larger subsets",
        RoundingWarning,
        stacklevel=2,
    )
