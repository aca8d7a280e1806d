"""The history of the benchmarks: every `--write` appends a line, and the tables of README files are made from the last.

In: what a bench measured. Out: history/NAME.jsonl, a line per measurement with the commit, the machine, the settings,
the figures by their description and the table; and plots of the figures over the lines.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "history"
COLUMNS = 4  # of panels in a plot


def describe_commit() -> str:
    """Return the commit that is measured, with a plus where files differ from it, or "" outside of a repository."""

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout

    try:
        commit = ask("rev-parse", "--short", "HEAD").strip()
        return commit + ("+" if ask("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def append_line(name: str, line: dict[str, Any]) -> None:
    """Append what a bench measured to its history."""
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.jsonl", "a") as file:
        file.write(json.dumps({"commit": describe_commit(), **line}) + "\n")


def read_lines(name: str) -> list[dict[str, Any]]:
    """Return the history of a bench, the oldest line first."""
    file = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def list_names() -> list[str]:
    """Return the benches that have a history."""
    return sorted(file.stem for file in FOLDER.glob("*.jsonl"))


def collect_figures(lines: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Return every figure's value in each line, None where it was not measured."""
    names = dict.fromkeys(figure for line in lines for figure in line["figures"])
    return {figure: [line["figures"].get(figure) for line in lines] for figure in names}


def tabulate_history(name: str) -> list[list[str]]:
    """Return a header and a row per figure: its value in each line."""
    lines = read_lines(name)
    head = [name, *(f"{line['machine']['date']}, {line['commit']}" for line in lines)]
    rows = [
        [figure, *("" if value is None else f"{value:.4g}" for value in values)]
        for figure, values in collect_figures(lines).items()
    ]
    return [head, *rows]


def plot_history(names: list[str], file: str) -> None:
    """Plot every figure of some benches over the lines of their history, a colour per processor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        (name, figure, values, lines)
        for name in names
        for lines in [read_lines(name)]
        for figure, values in collect_figures(lines).items()
    ]
    height = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(height, COLUMNS, figsize=(5 * COLUMNS, 3 * height), squeeze=False)
    for axis, (name, title, values, lines) in zip(axes.flat, panels, strict=False):
        processors = [line["machine"]["processor"] for line in lines]
        for processor in dict.fromkeys(processors):
            known = [i for i, value in enumerate(values) if value is not None and processors[i] == processor]
            axis.plot(known, [values[i] for i in known], "o-", label=processor)
        axis.set_title(f"{name}: {title}", fontsize=7, wrap=True)
        axis.set_xticks(range(len(lines)), [line["commit"] for line in lines], fontsize=6, rotation=45)
        axis.set_ylim(bottom=min([0.0, *(value for value in values if value is not None)]))
    axes.flat[0].legend(fontsize=6)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


__all__ = ["append_line", "list_names", "plot_history", "read_lines", "tabulate_history"]
