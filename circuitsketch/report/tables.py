"""Format results for a terminal: the package's records in, rich tables and lines out; `cli` prints them.

Tables fit into 80 columns: numbers keep their width, names and source lines are shortened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from circuitsketch.arguments import text_of

if TYPE_CHECKING:
    from circuitsketch.attribution.influence import Influence
    from circuitsketch.attribution.prediction import Prediction
    from circuitsketch.attribution.stability import Stability
    from circuitsketch.report.demo import Demo
    from circuitsketch.report.profile import By, Profile
    from circuitsketch.training.training import Training

Block = Table | str  # a table or a line
MAX_VALUES = 20  # rows for an array that was measured
TRUSTED = "outside the region where the series can be trusted"
WARNED = " !"  # marks a prediction with a warning


def create_table(*texts: str, numbers: Sequence[str]) -> Table:
    """Create an empty table: columns of text, which may be shortened, then columns of numbers."""
    empty = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in texts:
        empty.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=26)
    for heading in numbers:
        empty.add_column(heading, justify="right", no_wrap=True)
    return empty


def format_number(x: Any) -> str:
    """Format a number with six digits."""
    return "unknown" if np.isnan(x) else f"{float(x):.6g}"


def format_change(x: Any) -> str:
    """Format a number with six digits and a sign."""
    return "unknown" if np.isnan(x) else f"{float(x):+.6g}"


def format_index(shape: tuple[int, ...], i: int) -> str:
    """Format the multi-index of the i-th element of an array."""
    return str([int(x) for x in np.unravel_index(i, shape)])


# ------------------------------------------------------------------------------------------ queries of a sketch


def format_prediction(
    prediction: Prediction, title: str, retrained: Any = None, level: float = 0.95
) -> Iterator[Block]:
    """Format a prediction: its value, interval and terms; for an array or a pytree, one row per value.

    `retrained` has the shape of the value; for a pytree it is the vector of its leaves.
    """
    tree = getattr(prediction, "structure", None)
    prediction = prediction.flattened()
    low, high = prediction.interval(level)
    shape = np.shape(prediction.value)
    if shape == ():
        yield title
        rows = create_table("", numbers=("value", "+-"))
        rows.add_row("as trained", format_number(prediction.baseline), "")
        rows.add_row("predicted", format_number(prediction.value), format_number(prediction.stderr))
        rows.add_row(f"{100 * level:g} % interval", f"{format_number(low)} to {format_number(high)}", "")
        if retrained is not None:
            rows.add_row("retrained", format_number(retrained), "")
        rows.add_row("change", format_change(prediction.change), format_number(prediction.stderr))
        if not prediction.words:  # a series
            for order, (term, error) in enumerate(zip(prediction.terms, prediction.term_stderr, strict=True), start=1):
                rows.add_row(f"  order {order}", format_change(term), format_number(error))
            rows.add_row("  left out <~", format_number(prediction.truncation), "")
        yield rows
    else:
        names = ["as trained", "predicted", "from", "to"] + (["retrained"] if retrained is not None else [])
        columns = [prediction.baseline, prediction.value, low, high] + ([retrained] if retrained is not None else [])
        yield title
        rows = create_table("value", numbers=names)
        size = int(np.prod(shape))
        for i in range(min(size, MAX_VALUES)):
            where = format_index(shape, i) if tree is None else tree.names[i]
            rows.add_row(Text(text_of(where)), *(f"{np.ravel(column)[i]:.5g}" for column in columns))
        yield rows
        if size > MAX_VALUES:
            yield f"and {size - MAX_VALUES} more values; --json has them all"
    yield describe_estimator(prediction)
    yield from (f"warning: {text}" for text in prediction.warnings)
    yield from (f"note: {text}" for text in prediction.notes)
    if retrained is not None and find_missed(prediction, retrained, level).any():
        yield "warning: " + describe_missed(prediction, retrained, level)


def describe_estimator(prediction: Prediction) -> str:
    """Return what a prediction rests on."""
    return prediction.words or (
        f"order {prediction.order}, estimator {prediction.estimator}, {prediction.directions} directions"
    )


def find_missed(prediction: Prediction, retrained: Any, level: float = 0.95) -> np.ndarray:
    """Return where retrained values lie outside their intervals, beyond rounding: bool, flattened for a pytree."""
    prediction = prediction.flattened()
    low, high = (np.asarray(end) for end in prediction.interval(level))
    slack = 1e-9 * np.maximum(np.abs(retrained), np.abs(prediction.value))
    return np.asarray((retrained < low - slack) | (retrained > high + slack))


def describe_missed(prediction: Prediction, retrained: Any, level: float = 0.95) -> str:
    """Return the warning that retrained values lie outside their intervals, and by how much."""
    prediction = prediction.flattened()
    outside = find_missed(prediction, retrained, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(retrained - prediction.value) / np.asarray(prediction.stderr)
    worst = float(np.max(np.where(outside, errors, 0.0)))
    far = f"{worst:.3g} standard errors from the prediction" if np.isfinite(worst) else "with a standard error of 0"
    if not outside.ndim:
        return f"the retrained value lies outside the {100 * level:g} % interval, {far}: do not rely on this interval"
    return (
        f"{int(outside.sum())} of {outside.size} retrained values lie outside their {100 * level:g} % intervals, the "
        f"farthest {far}; about {100 - 100 * level:g} % of them would by chance"
    )


def format_predictions(
    predictions: Prediction, names: Sequence[str], counts: Sequence[int], level: float, retrained: Any = None
) -> Iterator[Block]:
    """Format predictions for several subsets, one row each; for an array, the norm of the change."""
    predictions = predictions.flattened()
    low, high = predictions.interval(level)
    value, change, stderr = (
        np.asarray(predictions.value),
        np.asarray(predictions.change),
        np.asarray(predictions.stderr),
    )
    low, high = np.asarray(low), np.asarray(high)
    outside = np.asarray(np.asarray(predictions.outside).reshape(len(names), -1).any(axis=1))
    scalar = value.ndim == 1
    numbers = ["deleted", "predicted", "+-", "from", "to"] if scalar else ["deleted", "|change|", "|+-|"]
    if retrained is not None:
        numbers.append("retrained" if scalar else "|error|")
    rows = create_table("without", numbers=numbers)
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        if scalar:
            cells = [format_number(x) for x in (value[i], stderr[i], low[i], high[i])]
            cells += [format_number(retrained[i])] if retrained is not None else []
        else:
            cells = [format_number(np.linalg.norm(x)) for x in (change[i], stderr[i])]
            cells += [format_number(np.linalg.norm(value[i] - retrained[i]))] if retrained is not None else []
        rows.add_row(Text(text_of(name) + WARNED * bool(outside[i])), f"{count:,}", *cells)
    yield rows
    as_trained = f"as trained {format_number(predictions.baseline)}; " if scalar else ""
    yield f"{as_trained}from, to: the {100 * level:g} % interval" if scalar else "norms over the values"
    if outside.any():
        where = "unlike the subsets of the calibration" if predictions.estimator == "calibrated" else TRUSTED
        yield f"{WARNED.strip()}: {where}"
    yield describe_estimator(predictions)
    yield from (f"warning: {text}" for text in predictions.warnings)
    yield from (f"note: {text}" for text in predictions.notes)
    if retrained is not None and find_missed(predictions, retrained, level).any():
        yield "warning: " + describe_missed(predictions, retrained, level)


def format_influence(
    influence: Influence, top: int, items: Sequence[Any] | None, labels: Sequence[Any] | None
) -> Iterator[Block]:
    """Format the most influential examples, with their items and labels."""
    influence = influence.flattened()
    scalar = influence.change.ndim == 1
    texts = ["id"] + [influence.unit] * (items is not None) + ["label"] * (labels is not None)
    article = "an" if influence.unit[0] in "aeiou" else "a"
    yield f"change of the measurement without {article} {influence.unit}, of {len(influence.change):,}; " + (
        f"as trained {format_number(influence.baseline)}" if scalar else f"norm over {influence.change[0].size} values"
    )
    rows = create_table(*texts, numbers=("change" if scalar else "|change|", "+-" if scalar else "|+-|"))
    for i in influence.top(top):
        known = [Text(text_of(values[i])) for values in (items, labels) if values is not None]
        if scalar:
            error = influence.stderr[i]
            numbers = [format_change(influence.change[i]), format_number(error) if np.isfinite(error) else "unknown"]
        else:
            numbers = [format_number(number) for number in influence.size(int(i))]
        rows.add_row(str(i), *known, *numbers)
    yield rows
    series = f", order {influence.order}, {influence.directions} directions" if influence.directions else ""
    yield f"estimator {influence.estimator}{series}"
    yield from (f"warning: {text}" for text in influence.warnings)


def format_stability(stability: Stability) -> Iterator[Block]:
    """Format the norm of every order, and their decay."""
    shape = stability.norms.shape[1:]
    size = int(np.prod(shape, dtype=int))
    yield f"norms of the Taylor terms, measured with {stability.directions} directions"
    rows = create_table(
        *(["value"] if shape else []),
        "order",
        numbers=("||F_r||", "+-", "log2"),
    )
    for i in range(min(size, MAX_VALUES)):
        where = [format_index(shape, i)] if shape else []
        for order in range(stability.order):
            norm, error = stability.norms[order].ravel()[i], stability.stderr[order].ravel()[i]
            with np.errstate(divide="ignore"):
                rows.add_row(*where, str(order + 1), format_number(norm), format_number(error), f"{np.log2(norm):.2f}")
    yield rows
    if size > MAX_VALUES:
        yield f"and {size - MAX_VALUES} more values; --json has them all"
    if stability.order > 1 and not shape:
        (rate, rate_error), (radius, radius_error) = stability.rate, stability.radius
        yield f"ratio of each order to the one before: {format_number(rate)} +- {format_number(rate_error)}"
        yield (
            f"the series can be trusted up to |h| of about {format_number(radius)} +- {format_number(radius_error)}, "
            f"which is {int(min(np.nan_to_num(float(radius)) ** 2, 1e18)):,} deleted {stability.unit}s"
        )
    yield from (f"warning: {text}" for text in stability.warnings)


# ------------------------------------------------------------------------------------------ runs


def format_circuits(run: Training, counts: Sequence[int], chosen: int) -> Iterator[Block]:
    """Format the circuits of a run, one per shape of batch; the one that is shown is marked."""
    yield f"{run.steps:,} steps on {run.n:,} examples, size(A) = {run.size:,} scalar gates"
    rows = create_table("", numbers=("circuit", "steps", "nodes", "size", "depth"))
    for i, (circuit, count) in enumerate(zip(run.circuits, counts, strict=True)):
        cells = (i, count, len(circuit.nodes), circuit.size, circuit.depth)
        rows.add_row("shown" if i == chosen else "", *(f"{number:,}" for number in cells))
    yield rows


def format_profile(profile: Profile, by: By, top: int) -> Iterator[Block]:
    """Format the most expensive rows, with their shares."""
    what = f"a block of {profile.width} directions to order {profile.order}" if profile.order else "plain training"
    aggregated = profile.aggregate(by)
    yield f"{what} through {profile.steps:,} steps, {profile.dtype}, one core"
    rows = create_table(
        *(["gates"] if by != "line" else []),
        *(["line"] if by != "gate" else []),
        numbers=("ms", "share", "GFMA/s"),
    )
    for row in aggregated[:top]:
        texts = [text for text, kind in ((row.gate, "line"), (row.line, "gate")) if by != kind]
        rate = f"{row.multiply_adds / row.seconds / 1e9:.1f}" if row.multiply_adds and row.seconds else ""
        rows.add_row(*texts, f"{row.seconds * 1e3:,.2f}", f"{row.seconds / profile.total:.1%}", rate)
    yield rows
    if len(aggregated) > top:
        yield f"and {len(aggregated) - top} cheaper rows; --top shows more"
    yield (
        f"sum of all rows {profile.total * 1e3:,.1f} ms, each repeated in the cache; "
        f"complete run {profile.run_seconds * 1e3:,.1f} ms"
    )
    if profile.order:
        yield f"which is {profile.run_seconds * 1e3 / profile.width / profile.steps:.4f} ms per direction per step"


# ------------------------------------------------------------------------------------------ the demo


def format_demo(demo: Demo) -> Iterator[Block]:
    """Format the predictions and retrained losses of the demo, with their coverage and warnings."""
    from circuitsketch.report.demo import LEVEL

    yield f"budget {demo.settings.budget:g} trainings: {demo.plan}; losses in nats per token"
    rows = create_table(
        "loss on",
        "without",
        numbers=("trained", "predicted", f"{LEVEL:.0%} interval", "retrained", "order 1"),
    )
    for answer in demo.answers:
        question = answer.question
        rows.add_row(
            question.name,
            f"{question.letters} ({len(question.ids)})" + WARNED * bool(answer.warnings),
            f"{answer.baseline:.3f}",
            f"{answer.predicted:.3f}",
            f"{answer.low:.3f} to {answer.high:.3f}",
            f"{answer.retrained:.3f}",
            f"{answer.first_order:.3f}",
        )
    yield rows
    main = demo.answers[0].question
    count = len(main.ids)
    yield f"{main.letters} ({count}): without the {count} name{'s' * (count > 1)} with {main.letters}"
    yield "order 1: the prediction to first order"
    yield from (
        f"{covered} of {count} retrained losses {what} lie in their interval"
        for what, covered, count in count_covered(demo)
    )
    yield f"worth: {demo.worth}"
    yield "time: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in demo.seconds.items())
    yield from format_warnings(demo)


def count_covered(demo: Demo) -> Iterator[tuple[str, int, int]]:
    """Count the retrained losses in their intervals, for predictions without a warning and for those with one."""
    for what, warned in (
        ("predicted without a warning", False),
        (f"predicted with a warning ({WARNED.strip()})", True),
    ):
        chosen = [answer.covered for answer in demo.answers if bool(answer.warnings) is warned]
        if chosen:
            yield what, sum(chosen), len(chosen)


def format_warnings(demo: Demo) -> Iterator[str]:
    """Format one line per kind of warning: the first in full, and which other predictions have it."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for answer in demo.answers:
        for warning in answer.warnings:
            kind = warning.split(":")[0]
            kinds.setdefault(kind, []).append((f"{answer.question.name} without {answer.question.letters}", warning))
    for (first, text), *others in kinds.values():
        also = f" (also {', '.join(name for name, _ in others)})" if others else ""
        yield f"warning for {first}{also}: {text}"
