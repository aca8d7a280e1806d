"""Output of the benchmarks: tables of numbers and goals, JSON, and the tables in README.md.

python bench/report.py --history                 # every figure of every bench over the lines of bench/history
python bench/report.py --history push --plot push.png
python bench/report.py --tables                  # makes the tables in README.md again, from the last lines
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from history import append_line, list_names, plot_history, read_lines, tabulate_history
from machine import description

README = Path(__file__).parent / "README.md"


@dataclass(frozen=True)
class Goal:
    """The goal of a number: at most or at least `bound`, or within `slack` of it."""

    sense: Literal["<=", ">=", "="]
    bound: float
    slack: float = 0.0

    def met(self, value: float) -> bool:
        """Return whether a value meets the goal."""
        if self.sense == "=":
            return abs(value - self.bound) <= self.slack
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def text(self, form: str) -> str:
        """Format the goal."""
        bound = form.format(self.bound)
        return f"{bound} +- {form.format(self.slack)}" if self.sense == "=" else f"{self.sense} {bound}"


@dataclass(frozen=True)
class Row:
    """A measured number: a description, its key in the JSON, its value, its format and its goal."""

    what: str
    key: str
    value: float
    form: str = "{:.3g}"
    goal: Goal | None = None
    note: str = ""

    def cells(self) -> list[str]:
        """Return the cells of the row: what, measured, goal, met."""
        measured = self.form.format(self.value) + (f" ({self.note})" if self.note else "")
        if self.goal is None:
            return [self.what, measured, "", ""]
        return [self.what, measured, self.goal.text(self.form), "yes" if self.goal.met(self.value) else "no"]


HEADER = ["what", "measured", "goal", "met"]


def table(rows: list[list[str]], header: list[str] = HEADER) -> str:
    """Format a table in Markdown, with aligned columns."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [header, rule, *rows]
    )


def about(settings: dict[str, Any], machine: dict[str, Any]) -> str:
    """Return a line that says where and how a table was measured."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "numpy", "numba", "llvmlite"))
    chosen = ", ".join(f"{name} {value}" for name, value in settings.items())
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores ({machine['lanes']}), "
        f"{machine['system']}, load before {machine['load']}; {versions}; {chosen}."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all benchmarks."""
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON to a file; - for standard output")
    parser.add_argument("--write", action="store_true", help="write the table to bench/README.md")
    parser.add_argument(
        "--full", action="store_true", help="use the full settings, which take several minutes or hours"
    )


class Report:
    """The rows of a benchmark, printed one by one as they are measured."""

    def __init__(self, name: str, options: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.name = name
        self.options = options
        self.settings = settings
        self.machine = description()
        self.rows: list[Row] = []
        self.tables: list[str] = []
        self.numbers: dict[str, Any] = {}
        self.stream = sys.stderr if options.json == "-" else sys.stdout
        self.say(about(settings, self.machine))

    def say(self, text: str) -> None:
        """Print a line; to standard error if standard output is for JSON."""
        print(text, file=self.stream, flush=True)

    def add(self, row: Row) -> None:
        """Add a row and print it."""
        self.rows.append(row)
        self.numbers[row.key] = row.value
        what, measured, goal, met = row.cells()
        self.say(f"  {what}: {measured}" + (f"   goal {goal}: {met}" if goal else ""))

    def add_table(self, text: str) -> None:
        """Add a table and print it."""
        self.tables.append(text)
        self.say(text)

    def text(self) -> str:
        """Return the report in Markdown."""
        parts = [about(self.settings, self.machine)]
        if self.rows:
            parts.append(table([row.cells() for row in self.rows]))
        return "\n\n".join(parts + self.tables)

    def figures(self) -> dict[str, float]:
        """Return the numbers to follow over time: the rows by their description, and what else is one number."""
        single = {key: value for key, value in self.numbers.items() if isinstance(value, int | float)}
        whats = [row.what for row in self.rows]
        rows = {row.key: row.what if whats.count(row.what) == 1 else f"{row.what} ({row.key})" for row in self.rows}
        return {rows.get(key, key): value for key, value in single.items()}

    def finish(self) -> dict[str, Any]:
        """Write the requested outputs and return the numbers."""
        if len(self.rows) > 1:
            self.say("\n" + table([row.cells() for row in self.rows]))
        numbers = {"bench": self.name, "settings": self.settings, "machine": self.machine, **self.numbers}
        if self.options.json == "-":
            print(json.dumps(numbers, indent=2))
        elif self.options.json:
            Path(self.options.json).write_text(json.dumps(numbers, indent=2) + "\n")
        if self.options.write:
            append_line(
                self.name,
                {
                    "machine": self.machine,
                    "settings": self.settings,
                    "figures": self.figures(),
                    "table": self.text(),
                },
            )
            write_section(README, self.name, read_lines(self.name)[-1]["table"])
            self.say(f"written to {README.name}, section {self.name}")
        return numbers


def write_section(file: Path, name: str, text: str) -> None:
    """Replace the text between <!-- name --> and <!-- end of name --> in a file."""
    old = file.read_text()
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in old or end not in old:
        raise SystemExit(f"{file} has no section {begin} ... {end}; add both lines where the table should be")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", nargs="*", metavar="BENCH", help="show the figures of these benches, or of all")
    parser.add_argument("--plot", metavar="FILE", help="plot them; requires matplotlib")
    parser.add_argument("--tables", action="store_true", help="make the tables in README.md from the last lines")
    options = parser.parse_args(argv)
    if options.tables:
        for name in list_names():
            write_section(README, name, read_lines(name)[-1]["table"])
    if options.history is not None:
        names = options.history or list_names()
        for name in names:
            header, *rows = tabulate_history(name)
            print(table(rows, header) + "\n")
        if options.plot:
            plot_history(names, options.plot)


__all__ = ["Goal", "Report", "Row", "add_options", "table", "write_section"]


if __name__ == "__main__":
    main()
