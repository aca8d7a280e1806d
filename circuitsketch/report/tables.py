"""Results as tables for a terminal: the package's records in, rich tables and lines out. Printing is left to `cli`.

Everything fits 80 columns: numbers keep their width, names and places give way.
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

Shown = Table | str
VALUES_SHOWN = 20  # of an array that was measured
WARNED = " !"  # marks a prediction that carries a warning


def table(*texts: str, numbers: Sequence[str]) -> Table:
    """An empty table: columns of text, which may be cut, then columns of numbers, which may not."""
    found = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in texts:
        found.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=26)
    for heading in numbers:
        found.add_column(heading, justify="right", no_wrap=True)
    return found


def figure(x: Any) -> str:
    """Six digits."""
    return "unknown" if np.isnan(x) else f"{float(x):.6g}"


def change_of(x: Any) -> str:
    """Six digits and a sign."""
    return "unknown" if np.isnan(x) else f"{float(x):+.6g}"


def index_of(shape: tuple[int, ...], i: int) -> str:
    """The place of a number in an array, as Python writes it."""
    return str([int(x) for x in np.unravel_index(i, shape)])


# ------------------------------------------------------------------------------------------ of a sketch


def of_prediction(found: Prediction, title: str, retrained: Any = None, level: float = 0.95) -> Iterator[Shown]:
    """The value with its interval, what it was, and the terms of the series; of an array, or a pytree, a row for each
    number. retrained : of the shape of the value, of a pytree the vector of its leaves."""
    tree = getattr(found, "structure", None)
    found = found.flattened()
    low, high = found.interval(level)
    shape = np.shape(found.value)
    if shape == ():
        yield title
        rows = table("", numbers=("value", "+-"))
        rows.add_row("as trained", figure(found.baseline), "")
        rows.add_row("predicted", figure(found.value), figure(found.stderr))
        rows.add_row(f"{100 * level:g} % interval", f"{figure(low)} to {figure(high)}", "")
        if retrained is not None:
            rows.add_row("retrained", figure(retrained), "")
        rows.add_row("change", change_of(found.change), figure(found.stderr))
        for order, (term, error) in enumerate(zip(found.terms, found.term_stderr, strict=True), start=1):
            rows.add_row(f"  order {order}", change_of(term), figure(error))
        rows.add_row("  left out <~", figure(found.truncation), "")
        yield rows
    else:
        names = ["as trained", "predicted", "from", "to"] + (["retrained"] if retrained is not None else [])
        columns = [found.baseline, found.value, low, high] + ([retrained] if retrained is not None else [])
        yield title
        rows = table("value", numbers=names)
        size = int(np.prod(shape))
        for i in range(min(size, VALUES_SHOWN)):
            where = index_of(shape, i) if tree is None else tree.names[i]
            rows.add_row(Text(text_of(where)), *(f"{np.ravel(column)[i]:.5g}" for column in columns))
        yield rows
        if size > VALUES_SHOWN:
            yield f"and {size - VALUES_SHOWN} more values; --json has them all"
    yield f"order {found.order}, estimator {found.estimator}, {found.directions} directions"
    yield from (f"warning: {text}" for text in found.warnings)
    if retrained is not None and missed(found, retrained, level).any():
        yield "warning: " + words_of_missed(found, retrained, level)


def missed(found: Prediction, retrained: Any, level: float = 0.95) -> np.ndarray:
    """Where a retrained value lies outside the interval of its prediction, beyond rounding: bool (*measurement), of a
    pytree a vector."""
    found = found.flattened()
    low, high = (np.asarray(end) for end in found.interval(level))
    slack = 1e-9 * np.maximum(np.abs(retrained), np.abs(found.value))
    return np.asarray((retrained < low - slack) | (retrained > high + slack))


def words_of_missed(found: Prediction, retrained: Any, level: float = 0.95) -> str:
    """That retrained values lie outside their intervals, and how far."""
    found = found.flattened()
    outside = missed(found, retrained, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(retrained - found.value) / np.asarray(found.stderr)
    worst = float(np.max(np.where(outside, errors, 0.0)))
    far = f"{worst:.3g} standard errors from the prediction" if np.isfinite(worst) else "with a standard error of 0"
    if not outside.ndim:
        return f"the retrained value lies outside the {100 * level:g} % interval, {far}: do not rely on this interval"
    return (
        f"{int(outside.sum())} of {outside.size} retrained values lie outside their {100 * level:g} % intervals, the "
        f"farthest {far}; about {100 - 100 * level:g} % of them would by chance"
    )


def of_predictions(
    found: Prediction, names: Sequence[str], counts: Sequence[int], level: float, retrained: Any = None
) -> Iterator[Shown]:
    """Many subsets, a row each: how many examples go, the value and its interval, what retraining says; of an array the
    norm of the change."""
    found = found.flattened()
    low, high = found.interval(level)
    value, change, stderr = np.asarray(found.value), np.asarray(found.change), np.asarray(found.stderr)
    low, high = np.asarray(low), np.asarray(high)
    outside = np.asarray(np.asarray(found.outside).reshape(len(names), -1).any(axis=1))
    scalar = value.ndim == 1
    numbers = ["gone", "predicted", "+-", "from", "to"] if scalar else ["gone", "|change|", "|+-|"]
    if retrained is not None:
        numbers.append("retrained" if scalar else "|off|")
    rows = table("without", numbers=numbers)
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        if scalar:
            cells = [figure(x) for x in (value[i], stderr[i], low[i], high[i])]
            cells += [figure(retrained[i])] if retrained is not None else []
        else:
            cells = [figure(np.linalg.norm(x)) for x in (change[i], stderr[i])]
            cells += [figure(np.linalg.norm(value[i] - retrained[i]))] if retrained is not None else []
        rows.add_row(Text(text_of(name) + WARNED * bool(outside[i])), f"{count:,}", *cells)
    yield rows
    as_trained = f"as trained {figure(found.baseline)}; " if scalar else ""
    yield f"{as_trained}from, to: the {100 * level:g} % interval" if scalar else "norms over the values"
    if outside.any():
        yield f"{WARNED.strip()}: outside the region where the series can be trusted"
    yield f"order {found.order}, estimator {found.estimator}, {found.directions} directions"
    yield from (f"warning: {text}" for text in found.warnings)
    if retrained is not None and missed(found, retrained, level).any():
        yield "warning: " + words_of_missed(found, retrained, level)


def of_influence(
    found: Influence, top: int, items: Sequence[Any] | None, labels: Sequence[Any] | None
) -> Iterator[Shown]:
    """The examples that matter most, one by one, with what is known of them."""
    found = found.flattened()
    scalar = found.change.ndim == 1
    texts = ["id"] + [found.unit] * (items is not None) + ["label"] * (labels is not None)
    article = "an" if found.unit[0] in "aeiou" else "a"
    yield f"what the measurement gains when {article} {found.unit} goes, of {len(found.change):,}; " + (
        f"as trained {figure(found.baseline)}" if scalar else f"{found.change[0].size} values, their norm"
    )
    rows = table(*texts, numbers=("change" if scalar else "|change|", "+-" if scalar else "|+-|"))
    for i in found.top(top):
        known = [Text(text_of(values[i])) for values in (items, labels) if values is not None]
        if scalar:
            numbers = [change_of(found.change[i]), figure(found.stderr[i])]
        else:
            numbers = [figure(number) for number in found.size(int(i))]
        rows.add_row(str(i), *known, *numbers)
    yield rows
    yield f"order {found.order}, estimator {found.estimator}, {found.directions} directions"
    yield from (f"warning: {text}" for text in found.warnings)


def of_stability(found: Stability) -> Iterator[Shown]:
    """The norm of every order, and how they fall."""
    shape = found.norms.shape[1:]
    size = int(np.prod(shape, dtype=int))
    yield f"norms of the Taylor terms, measured with {found.directions} directions"
    rows = table(
        *(["value"] if shape else []),
        "order",
        numbers=("||F_r||", "+-", "log2"),
    )
    for i in range(min(size, VALUES_SHOWN)):
        where = [index_of(shape, i)] if shape else []
        for order in range(found.order):
            norm, error = found.norms[order].ravel()[i], found.stderr[order].ravel()[i]
            with np.errstate(divide="ignore"):
                rows.add_row(*where, str(order + 1), figure(norm), figure(error), f"{np.log2(norm):.2f}")
    yield rows
    if size > VALUES_SHOWN:
        yield f"and {size - VALUES_SHOWN} more values; --json has them all"
    if found.order > 1 and not shape:
        (rate, rate_error), (radius, radius_error) = found.rate, found.radius
        yield f"each order is {figure(rate)} +- {figure(rate_error)} of the one before"
        yield (
            f"the series is worth trusting up to |h| of about {figure(radius)} +- {figure(radius_error)}, "
            f"that is {int(min(np.nan_to_num(float(radius)) ** 2, 1e18)):,} deleted {found.unit}s"
        )
    yield from (f"warning: {text}" for text in found.warnings)


# ------------------------------------------------------------------------------------------ of a run


def of_circuits(run: Training, counts: Sequence[int], chosen: int) -> Iterator[Shown]:
    """The circuits of a run, one a shape of batch, the one that is shown marked."""
    yield f"{run.steps:,} steps on {run.n:,} examples, size(A) = {run.size:,} scalar gates"
    rows = table("", numbers=("circuit", "steps", "nodes", "size", "depth"))
    for i, (circuit, count) in enumerate(zip(run.circuits, counts, strict=True)):
        cells = (i, count, len(circuit.nodes), circuit.size, circuit.depth)
        rows.add_row("shown" if i == chosen else "", *(f"{number:,}" for number in cells))
    yield rows


def of_profile(found: Profile, by: By, top: int) -> Iterator[Shown]:
    """The costliest rows, with their shares."""
    what = f"a block of {found.width} directions to order {found.order}" if found.order else "plain training"
    added = found.added(by)
    yield f"{what} through {found.steps:,} steps, {found.dtype}, one core"
    rows = table(
        *(["gates"] if by != "line" else []),
        *(["line"] if by != "gate" else []),
        numbers=("ms", "share", "GFMA/s"),
    )
    for row in added[:top]:
        texts = [text for text, kind in ((row.gate, "line"), (row.line, "gate")) if by != kind]
        rate = f"{row.multiply_adds / row.seconds / 1e9:.1f}" if row.multiply_adds and row.seconds else ""
        rows.add_row(*texts, f"{row.seconds * 1e3:,.2f}", f"{row.seconds / found.total:.1%}", rate)
    yield rows
    if len(added) > top:
        yield f"and {len(added) - top} cheaper rows; --top shows more"
    yield f"added up {found.total * 1e3:,.1f} ms, each repeated in the cache; the whole run {found.whole * 1e3:,.1f} ms"
    if found.order:
        yield f"that is {found.whole * 1e3 / found.width / found.steps:.4f} ms a direction and step"


# ------------------------------------------------------------------------------------------ of the demo


def of_demo(found: Demo) -> Iterator[Shown]:
    """Predictions and truths, what they show, and the warnings."""
    from circuitsketch.report.demo import LEVEL

    settings = found.settings
    yield f"order {settings.order}, every name alone and {settings.directions} directions, losses in nats a token"
    rows = table(
        "loss on",
        "without",
        numbers=("trained", "predicted", f"{LEVEL:.0%} interval", "retrained", "order 1"),
    )
    for answer in found.answers:
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
    main = found.answers[0].question
    count = len(main.ids)
    yield f"{main.letters} ({count}): had the {count} name{'s' * (count > 1)} with {main.letters} never been there"
    yield "order 1: what the first-order term alone predicts"
    yield from (
        f"{covered} of {count} retrained losses {what} lie in their interval" for what, covered, count in shares(found)
    )
    yield "time: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.seconds.items())
    yield from demo_warnings(found)


def shares(found: Demo) -> Iterator[tuple[str, int, int]]:
    """How many truths lie in their interval, and of how many: of the predictions without a warning, and with one."""
    for what, warned in (
        ("predicted without a warning", False),
        (f"predicted with a warning ({WARNED.strip()})", True),
    ):
        chosen = [answer.covered for answer in found.answers if bool(answer.warnings) is warned]
        if chosen:
            yield what, sum(chosen), len(chosen)


def demo_warnings(found: Demo) -> Iterator[str]:
    """One line for each kind of warning: the first of its kind in full, and which others have it too."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for answer in found.answers:
        for warning in answer.warnings:
            kind = warning.split(":")[0]
            kinds.setdefault(kind, []).append((f"{answer.question.name} without {answer.question.letters}", warning))
    for (first, text), *others in kinds.values():
        too = f" (so do {', '.join(asked for asked, _ in others)})" if others else ""
        yield f"{first} warns{too}: {text}"
