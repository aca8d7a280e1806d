"""Benchmark the law of cost: time against multiply-adds and bytes, in every dimension of a run.

    python bench/cost_law.py           some minutes
    python bench/cost_law.py --full --write    larger runs, written to bench/README.md

A model of the seconds of a push has six terms, each counted from the circuits and tapes, and none from a clock:

    multiply-adds    of the blocks' vectors (multiply_adds.py), all lanes of a block at the cost of one
    bytes            that elementwise instructions and copies access in the lanes (traffic.py); what contractions read
                     goes with their multiply-adds
    memory           bytes of the lanes of the state, read and written, as far as they are not in a cache: a share that
                     grows from 0 to 1 as a thread's lanes grow from half of the last-level cache to all of it
    instructions     that are executed for a lane block, each of which costs a call and its loops' ends
    primal           scalar gates of the run, once for the lane blocks that share them
    push             1, for what does not depend on the number of steps

Their coefficients are fitted to all runs, with squares of relative errors and no negative coefficient. Along every
dimension alone, the slope of log(time) against log(model) should be one. The slope against size(A) stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from compare_jax import one_core
from machine import hide_avx512, peak
from multiply_adds import run_cost
from report import Goal, Report, Row, add_options, table
from scipy.optimize import nnls
from size_law import LENGTH, make_documents, slope
from timing import interleaved, middle
from traffic import count_elements, count_updated
from workloads import directions

import circuitsketch as cs
from circuitsketch.backends.contract import Executable
from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.linking import ProgramRow
from circuitsketch.lower.instructions import ContractKernel, Mode, UpdateKernel
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.zoo import microgpt

LAW = Goal("=", 1.0, 0.05)
TERMS = ("multiply-add", "byte", "byte of memory", "instruction", "primal gate", "push")
UNITS = ((1e12, "ps"), (1e12, "ps"), (1e12, "ps"), (1e9, "ns"), (1e9, "ns"), (1e3, "ms"))
LAST_LEVEL, GUESS = Path("/sys/devices/system/cpu/cpu0/cache/index3/size"), 32 << 20


@dataclass(frozen=True)
class Setting:
    """One push: its dimension and its place there, and what the run and the push are made of."""

    dimension: str
    at: int
    steps: int
    directions: int
    examples: int
    width: int = 16
    layers: int = 1
    length: int = LENGTH
    order: int = 3
    lanes: int = field(default_factory=partial(lane_width, False))

    def make_run(self) -> cs.Training:
        """Return the run, which reads the first examples over and over, or only some of many."""
        documents = make_documents(self.examples, self.length)
        alphabet = microgpt.ALPHABET
        return microgpt.training(
            documents, seed=42, alphabet=alphabet, width=self.width, layers=self.layers, steps=self.steps
        )


def list_settings(full: bool) -> list[Setting]:
    """List the pushes of all dimensions."""
    steps, count = (96, 32) if full else (24, 16)
    base = {"steps": steps, "directions": count, "examples": steps}
    lanes = [n for n in (2, 4, 8) if n <= lane_width(False)]
    choices = {
        "steps": [steps, 2 * steps, 4 * steps],
        "examples": [steps // 4, steps, 16 * steps],
        "directions": [count, 2 * count, 4 * count],
        "width": [16, 32, 64, 128] if full else [16, 32, 64],
        "layers": [1, 2, 4],
        "length": [4, 7, 11, 16],
        "order": [1, 2, 3, 4, 6, 8] if full else [1, 2, 3, 4],
        "lanes": lanes,
    }
    settings = []
    for dimension, values in choices.items():
        for value in values:
            settings.append(Setting(dimension, value, **{**base, dimension: value}))
    return settings


def make_push(setting: Setting, run: cs.Training) -> Callable[[], Any]:
    """Return the push, on one thread."""
    given = directions(setting.directions, run.n)
    block_of = lambda start, stop: given[start:stop]  # noqa: E731
    return partial(push_blocks, run, block_of, setting.directions, setting.order, width=setting.lanes, threads=1)


def count_block(executable: Executable, program: int) -> tuple[int, int]:
    """Count the bytes of elementwise instructions and copies in one lane block of a step, and its instructions."""
    row = ProgramRow(*executable.programs[program].tolist())
    instructions = [
        *executable.instructions[row.lane_first : row.lane_last],
        *executable.instructions[row.carried_constant_last : row.carried_lane_last],
    ]
    updates = [i for i in instructions if isinstance(i.kernel, UpdateKernel)]
    others = [i for i in instructions if not isinstance(i.kernel, ContractKernel | UpdateKernel)]
    elements = sum(map(count_elements, others)) + sum(map(count_updated, updates))
    return 8 * executable.unit * elements, len(instructions)


def count_terms(setting: Setting, run: cs.Training) -> list[float]:
    """Count the terms of the model."""
    mode = Mode(setting.order)
    executable = run.executable(mode, np.complex128, setting.lanes, "cpu", setting.directions)
    blocks = -(-setting.directions // setting.lanes)
    each = [count_block(executable, p) for p in range(len(executable.programs))]
    times = np.bincount(run.schedule.program, minlength=len(each))
    nbytes, instructions = (float(blocks * (times @ np.array(column))) for column in zip(*each, strict=True))
    together = executable.choose_blocks_per_run(blocks, run.n, 1)
    lanes = executable.lane_end * executable.unit * 8 * min(together, blocks)
    share = min(max(2.0 * lanes / read_last_level_size() - 1.0, 0.0), 1.0)
    state = 2 * executable.lane_state_cells * executable.unit * 8 * run.steps * blocks
    primal = -(-blocks // together) * run.size
    return [float(blocks * run_cost(run, mode)), nbytes, share * state, instructions, float(primal), 1.0]


def read_last_level_size() -> int:
    """Return the bytes of the last-level cache, as Linux reports it, else a guess."""
    try:
        return int(LAST_LEVEL.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return GUESS


def fit_terms(terms: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return the coefficient of each term, none negative, with the least squares of relative errors."""
    scale = terms.max(axis=0)
    scale[scale == 0.0] = 1.0
    fitted, _ = nnls(terms / scale / seconds[:, None], np.ones(len(seconds)))
    return np.asarray(fitted / scale)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--avx2", action="store_true", help="generate code for AVX2 on a processor with AVX-512")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.avx2:
        hide_avx512()
    report = Report(
        "cost_law_avx2" if options.avx2 else "cost_law", options, {"repeats": options.repeats, "threads": 1}
    )
    settings = list_settings(options.full)
    runs = [setting.make_run() for setting in settings]
    with one_core():
        sides = {f"{i}": make_push(s, run) for i, (s, run) in enumerate(zip(settings, runs, strict=True))}
        timings = interleaved(sides, options.repeats)
    seconds = np.array([middle(timings[f"{i}"]) for i in range(len(settings))])
    terms = np.array([count_terms(s, run) for s, run in zip(settings, runs, strict=True)])
    sizes = np.array([float(run.size * s.directions) for s, run in zip(settings, runs, strict=True)])
    fitted = fit_terms(terms, seconds)
    model = terms @ fitted
    report.numbers |= {"seconds": seconds.tolist(), "terms": terms.tolist(), "model": model.tolist()}
    for name, value, (unit, label) in zip(TERMS, fitted, UNITS, strict=True):
        report.add(Row(f"{label} per {name}", f"per_{name.replace(' ', '_')}", value * unit, "{:.3g}"))
    rate = peak(False) / lane_width(False)
    report.add(Row("ps per multiply-add of vectors at the peak", "peak_ps", 1e12 / rate, "{:.3g}"))
    lines = []
    for dimension in dict.fromkeys(s.dimension for s in settings):
        mine = [i for i, s in enumerate(settings) if s.dimension == dimension]
        spread = model[mine].max() / model[mine].min()
        steep = slope(model[mine].tolist(), seconds[mine].tolist()) if spread > 1.2 else float("nan")
        report.numbers[f"slope_{dimension}"] = steep
        bare = sizes[mine].max() / sizes[mine].min() > 1.2
        beside = f"{slope(sizes[mine].tolist(), seconds[mine].tolist()):.2f}" if bare else "-"
        points = ", ".join(f"{settings[i].at}: {seconds[i]:.3g} ({model[i]:.3g})" for i in mine)
        met = "-" if np.isnan(steep) else "yes" if LAW.met(steep) else "no"
        lines.append([dimension, points, "-" if np.isnan(steep) else f"{steep:.2f}", met, beside])
    errors = np.abs(seconds / model - 1.0)
    report.add(Row("slope of all", "slope_all", slope(model.tolist(), seconds.tolist()), "{:.2f}", LAW))
    report.add(Row("largest error of the model", "largest_error", float(errors.max()), "{:.2f}"))
    header = ["dimension", "CPU seconds measured (and of the model)", "slope", "met", "against size(A) x directions"]
    report.add_table(table(lines, header))
    return report.finish()


if __name__ == "__main__":
    main()
