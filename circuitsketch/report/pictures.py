"""Records of `removal`, `decay`, `answers` and `cost` in, matplotlib figures out. Nothing is computed here.

What tells curves apart is never colour alone: lines differ in dashes, points in markers, bars in hatches, and tones in
lightness, so that a picture says the same when printed in grey.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from circuitsketch.report.answers import ALIKE, RANDOM, RETRAINED, Agreement, Calibration, Influences
from circuitsketch.report.cost import Cost
from circuitsketch.report.decay import Decay, Trust
from circuitsketch.report.removal import Removal

# Dark to light, and readable to most who see fewer colours (Okabe and Ito, 2008).
TONES = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
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


def figure_of(size: tuple[float, float] = SIZE, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure that keeps labels inside, and its axes with a pale grid."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(1, columns, k + 1) for k in range(columns)]
    for ax in axes:
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def axis_of(what: str, unit: str, between: str = ", ") -> str:
    """A quantity with its unit, where it has one."""
    return f"{what}{between}{unit}" if unit else what


def picture_removal(found: Removal) -> Figure:
    """Curves and bands over the strength of a removal, retrained points on top."""
    figure, (ax,) = figure_of()
    ax.plot(
        found.checked,
        found.retrained,
        linestyle="none",
        marker="o",
        markersize=6.5,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=1.3,
        label="retrained",
        zorder=5,
    )
    for k, curve in enumerate(found.curves):
        tone, dashes = TONES[k % len(TONES)], DASHES[k % len(DASHES)]
        ax.plot(found.strengths, curve.value, color=tone, linestyle=dashes, linewidth=1.6, label=curve.label)
        if curve.low is not None and curve.high is not None:
            label = found.band if len(found.curves) == 1 else None
            ax.fill_between(found.strengths, curve.low, curve.high, color=tone, alpha=0.15, linewidth=0, label=label)
            for edge in (curve.low, curve.high):
                ax.plot(found.strengths, edge, color=tone, linestyle=dashes, linewidth=0.5)
    ax.set_xlabel(f"how much of {found.removed} is removed (0: as trained, 1: gone)")
    ax.set_ylabel(f"{found.measured}, {found.unit}")
    ax.set_xlim(-0.02, 1.02)
    title = f"bands: {found.band}" if found.band and len(found.curves) > 1 else None
    ax.legend(frameon=False, fontsize="small", title=title, title_fontsize="small", alignment="left")
    return figure


def picture_decay(found: Decay) -> Figure:
    """One thin line a direction, one thick line for all."""
    figure, (ax,) = figure_of()
    for k, line in enumerate(found.each):
        ax.plot(
            found.orders,
            line,
            color="#888888",
            linewidth=0.7,
            label=f"each of {len(found.each)} directions" if k == 0 else None,
        )
    ax.plot(found.orders, found.together, color="black", linewidth=2, label="root mean square of these")
    ax.set_xlabel("order r")
    ax.set_ylabel(r"$\log_2\,\|F_r\|$, estimated (loss in nats a token)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize="small")
    return figure


def picture_trust(found: Trust) -> Figure:
    """The norms, and the largest that a term can be for deletions of some sizes."""
    figure, (ax,) = figure_of()
    ax.set_yscale("log", base=2)
    for k, (count, terms) in enumerate(zip(found.deleted, found.terms, strict=True)):
        examples = f"d = {count}"
        error = terms * np.divide(found.stderr, found.norms, out=np.zeros_like(found.norms), where=found.norms > 0)
        ax.errorbar(
            found.orders,
            terms,
            yerr=np.minimum(error, 0.9 * terms),
            color=TONES[k % len(TONES)],
            linestyle=DASHES[k % len(DASHES)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=examples,
        )
    ax.set_xlabel("order r")
    ax.set_ylabel(axis_of(r"$\|F_r\|\,d^{\,r/2}$", found.unit) + f" ({found.measured})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(
        frameon=False,
        fontsize="small",
        title=f"the most that term r can be without d {found.of}s",
        title_fontsize="small",
        alignment="left",
    )
    return figure


def picture_influences(found: Influences) -> Figure:
    """Two rows of bars: whose absence raises the measurement most, and whose lowers it most."""
    rows = max(len(found.helpful), len(found.harmful), 1)
    figure, axes = figure_of((7.6, 1.5 + 0.28 * rows), columns=2)
    parts = (
        ("most helpful", "higher", found.helpful, found.helpful_change, found.helpful_stderr, "#555555", ""),
        (
            "most harmful",
            "lower",
            found.harmful,
            -found.harmful_change,
            found.harmful_stderr,
            "#dddddd",
            "////",
        ),
    )
    farthest = max((float((change + error).max()) for _, _, names, change, error, _, _ in parts if names), default=1.0)
    for ax, (title, word, names, change, error, tone, hatch) in zip(axes, parts, strict=True):
        places = np.arange(len(names))
        ax.barh(
            places,
            change,
            xerr=error,
            color=tone,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
            error_kw={"elinewidth": 0.9, "capsize": 2},
        )
        ax.set_yticks(places, names)
        ax.set_ylim(rows - 0.4, -0.6)
        ax.set_xlim(0, 1.05 * farthest)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="y", visible=False)
        ax.set_title(f"{title} of {found.n}", fontsize="medium", loc="left")
        ax.set_xlabel(
            axis_of(f"{word} {found.measured} without it", found.unit, ",\n") + " (bar: one standard error)",
            fontsize="small",
        )
    return figure


def picture_agreement(found: Agreement) -> Figure:
    """Predicted against retrained, with intervals and the diagonal."""
    figure, (ax,) = figure_of((5.4, 5.6))
    both = np.concatenate([found.predicted, found.retrained, [found.baseline]])
    low, high = both.min(), both.max()
    margin = 0.06 * (high - low) or 0.01
    ends = np.array([low - margin, high + margin])
    ax.plot(ends, ends, color="#888888", linewidth=1, label="predicted = retrained")
    kinds = np.array(found.kinds)
    for kind, marker, fill in ((RANDOM, "o", "white"), (ALIKE, "s", "#555555"), (RETRAINED, "o", "white")):
        chosen = kinds == kind
        if not chosen.any():
            continue
        reach = [
            (found.predicted - found.low)[chosen],
            (found.high - found.predicted)[chosen],
        ]
        ax.errorbar(
            found.retrained[chosen],
            found.predicted[chosen],
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
        found.baseline,
        found.baseline,
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
    ax.set_xlabel(axis_of(f"{found.measured} after retraining", found.unit))
    ax.set_ylabel(axis_of("predicted", found.unit) + " (lines: 95 % interval)")
    figure.legend(  # above the axes: intervals of far deletions fill them
        frameon=False,
        fontsize="small",
        loc="outside upper left",
        ncols=2,
        title=f"correlation {found.correlation:.3f}, {found.covered} of {len(found.retrained)} intervals cover",
        title_fontsize="small",
        alignment="left",
    )
    return figure


def picture_calibration(found: Calibration) -> Figure:
    """The share of truths inside their interval against the share that was promised, and the diagonal."""
    figure, (ax,) = figure_of((5.0, 5.0))
    ax.plot([0, 1], [0, 1], color="#888888", linewidth=1, label="as promised")
    ax.plot(found.levels, found.covered, color="black", marker="o", markersize=4, linewidth=1.2, label="retrained")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    ax.set_xlabel(f"level of the interval ({found.measured})")
    ax.set_ylabel(f"share of {found.count:,} truths inside it")
    title = f"rank correlation {found.lds:.3f}, error {found.rmse:.3f} of the truth's deviation"
    figure.legend(frameon=False, fontsize="small", loc="outside upper left", title=title, title_fontsize="small")
    return figure


def picture_cost(found: Cost) -> Figure:
    """Processor time against size(A), for plain training and for one direction."""
    figure, (ax,) = figure_of()
    order = np.argsort(found.sizes)
    sizes = found.sizes[order]
    for seconds, label, marker, dashes, fill in (
        (found.direction, f"a direction at order {found.order}", "s", "-", "black"),
        (found.train, "plain training", "o", (0, (5, 2)), "white"),
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
    line = found.direction[order][0] * sizes / sizes[0]
    ax.plot(sizes, line, color=PALE, linewidth=2.5, zorder=0, label="in proportion to size(A)")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("size(A): scalar gates of the whole training")
    ax.set_ylabel("processor time, seconds")
    ax.legend(
        frameon=False,
        fontsize="small",
        title=f"fitted slope of a direction {found.slope:.2f}",
        title_fontsize="small",
        alignment="left",
    )
    return figure


PICTURES: dict[type, Callable[[Any], Figure]] = {
    Removal: picture_removal,
    Decay: picture_decay,
    Trust: picture_trust,
    Influences: picture_influences,
    Agreement: picture_agreement,
    Calibration: picture_calibration,
    Cost: picture_cost,
}
