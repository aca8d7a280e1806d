"""Draw the records of `removal`, `step_test`, `decay`, `agreement` and `cost` with matplotlib.

Curves never differ in colour alone: lines differ in dashes, points in markers, bars in hatches, and colours in
lightness, so that figures remain readable when printed in grey.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from circuitsketch.report.agreement import ALIKE, RANDOM, RETRAINED, Agreement, Calibration, Influences
from circuitsketch.report.cost import Cost
from circuitsketch.report.decay import Decay, TermBounds
from circuitsketch.report.removal import Removal
from circuitsketch.report.step_test import StepTest

# From dark to light, distinguishable with most colour vision deficiencies (Okabe and Ito, 2008).
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1, 2)),
    (0, (3, 2)),
    (0, (1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = "osD^vP"
PALE = "#bbbbbb"
SIZE = (6.4, 4.2)  # inches
DPI = 150


def create_figure(size: tuple[float, float] = SIZE, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Create an empty figure with axes and a pale grid."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(1, columns, k + 1) for k in range(columns)]
    for ax in axes:
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def format_axis_label(what: str, unit: str, between: str = ", ") -> str:
    """Return a quantity with its unit, if it has one."""
    return f"{what}{between}{unit}" if unit else what


def draw_retrained(ax: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Draw retrained values as open circles, above all curves."""
    circle = {"markersize": 6.5, "markerfacecolor": "white", "markeredgecolor": "black", "markeredgewidth": 1.3}
    label = "retrained" if np.any(x != 0) else "as trained"
    ax.plot(x, y, linestyle="none", marker="o", label=label, zorder=5, **circle)


def plot_removal(removal: Removal) -> Figure:
    """Draw curves and bands over the strength of a deletion, with retrained points."""
    figure, (ax,) = create_figure()
    draw_retrained(ax, removal.checked, removal.retrained)
    for k, curve in enumerate(removal.curves):
        colour, dashes = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        ax.plot(removal.strengths, curve.value, color=colour, linestyle=dashes, linewidth=1.6, label=curve.label)
        if curve.low is not None and curve.high is not None:
            label = removal.band if len(removal.curves) == 1 else None
            ax.fill_between(
                removal.strengths, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0, label=label
            )
            for edge in (curve.low, curve.high):
                ax.plot(removal.strengths, edge, color=colour, linestyle=dashes, linewidth=0.5)
    ax.set_xlabel(f"fraction of {removal.removed} removed (0: as trained, 1: deleted)")
    ax.set_ylabel(format_axis_label(removal.measured, removal.unit))
    ax.set_xlim(-0.02, 1.02)
    title = f"bands: {removal.band}" if removal.band and len(removal.curves) > 1 else None
    ax.legend(frameon=False, fontsize="small", title=title, title_fontsize="small", alignment="left")
    return figure


def plot_step_test(test: StepTest) -> Figure:
    """Draw what orders 1, 2, ... predict of a step along the metagradient, with retrained points."""
    figure, (ax,) = create_figure()
    draw_retrained(ax, test.checked, test.retrained - test.baseline)
    for k, curve in enumerate(test.curves):
        colour, dashes = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        ax.plot(
            test.steps, curve.value - test.baseline, color=colour, linestyle=dashes, linewidth=1.6, label=curve.label
        )
    ax.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    ax.axvline(0, color=PALE, linewidth=0.8, zorder=0)
    ax.set_xlabel("step s: downweights are s times the metagradient over its largest entry")
    ax.set_ylabel(f"change of the {test.measured}, {test.unit}")
    ax.legend(frameon=False, fontsize="small")
    return figure


def plot_decay(decay: Decay) -> Figure:
    """Draw one thin line per direction, and a thick line for their root mean square."""
    figure, (ax,) = create_figure()
    for k, line in enumerate(decay.each):
        ax.plot(
            decay.orders,
            line,
            color="#888888",
            linewidth=0.7,
            label=f"each of {len(decay.each)} directions" if k == 0 else None,
        )
    ax.plot(decay.orders, decay.together, color="black", linewidth=2, label="root mean square of these")
    ax.set_xlabel("order r")
    ax.set_ylabel(r"$\log_2\,\|F_r\|$, estimated (loss in nats per token)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize="small")
    return figure


def plot_term_bounds(bounds: TermBounds) -> Figure:
    """Draw the upper bounds on the terms for deletions of several sizes."""
    figure, (ax,) = create_figure()
    ax.set_yscale("log", base=2)
    for k, (count, terms) in enumerate(zip(bounds.deleted, bounds.terms, strict=True)):
        error = terms * np.divide(bounds.stderr, bounds.norms, out=np.zeros_like(bounds.norms), where=bounds.norms > 0)
        ax.errorbar(
            bounds.orders,
            terms,
            yerr=np.minimum(error, 0.9 * terms),
            color=COLOURS[k % len(COLOURS)],
            linestyle=DASHES[k % len(DASHES)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=f"d = {count}",
        )
    ax.set_xlabel("order r")
    ax.set_ylabel(format_axis_label(r"$\|F_r\|\,d^{\,r/2}$", bounds.unit) + f" ({bounds.measured})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(
        frameon=False,
        fontsize="small",
        title=f"upper bound on term r without d {bounds.of}s",
        title_fontsize="small",
        alignment="left",
    )
    return figure


def finite(errors: np.ndarray) -> np.ndarray:
    """Return errors to draw, 0 where they are unknown."""
    return np.where(np.isfinite(errors), errors, 0.0)


def plot_influences(influences: Influences) -> Figure:
    """Draw bars of the examples whose removal increases, and decreases, the measurement most."""
    rows = max(len(influences.helpful), len(influences.harmful), 1)
    figure, axes = create_figure((7.6, 1.5 + 0.28 * rows), columns=2)
    parts = (
        (
            "most helpful",
            "higher",
            influences.helpful,
            influences.helpful_change,
            influences.helpful_stderr,
            "#555555",
            "",
        ),
        (
            "most harmful",
            "lower",
            influences.harmful,
            -influences.harmful_change,
            influences.harmful_stderr,
            "#dddddd",
            "////",
        ),
    )
    errors = np.concatenate([influences.helpful_stderr, influences.harmful_stderr])
    known = "one standard error" + ("" if np.isfinite(errors).all() else ", where it is known")
    largest = max(
        (float((change + finite(error)).max()) for _, _, names, change, error, _, _ in parts if names), default=1.0
    )
    for ax, (title, word, names, change, error, colour, hatch) in zip(axes, parts, strict=True):
        positions = np.arange(len(names))
        ax.barh(
            positions,
            change,
            xerr=finite(error),
            color=colour,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
            error_kw={"elinewidth": 0.9, "capsize": 2},
        )
        ax.set_yticks(positions, names)
        ax.set_ylim(rows - 0.4, -0.6)
        ax.set_xlim(0, 1.05 * largest)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="y", visible=False)
        ax.set_title(f"{title} of {influences.n}", fontsize="medium", loc="left")
        ax.set_xlabel(
            format_axis_label(f"{word} {influences.measured} without it", influences.unit, ",\n") + f" (bar: {known})",
            fontsize="small",
        )
    return figure


def plot_agreement(agreement: Agreement) -> Figure:
    """Draw predicted against retrained values, with intervals and the diagonal."""
    figure, (ax,) = create_figure((5.4, 5.6))
    both = np.concatenate([agreement.predicted, agreement.retrained, [agreement.baseline]])
    low, high = both.min(), both.max()
    margin = 0.06 * (high - low) or 0.01
    ends = np.array([low - margin, high + margin])
    ax.plot(ends, ends, color="#888888", linewidth=1, label="predicted = retrained")
    kinds = np.array(agreement.kinds)
    for kind, marker, fill in ((RANDOM, "o", "white"), (ALIKE, "s", "#555555"), (RETRAINED, "o", "white")):
        chosen = kinds == kind
        if not chosen.any():
            continue
        reach = [
            finite(agreement.predicted - agreement.low)[chosen],
            finite(agreement.high - agreement.predicted)[chosen],
        ]
        ax.errorbar(
            agreement.retrained[chosen],
            agreement.predicted[chosen],
            yerr=reach,
            linestyle="none",
            marker=marker,
            markersize=5,
            markerfacecolor=fill,
            markeredgecolor="black",
            ecolor=PALE,
            elinewidth=0.9,
            label=f"{chosen.sum()} subsets {kind}",
        )
    ax.plot(
        agreement.baseline,
        agreement.baseline,
        marker="+",
        markersize=13,
        color="black",
        linestyle="none",
        label="as trained",
    )
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(format_axis_label(f"{agreement.measured} after retraining", agreement.unit))
    ax.set_ylabel(format_axis_label("predicted", agreement.unit) + " (lines: 95 % interval)")
    covered = f"{agreement.covered} of {len(agreement.retrained)} intervals cover"
    figure.legend(  # above the axes, which the intervals of large deletions fill
        frameon=False,
        fontsize="small",
        loc="outside upper left",
        ncols=2,
        title=f"correlation {agreement.correlation:.3f}, {covered}",
        title_fontsize="small",
        alignment="left",
    )
    return figure


def plot_calibration(calibration: Calibration) -> Figure:
    """Draw the share of retrained values inside their intervals against the confidence level, and the diagonal."""
    figure, (ax,) = create_figure((5.0, 5.0))
    ax.plot([0, 1], [0, 1], color="#888888", linewidth=1, label="nominal")
    ax.plot(
        calibration.levels,
        calibration.covered,
        color="black",
        marker="o",
        markersize=4,
        linewidth=1.2,
        label="retrained",
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    ax.set_xlabel(f"level of the interval ({calibration.measured})")
    ax.set_ylabel(f"share of {calibration.count:,} retrained values inside")
    title = f"rank correlation {calibration.lds:.3f}, RMSE {calibration.rmse:.3f} standard deviations"
    figure.legend(frameon=False, fontsize="small", loc="outside upper left", title=title, title_fontsize="small")
    return figure


def plot_cost(cost: Cost) -> Figure:
    """Draw processor time against size(A), for plain training and for one direction."""
    figure, (ax,) = create_figure()
    order = np.argsort(cost.sizes)
    sizes = cost.sizes[order]
    for seconds, label, marker, dashes, fill in (
        (cost.direction, f"one direction at order {cost.order}", "s", "-", "black"),
        (cost.train, "plain training", "o", (0, (5, 2)), "white"),
    ):
        ax.plot(
            sizes,
            seconds[order],
            linestyle=dashes,
            color="black",
            linewidth=0.9,
            marker=marker,
            markersize=5.5,
            markerfacecolor=fill,
            label=label,
        )
    line = cost.direction[order][0] * sizes / sizes[0]
    ax.plot(sizes, line, color=PALE, linewidth=2.5, zorder=0, label="proportional to size(A)")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("size(A): scalar gates of the training run")
    ax.set_ylabel("processor time, seconds")
    ax.legend(
        frameon=False,
        fontsize="small",
        title=f"fitted slope for one direction: {cost.slope:.2f}",
        title_fontsize="small",
        alignment="left",
    )
    return figure


PLOTTERS: dict[type, Callable[[Any], Figure]] = {
    Removal: plot_removal,
    StepTest: plot_step_test,
    Decay: plot_decay,
    TermBounds: plot_term_bounds,
    Influences: plot_influences,
    Agreement: plot_agreement,
    Calibration: plot_calibration,
    Cost: plot_cost,
}
