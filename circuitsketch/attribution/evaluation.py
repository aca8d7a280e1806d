"""Scores of predictions whose ground truth is known, and files of masks and truths.

In: predictions of many deletions, retrained truths. Out: `Evaluation`: how well the predictions rank (LDS), how far
they are off, and whether their intervals cover. Masks and truths are read and written as the `masks.npy` and
`margins.npy` of datamodels (Ilyas et al., arXiv 2202.00622).
"""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from circuitsketch.arguments import check_path, shortened
from circuitsketch.arrays import plain_array, real_array
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.display import table
from circuitsketch.errors import InputError
from circuitsketch.store.atomic_files import write_atomically

LEVELS = (0.5, 0.8, 0.95)
CURVE = tuple(round(0.05 * k, 2) for k in range(1, 20))  # levels of the calibration curve
RESAMPLES = 999


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predictions of B subsets beside the values after retraining, and scores.

    S is the shape of the measurement; of a pytree, that of the vector of its leaves.

    Attributes
    ----------
    prediction : Prediction
        The batch of predictions.
    masks : bool, of shape (B, n), or None
        True where an example is deleted; None if the subsets were other downweights.
    truth : ndarray, of shape (B, *S)
        The measurement after retraining.
    lds : float
        The linear datamodelling score: Spearman's correlation over subsets, averaged over the measurement; NaN below
        three subsets, or if nothing varies.
    lds_interval : (float, float)
        The 95 % bootstrap interval of `lds`, over subsets.
    rmse, bias : float
        The root mean square error, and the mean error, over the truth's standard deviation over subsets, averaged.
    coverage : dict of float to float
        The share of truths inside the interval of each level: 0.5, 0.8, 0.95.
    calibration : ndarray, of shape (2, levels)
        Nominal levels 0.05, ..., 0.95, and the shares covered.
    trusted : bool, of shape (B, *S)
        Where no warning says that h lies outside the region of trust.
    """

    prediction: Prediction
    masks: np.ndarray | None
    truth: np.ndarray
    lds: float
    lds_interval: tuple[float, float]
    rmse: float
    bias: float
    coverage: dict[float, float]
    calibration: np.ndarray
    trusted: np.ndarray

    def where(self, chosen: np.ndarray) -> dict[float, float]:
        """Return the coverage of some of the truths only.

        Parameters
        ----------
        chosen : bool, of shape (B, *S) or (B,)
            Which of them.
        """
        chosen = plain_array(chosen, "the array of what is chosen")
        if chosen.dtype.kind != "b" or chosen.shape not in (self.truth.shape, self.truth.shape[:1]):
            raise InputError(
                f"chosen has shape {chosen.shape} and dtype {chosen.dtype}; give booleans of shape "
                f"{self.truth.shape[:1]} or {self.truth.shape}"
            )
        wide = chosen.reshape(chosen.shape + (1,) * (self.truth.ndim - chosen.ndim))
        return coverage_of(self.prediction, self.truth, np.broadcast_to(wide, self.truth.shape), LEVELS)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write `masks.npy` (B, n), True where an example is kept, and `margins.npy` (B, values), the truths."""
        if self.masks is None:
            raise InputError("the subsets were downweights between 0 and 1, which no mask can say; evaluate deletions")
        path = Path(check_path(folder, "folder"))
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_array(path / "masks.npy", ~self.masks)
            write_array(path / "margins.npy", self.truth.reshape(len(self.truth), -1))
        except OSError as reason:
            raise InputError(
                f"cannot write to {shortened(str(path))}: {reason.strerror}; give a folder that can be written"
            ) from reason

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as numbers and lists; None for what is not finite."""

        def number(x: float) -> float | None:
            return float(x) if math.isfinite(x) else None

        return {
            "subsets": len(self.truth),
            "estimator": self.prediction.estimator,
            "lds": number(self.lds),
            "lds_interval": [number(x) for x in self.lds_interval],
            "rmse": number(self.rmse),
            "bias": number(self.bias),
            "coverage": {str(level): number(share) for level, share in self.coverage.items()},
            "calibration": self.calibration.tolist(),
            "trusted": float(self.trusted.mean()),
            "warnings": list(self.prediction.warnings),
        }

    def _heading(self) -> str:
        return f"evaluation of {len(self.truth)} subsets, estimator {self.prediction.estimator!r}"

    def _scores(self) -> list[tuple[str, str]]:
        low, high = self.lds_interval
        shares = ", ".join(f"{share:.0%} of {level:.0%}" for level, share in self.coverage.items())
        return [
            ("LDS", f"{self.lds:.3f}  (95 % from {low:.3f} to {high:.3f})"),
            ("RMSE", f"{self.rmse:.3f}  of the truth's deviation over subsets; bias {self.bias:+.3f}"),
            ("coverage", shares),
            ("trusted", f"{self.trusted.mean():.0%} carry no warning"),
        ]

    def __str__(self) -> str:
        scores = [f"  {name:<10} {text}" for name, text in self._scores()]
        return "\n".join([self._heading(), *scores, *(f"  warning: {text}" for text in self.prediction.warnings)])

    def __repr__(self) -> str:
        return f"<{self._heading()}, LDS {self.lds:.3f}, RMSE {self.rmse:.3f}>"

    def _repr_html_(self) -> str:
        return table(self._heading(), self._scores())


def check_truth(truth: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values after retraining as float64 (subsets, *measurement); raise InputError if they are not."""
    truth = real_array(truth, "the array of truths")
    if truth.shape != shape:
        raise InputError(
            f"the truths have the shape {truth.shape}, and {shape[0]} subsets of the query's measurement {shape}: "
            "measure "
            "the same function"
        )
    if not np.isfinite(truth).all():
        raise InputError("the truths hold a NaN or an infinity; leave those subsets out")
    return truth


def score(prediction: Prediction, truth: np.ndarray, masks: np.ndarray | None, seed: int = 0) -> Evaluation:
    """Score a batch of predictions against the truths."""
    count = len(truth)
    predicted, flat = np.reshape(prediction.value, (count, -1)), truth.reshape(count, -1)
    spread = flat.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rmse = np.sqrt(((predicted - flat) ** 2).mean(axis=0)) / spread
        bias = (predicted - flat).mean(axis=0) / spread
    everywhere = np.ones(truth.shape, dtype=bool)
    curve = coverage_of(prediction, truth, everywhere, CURVE)
    return Evaluation(
        prediction=prediction,
        masks=masks,
        truth=truth,
        lds=rank_correlation(predicted, flat),
        lds_interval=lds_interval(predicted, flat, seed),
        rmse=_mean(rmse),
        bias=_mean(bias),
        coverage=coverage_of(prediction, truth, everywhere, LEVELS),
        calibration=np.array([list(curve), list(curve.values())]),
        trusted=~np.broadcast_to(prediction.outside, truth.shape),
    )


def rank_correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's correlation over the rows (B, values), averaged over values; NaN where no value varies."""
    from scipy.stats import rankdata  # a slow import

    if len(predicted) < 3:
        return math.nan
    ranks = [rankdata(numbers, axis=0) for numbers in (predicted, truth)]
    x, y = (r - r.mean(axis=0) for r in ranks)
    with np.errstate(invalid="ignore"):
        each = (x * y).sum(axis=0) / np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    return _mean(each)


def lds_interval(predicted: np.ndarray, truth: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the LDS, subsets drawn with replacement."""
    from scipy.stats import DegenerateDataWarning, bootstrap  # a slow import

    if not math.isfinite(rank_correlation(predicted, truth)):
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample of few subsets may have no correlation
        drawn = bootstrap(
            (np.arange(len(predicted)),),
            lambda chosen: rank_correlation(predicted[chosen], truth[chosen]),
            n_resamples=RESAMPLES,
            vectorized=False,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def coverage_of(
    prediction: Prediction, truth: np.ndarray, chosen: np.ndarray, levels: tuple[float, ...]
) -> dict[float, float]:
    """Return the share of chosen truths inside the interval of each level."""
    shares = {}
    for level in levels:
        low, high = prediction.interval(level)
        inside = (low <= truth) & (truth <= high)
        shares[level] = float(inside[chosen].mean()) if chosen.any() else math.nan
    return shares


def read_datamodels(folder: str | PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read masks and margins that `Evaluation.save`, or datamodels' own scripts, wrote.

    Parameters
    ----------
    folder : path-like
        With `masks.npy`, which says which examples were kept, and `margins.npy`. Nothing in them is executed.

    Returns
    -------
    masks : bool, of shape (B, n)
        True where an example is deleted, as `query.without` takes it.
    margins : ndarray, of shape (B, values)

    Raises
    ------
    InputError
        If a file is missing, holds something else, or the two disagree.
    """
    path = Path(check_path(folder, "folder"))
    kept, margins = (read_numbers(path / name) for name in ("masks.npy", "margins.npy"))
    if kept.ndim != 2 or kept.dtype.kind not in "b" or margins.ndim < 1 or len(margins) != len(kept):
        raise InputError(
            f"{path} holds masks of shape {kept.shape} ({kept.dtype}) and margins of shape {margins.shape}; masks are "
            "booleans (subsets, examples), margins (subsets, values)"
        )
    return ~kept, margins


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all; a link in its place is replaced, not followed. OSError."""
    data = io.BytesIO()
    np.save(data, array)
    write_atomically(os.path.abspath(path), data.getvalue(), os.path.dirname(os.path.abspath(path)))


def read_numbers(path: Path) -> np.ndarray:
    """Read an array from a `.npy` file; memory is asked for only after the file is known to have its bytes.

    InputError: the file is missing, is not a plain file, or holds something else. Nothing in it is executed.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is not a plain file")
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "biuf":
            raise ValueError("it holds something else")
        return np.array(mapped)
    except Exception as reason:
        text = reason.strerror if isinstance(reason, OSError) else reason
        raise InputError(f"{shortened(str(path))} cannot be read as an array of numbers: {text}") from reason


def _mean(numbers: np.ndarray) -> float:
    kept = numbers[np.isfinite(numbers)]
    return float(kept.mean()) if kept.size else math.nan
