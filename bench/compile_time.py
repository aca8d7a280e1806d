"""Benchmark compilation: the time to the first result of programs of thousands of gates, with an empty cache.

    python bench/compile_time.py [--only NAME ...] [--order K ...] [--stages] [--json FILE] [--write]

Each program runs in separate processes, cold (an empty CIRCUITSKETCH_CACHE) and warm (with the same folder again).
Seconds run from the start of the trace to the first result; Python, NumPy, Numba and the package are imported before
that. `--stages` prints a profile, which slows everything a little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Goal, Report, Row, add_options, table

Program = tuple[Callable[..., Any], tuple[Any, ...]]


def runge_kutta() -> Program:
    """Return the gradient of a loss on the solution of a small nonlinear ODE, by 80 steps of Runge-Kutta of order 4."""
    import circuitsketch as cs

    def slope(x: Any, p: Any) -> Any:
        y = np.tanh(p["a"] @ x + p["b"])
        return y - p["c"] * x * np.exp(-x * x) + np.sin(y * x)

    def loss(p: Any, x: Any, seen: Any) -> Any:
        h, total = 0.05, 0.0
        for t in range(80):
            k1 = slope(x, p)
            k2 = slope(x + h / 2 * k1, p)
            k3 = slope(x + h / 2 * k2, p)
            k4 = slope(x + h * k3, p)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            total = total + ((x - seen[t]) ** 2).sum()
        return total

    rng = np.random.default_rng(0)
    p = {"a": rng.normal(size=(3, 3)), "b": rng.normal(size=3), "c": np.full(3, 0.3)}
    return cs.value_and_grad(loss), (p, rng.normal(size=3), rng.normal(size=(80, 3)))


def gaussian_process() -> Program:
    """Return the log marginal likelihood of 12 points with its gradient, by a Cholesky decomposition on scalars."""
    import circuitsketch as cs

    def likelihood(p: Any, x: Any, y: Any) -> Any:
        n = 12
        kernel = [
            [np.exp(p["height"] - 0.5 * ((x[i] - x[j]) * np.exp(-p["length"])) ** 2) for j in range(i + 1)]
            for i in range(n)
        ]
        lower: list[list[Any]] = [[None] * n for _ in range(n)]
        z: list[Any] = []
        total: Any = 0.0
        for i in range(n):
            for j in range(i + 1):
                entry = kernel[i][j] + (np.exp(p["noise"]) if i == j else 0.0)
                for k in range(j):
                    entry = entry - lower[i][k] * lower[j][k]
                lower[i][j] = np.sqrt(entry) if i == j else entry / lower[j][j]
            rest = y[i]
            for k in range(i):
                rest = rest - lower[i][k] * z[k]
            z.append(rest / lower[i][i])
            total = total - 0.5 * z[i] ** 2 - np.log(lower[i][i])
        return total

    rng = np.random.default_rng(0)
    p = {"height": np.zeros(()), "length": np.zeros(()), "noise": np.array(-2.0)}
    return cs.value_and_grad(likelihood), (p, np.linspace(0, 4, 12), rng.normal(size=12))


def recurrent() -> Program:
    """Return the gradient of a recurrent network through 150 steps, written as a Python loop."""
    import circuitsketch as cs

    def loss(p: Any, x: Any, y: Any) -> Any:
        h, total = np.zeros(8), 0.0
        for t in range(150):
            gate = 1 / (1 + np.exp(-(p["u"] @ h + p["v"] @ x[t])))
            h = gate * np.tanh(p["w"] @ h + p["v"] @ x[t] + p["b"]) + (1 - gate) * h
            total = total + ((p["out"] @ h - y[t]) ** 2).sum()
        return total / 150

    rng = np.random.default_rng(0)
    p = {
        "u": rng.normal(size=(8, 8)) / 3, "v": rng.normal(size=(8, 4)) / 2, "w": rng.normal(size=(8, 8)) / 3,
        "b": np.zeros(8), "out": rng.normal(size=(2, 8)) / 3,
    }  # fmt: skip
    return cs.value_and_grad(loss), (p, rng.normal(size=(150, 4)), rng.normal(size=(150, 2)))


def scalars() -> Program:
    """Return the gradient of a map of two numbers, iterated 400 times."""
    import circuitsketch as cs

    def loss(p: Any) -> Any:
        x, y = p["x"], p["y"]
        for i in range(400):
            x, y = np.sin(x * y + p["a"]) + 0.1 * y, np.cos(x) * p["b"] - 0.2 * x * (i % 3) + y / (1 + x * x)
        return x * x + y

    return cs.value_and_grad(loss), ({name: np.array(0.3 + 0.1 * i) for i, name in enumerate("xyab")},)


PROGRAMS = {
    "runge-kutta": runge_kutta,
    "gaussian process": gaussian_process,
    "recurrent network": recurrent,
    "two numbers": scalars,
}


def first_result(name: str, order: int) -> dict[str, float]:
    """Trace a program and evaluate it, or its series along two directions; return the time and sizes."""
    import circuitsketch as cs
    from circuitsketch.backends.cpu.codegen import loaded

    function, arguments = PROGRAMS[name]()
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    circuit = cs.trace(function, *arguments)
    compiled = cs.compile(circuit, order=order)
    if order:
        rng = np.random.default_rng(1)
        moves = {key: rng.normal(size=(2, 1, *np.shape(leaf))) + 0j for key, leaf in arguments[0].items()}
        compiled.series(arguments, (moves, *[None] * (len(arguments) - 1)))
    else:
        compiled(*arguments)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": sum(os.times()[:4]) - cpu,
        "nodes": len(circuit.nodes),
        "kept": len(compiled.circuit.nodes),
        "kernels": len(loaded),
    }


def measure(name: str, order: int, folder: str, stages: bool) -> dict[str, float]:
    """Call `first_result` in a separate process."""
    command = [sys.executable, __file__, "--inside", name, str(order), *(["--stages"] if stages else [])]
    process = subprocess.run(
        command,
        env={**os.environ, "CIRCUITSKETCH_CACHE": folder, "NUMBA_CACHE_DIR": folder},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def run_inside(arguments: list[str]) -> None:
    """Run a measured process."""
    name, order = arguments[0], int(arguments[1])
    if "--stages" not in arguments:
        print(json.dumps(first_result(name, order)))
        return
    import cProfile
    import pstats

    profile = cProfile.Profile()
    result = profile.runcall(first_result, name, order)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(45)
    print(json.dumps(result))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--order", nargs="+", type=int, default=[0, 3])
    parser.add_argument("--stages", action="store_true", help="print profiles on standard error")
    options = parser.parse_args(arguments)
    report = Report("compile_time", options, {"programs": len(options.only)})
    lines = []
    for name in options.only:
        for order in options.order:
            with tempfile.TemporaryDirectory() as folder:
                cold = measure(name, order, folder, options.stages)
                warm = measure(name, order, folder, False)
            key = f"{name.replace(' ', '_').replace('-', '_')}_{order}"
            report.numbers |= {f"{key}_cold": cold, f"{key}_warm": warm}
            # The goal is ten seconds for 10,000 nodes.
            goal = Goal("<=", max(cold["nodes"], 1000) / 1000)
            row = Row(name, key, cold["wall"], "{:.1f}", goal)
            _, measured, goal_text, met = row.cells()
            line = [
                f"{name}, order {order}", f"{cold['nodes']:,.0f} ({cold['kept']:,.0f})", f"{cold['kernels']:.0f}",
                measured, goal_text, met, f"{cold['cpu']:.1f}", f"{warm['wall']:.1f}", f"{warm['cpu']:.1f}",
            ]  # fmt: skip
            report.say("  " + "  ".join(line))
            lines.append(line)
    header = [
        "program", "nodes (simplified)", "kernels", "cold, s", "goal", "met", "CPU s", "warm, s", "CPU s",
    ]  # fmt: skip
    report.add_table(table(lines, header))
    return report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        run_inside(sys.argv[2:])
    else:
        main()
