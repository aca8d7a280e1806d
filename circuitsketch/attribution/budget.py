"""What a budget of trainings is spent on: first order, retrained subsets, own effects, effects of pairs.

In: a run, the number of values measured, a budget. Out: a plan, in trainings, seconds and bytes.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.estimators.calibration import LEAST_FOR_95
from circuitsketch.limits import format_bytes, memory_available
from circuitsketch.propagate.blocks import first_steps
from circuitsketch.propagate.progress import Progress
from circuitsketch.training.training import Training

LANE = 0.55  # trainings that retraining one more subset among many costs: 0.2 to 0.8 on the runs of the bench
SWEEP, MORE_VALUES = 4.5, 0.45  # trainings of a run and its reverse sweep, measured likewise: one value, each more
LEAST = 8  # retrained subsets at least, and the smallest budget
ENOUGH = 48  # retrained subsets, beyond which a budget buys own effects first
SUBSET_SHARE, MANY = 0.2, 96  # of the budget for subsets of two kinds, and how many of these at most
PAIR_SHARE = 0.25  # of the memory, for effects of pairs
PROJECTIONS, FEWEST, PROJECTION_SHARE = 64, 16, 0.25  # of the parameters: at most, at least, of the budget
STRONGEST = 0.1  # of what is left for effects of pairs, to retrain without each of the strongest pairs


@dataclass(frozen=True)
class AttributionPlan:
    """What a budget is spent on.

    Attributes
    ----------
    budget : float
        In trainings.
    subsets, own, pairs : int
        How many subsets are retrained, how many examples are left out alone, and of how many of these the effects of
        pairs are computed.
    trainings : float
        What that costs, in trainings, with the sweep for first order. Its prices are constants and not measured, so
        that a budget buys the same work, and the same bits, on every machine and whatever else it does.
    n, values : int
        The number of examples, and of values measured.
    seconds : float or None
        What that takes on this machine, with what it took so far, measured by a trial; None before.
    spent : float or None
        The seconds that it took; None before it was done.
    unit : str
        What is left out: "example" or "group".
    reason : str
        Why there are no derivatives, which the plan then does without; empty if there are.
    strongest : int
        Of how many pairs both are left out together: those of the largest effects.
    projections : int
        How many random projections of the parameters are differentiated, which tell examples that act alike.
    dtype : str
        In which models are retrained, "float64" or "float32".
    """

    budget: float
    subsets: int
    own: int
    pairs: int
    trainings: float
    n: int
    values: int
    seconds: float | None = None
    spent: float | None = None
    unit: str = "example"
    reason: str = ""
    strongest: int = 0
    projections: int = 0
    dtype: str = "float64"

    @property
    def nbytes(self) -> int:
        """The memory that the effects take, in bytes."""
        return 8 * self.n * (2 * self.values + self.pairs * numbers_per_pair(self.values))

    def __str__(self) -> str:
        first = "first order" if not self.reason else f"no derivatives ({shorten_reason(self.reason)})"
        if self.projections:
            first += f" of the measurement and of {self.projections} projections of the parameters"
        parts = [first] + [f"{self.subsets:,} retrained subsets"] * bool(self.subsets)
        if self.own == self.n:
            parts.append(f"retraining without each {self.unit} (exact for one {self.unit})")
        elif self.own:
            parts.append(f"own effects of {self.own:,} of {self.n:,} {self.unit}s")
        if self.pairs:
            parts.append(f"effects of pairs with {self.pairs:,} of them")
        if self.strongest:
            parts.append(f"retraining without each of the {self.strongest:,} strongest pairs")
        seconds = "" if self.seconds is None else f", {self.seconds:,.3g} s"
        trainings = f"{self.trainings:,.0f} trainings" + " in float32" * (self.dtype == "float32")
        return f"{', '.join(parts)}: about {trainings}{seconds}, {format_bytes(self.nbytes)}"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Return the plan as numbers and strings."""
        return asdict(self) | {"bytes": self.nbytes}


def plan_attribution(
    run: Training, values: int, budget: float, subsets: int | None = None, reason: str = "", projections: int = 0
) -> AttributionPlan:
    """Divide a budget: first order, retrained subsets, own effects, effects of pairs.

    Where the budget pays every own effect, as it does for a few groups, these come before all but a few subsets: they
    are the exact answers about single examples.

    Parameters
    ----------
    run : Training
    values : int
        The number of values measured.
    budget : float
        In trainings.
    subsets : int, optional
        The number of subsets to retrain, where they are given.
    reason : str
        Why there are no derivatives; then every own effect is needed.
    projections : int
        How many projections of the parameters are differentiated beside the values; see `choose_projections`.

    Returns
    -------
    AttributionPlan

    Raises
    ------
    InputError
        If the budget does not pay first order (without derivatives, every own effect) and a few retrained subsets.
    """
    sweep = 0.0 if reason else sweep_cost(values)
    first = sweep + MORE_VALUES * projections
    each = LANE * np.sort(1.0 - first_steps(run) / run.steps)
    unit = "example" if run.groups is None else "group"
    least = each.sum() + LANE * (LEAST_FOR_95 if subsets is None else subsets)
    if reason and budget < least:
        raise InputError(
            f"budget is {budget:g} trainings, and there are no derivatives ({shorten_reason(reason)}): own effects of "
            f"{run.n:,} {unit}s and a few retrained subsets take {math.ceil(least):,}; pass budget={math.ceil(least)}, "
            "delete groups (run.grouped(...)), or measure something smooth"
        )
    count = subsets
    if count is None:
        left = budget - first
        pays_all = left >= each.sum() + LANE * (ENOUGH if projections else LEAST_FOR_95)
        share = left if projections else left / 2
        enough = min(max(int(SUBSET_SHARE * budget / LANE), ENOUGH), MANY) if projections else ENOUGH
        count = int(min(max((left - each.sum() if pays_all else share) / LANE, LEAST), enough))
    least = first + LANE * count
    if budget < sweep + LANE * LEAST or (subsets is not None and budget < least):
        raise InputError(
            f"budget is {budget:g} trainings; first order of {values} value{'s' * (values != 1)} and "
            f"{LEAST if subsets is None else subsets} retrained subsets take about {np.ceil(least):g}"
        )
    left = budget - least
    own = run.n if left >= each.sum() else int(np.searchsorted(np.cumsum(each[::-1]), left))
    left -= each.sum() if own == run.n else left
    pairs = min(int((1 - STRONGEST) * left // sweep), run.n) if own == run.n and not reason else 0
    available = memory_available()
    if available is not None:
        pairs = min(pairs, int(PAIR_SHARE * available / (8 * run.n * numbers_per_pair(values))))
    strongest = min(int(STRONGEST * left / LANE), pairs * (2 * run.n - pairs - 1) // 2)
    cost = least + (each.sum() if own == run.n else each[::-1][:own].sum()) + pairs * sweep + LANE * strongest
    return AttributionPlan(
        budget, count, own, pairs, float(cost), run.n, values, None, None, unit, reason, strongest, projections
    )


def choose_projections(run: Training, values: int, budget: float) -> int:
    """Return how many projections of the parameters a budget pays beside ENOUGH subsets; 0 if too few.

    What is left should pay every own effect too. Where it cannot, knowing which examples are alike comes first. Of few
    examples, or groups, there are too few subsets to divide.
    """
    if run.n <= ENOUGH:
        return 0
    left = budget - sweep_cost(values) - LANE * ENOUGH
    own = LANE * float((1.0 - first_steps(run) / run.steps).sum())
    if left >= own + MORE_VALUES * FEWEST:
        left -= own
    count = int(min(PROJECTION_SHARE * budget, left) / MORE_VALUES)
    return min(count, PROJECTIONS) if count >= FEWEST else 0


def numbers_per_pair(values: int) -> int:
    """Return the numbers kept of one pair: its effects, the same averaged over both orders, and a weight."""
    return 2 * values + 1


def sweep_cost(values: int) -> float:
    """Return the trainings that one run costs together with the reverse sweep of so many values."""
    return SWEEP + MORE_VALUES * (values - 1)


def shorten_reason(reason: str) -> str:
    """Return the first clause of an error's message.

    >>> shorten_reason("a.py:3 calls np.argmax on a wire, for which there is no gate: use np.where")
    'a.py:3 calls np.argmax on a wire, for which there is no gate'
    """
    return reason.split(": ")[0].split("; ")[0]


def time_of_training(run: Training) -> float:
    """Time one plain training, the least of three, in seconds of one core."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        run.train()
        times.append(time.thread_time() - begun)
    return min(times)


class Tell:
    """Progress over parts of a plan, in trainings."""

    def __init__(self, report: Progress | None, plan: AttributionPlan) -> None:
        self.report, self.total, self.before = report, plan.trainings, 0.0

    def part(self, cost: float) -> Progress | None:
        """Return the progress of the next part, which costs so many trainings."""
        if self.report is None:
            return None
        before, report = self.before, self.report
        self.before += cost

        def tell(done: float, of: float) -> None:
            report(round(min(before + cost * done / max(of, 1), self.total)), round(self.total))

        return tell
