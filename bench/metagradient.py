"""Reverse sweeps: what a metagradient costs in plain trainings, beside JAX, and the memory that it takes.

    python bench/metagradient.py                  JAX on 100 names
    python bench/metagradient.py --full --write   JAX on 1,000 names; updates the table in bench/README.md

microgpt on 1,000 real names in order. A metagradient is timed as a user calls it, including the run itself, the tracing
of the measurement and all sweeps, but not compilation. All times are CPU time of one thread, sides in turns. JAX takes
the gradient of one jitted scan over the steps, once as it is and once with `jax.checkpoint` around the step; the faster
one counts. It runs on names of six letters, since it compiles for half a minute per length. Both sides must agree to
1e-9 of the largest entry.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from compare_jax import SMALL_LETTERS, check_agreement, have_jax, one_core, run_of
from report import Goal, Report, Row, add_options
from timing import interleaved, middle, ratio
from workloads import directions

import circuitsketch as cs
from circuitsketch.reverse.sweeps import plan_job
from circuitsketch.zoo import microgpt

WORDS = "max anna olivia noah emma liam ava mia zoe eli ian kai leo ivy amy ben".split()
LANES = 8  # directions that are pushed and differentiated together


def losses(count: int) -> Callable[[Any], Any]:
    """The loss on so many words, an array; on one, a number."""
    if count == 1:
        return lambda p: microgpt.loss(p, WORDS[0])
    return lambda p: np.stack([microgpt.loss(p, word) for word in WORDS[:count]])


def cost_rows(report: Report, run: cs.Training, repeats: int) -> None:
    """Values, and Hessian rows, in plain trainings and in pushes."""
    rows = directions(LANES, run.n, real=True)
    sides: dict[str, Callable[[], Any]] = {"train": run.train, "push": partial(cs.push, run, rows, 1, threads=1)}
    for count in (1, 4, 16):
        sides[f"values {count}"] = partial(cs.metagradient, run, losses(count), threads=1)
    sides["checkpoints"] = partial(cs.metagradient, run, losses(1), threads=1, checkpoints=round(run.steps**0.5))
    for count in (1, 4):
        sides[f"hessian {count}"] = partial(cs.metagradient, run, losses(count), directions=rows, threads=1)
    found = interleaved(sides, repeats)
    report.numbers["plain_training_ms"] = 1e3 * middle(found["train"])
    note = f"a training takes {1e3 * middle(found['train']):.1f} ms"
    for count, bound in ((1, 5.0), (4, 9.0), (16, 24.0)):
        what = f"{count} value{'s' * (count > 1)}, the run included: plain trainings"
        value = ratio(found[f"values {count}"], found["train"])
        report.add(Row(what, f"trainings_values_{count}", value, "{:.2f}", Goal("<=", bound), note))
        note = ""
    value = ratio(found["checkpoints"], found["train"])
    what = "1 value, states kept at sqrt(T) checkpoints: plain trainings"
    report.add(Row(what, "trainings_checkpoints", value, "{:.2f}"))
    for count in (1, 4):
        value = ratio(found[f"hessian {count}"], found["push"]) / count
        what = f"Hessian rows, {LANES} directions and {count} value{'s' * (count > 1)}: pushes of order 1 per value"
        report.add(Row(what, f"pushes_hessian_{count}", value, "{:.2f}", Goal("<=", 5.0)))


def memory_rows(report: Report, run: cs.Training) -> None:
    """The peak of what is allocated, over what was planned for states and records."""
    for name, checkpoints in (("all states", run.steps), ("sqrt(T) checkpoints", round(run.steps**0.5))):
        planned = plan_job(run, np.zeros(run.n), checkpoints, 1, None, None, 0, np.complex128).nbytes
        tracemalloc.start()
        cs.metagradient(run, losses(1), threads=1, checkpoints=checkpoints)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        key = f"peak_over_planned_{'all' if checkpoints == run.steps else 'checkpoints'}"
        note = f"{peak / 1e6:.1f} MB, of which {planned / 1e6:.1f} MB planned"
        goal = Goal("<=", 1.1) if checkpoints == run.steps else None
        report.add(Row(f"memory, {name}: peak over planned", key, peak / planned, "{:.2f}", goal, note))


def jax_rows(report: Report, run: cs.Training, repeats: int) -> None:
    """A metagradient and a Hessian row against JAX."""
    from jax_microgpt import JaxRun

    jax_run = JaxRun(run)
    word = microgpt.encode(WORDS[0], microgpt.ALPHABET, run.state["params"]["wpe"].shape[0])
    rows = directions(LANES, run.n, real=True)
    of = np.array([ids[0] for ids in run.examples])
    ours: dict[str, Callable[[], Any]] = {
        "metagradient": lambda: cs.metagradient(run, losses(1), threads=1)[of],
        "hessian": lambda: cs.metagradient(run, losses(1), directions=rows, threads=1)[:, 1, of],
    }
    for name, what in (("metagradient", "1 value"), ("hessian", f"Hessian rows, {LANES} directions and 1 value")):
        others: dict[str, Callable[[], Any]] = {}
        for recompute in (False, True):
            form = "checkpoint" if recompute else "scan"
            if name == "metagradient":
                others[form] = jax_run.metagradient(word, recompute)
            else:
                others[form] = jax_run.hessian_rows(word, rows[:, of], recompute)
        for form, other in others.items():
            results = [np.reshape(side(), (-1, 1, run.steps)) for side in (ours[name], other)]
            check_agreement(report, f"{name}_{form}", *results)
        found = interleaved({"ours": ours[name], **others}, repeats)
        best = min(others, key=lambda form: middle(found[form]))
        note = f"{1e3 * middle(found['ours']):.3g} against {1e3 * middle(found[best]):.3g} ms, {best}"
        value = ratio(found[best], found["ours"])
        report.add(Row(f"{what}: JAX's time over ours", f"{name}_times_faster", value, "{:.2f}", Goal(">=", 3.0), note))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the options say; returns the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--jax-steps", type=int, help="of names of six letters; default: 100; full: 1000; 0: no JAX")
    parser.add_argument("--repeats", type=int, default=5)
    add_options(parser)
    options = parser.parse_args(arguments)
    jax_steps = (1000 if options.full else 100) if options.jax_steps is None else options.jax_steps
    report = Report(
        "metagradient", options, {"steps": options.steps, "jax steps": jax_steps, "repeats": options.repeats}
    )
    jax = jax_steps > 0 and have_jax()
    with one_core():
        run = run_of(options.steps)
        cost_rows(report, run, options.repeats)
        memory_rows(report, run)
        if jax:
            jax_rows(report, run_of(jax_steps, SMALL_LETTERS), options.repeats)
        else:
            report.say("  JAX: skipped")
    return report.finish()


if __name__ == "__main__":
    main()
