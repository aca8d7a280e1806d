"""Compare the package with JAX: the same training, directions and core, after a check that both sides agree.

    python bench/compare_jax.py [--sides plain,retrain,polynomial,jet] [--directions 64] [--full] [--write]

microgpt on real names in order, without padding, in double precision. All comparisons are in CPU time on one core (the
process is bound to it, and XLA is restricted to one thread), with both sides in turns:
  plain       run.train() against jitted JAX, either with a jitted step per name length or as one jitted scan that
  switches
              between the lengths; the faster one counts.
  retrain     subsets as lanes, run.retrain(subsets), against the same two forms under jax.vmap. polynomial  cs.push
  against truncated polynomials written by hand in JAX (jax_polynomial.py). jet         cs.push against
  jax.experimental.jet through the step, including its gradient, vmapped over directions. jet
              requires primals of the dtype of the series, so everything is complex there, with an added error function.
              The alternative, four real directions per complex one, was slower.
Both sides must agree to 1e-9 of the largest coefficient of each order. Compilation is not timed. JAX compiles for up to
half a minute per name length, so the small setting uses only names of six letters, the most frequent length.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from report import Goal, Report, Row, add_options
from timing import interleaved, middle, ratio
from workloads import directions

import circuitsketch as cs
from circuitsketch.zoo import microgpt

SIDES = ("plain", "retrain", "polynomial", "jet")
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
TOLERANCE = 1e-9
SMALL_LETTERS = (6,)


def have_jax() -> bool:
    """Set XLA to one thread and JAX to double precision; return whether JAX is installed."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        import jax
    except ImportError:
        return False
    jax.config.update("jax_enable_x64", True)
    return True


def run_of(steps: int, letters: tuple[int, ...] = ()) -> cs.Training:
    """Return a microgpt run on names in order, all or only those of some lengths."""
    names = [name for name in microgpt.names() if not letters or len(name) in letters]
    return microgpt.training(names[:steps], seed=42, alphabet=microgpt.ALPHABET)


@contextmanager
def one_core() -> Iterator[None]:
    """Bind the process to one of its cores, if the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference, relative to the largest element of its order (axis 1)."""
    axes = tuple(axis for axis in range(ours.ndim) if axis != 1)
    scale = np.abs(ours).max(axis=axes, keepdims=True)
    return float((np.abs(ours - theirs) / np.where(scale == 0.0, 1.0, scale)).max())


def check_agreement(report: Report, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Record the difference of two sides, and exit if they disagree."""
    worst = agreement(ours, theirs)
    report.numbers[f"{name}_difference"] = worst
    report.say(f"  {name}: both sides agree to {worst:.1e}")
    if not worst <= TOLERANCE:
        raise SystemExit(
            f"{name}: the sides differ by {worst:.1e} of the largest element, so they are not the same run"
        )


def compare(
    report: Report,
    name: str,
    ours: Callable[[], Any],
    others: dict[str, Callable[[], Any]],
    repeats: int,
    per: float,
    unit: str,
    goal: Goal,
) -> None:
    """Time our side and the others in turns, and compare with the fastest of the others."""
    timings = interleaved({"ours": ours, **others}, repeats)
    best = min(others, key=lambda other: middle(timings[other]))
    mine, theirs = middle(timings["ours"]) / per, middle(timings[best]) / per
    for other in others:
        report.numbers[f"{name}_jax_{other.replace(' ', '_')}_{unit}"] = middle(timings[other]) / per
    report.numbers[f"{name}_ours_{unit}"] = mine
    label = unit.replace("_", " ")
    note = f"{mine:.4g} against {theirs:.4g} {label}, {best}"
    what = {
        "plain": "plain training, JAX's time over ours",
        "retrain": "retraining subsets as lanes, vmapped JAX's time over ours",
        "polynomial": "directions, polynomials in JAX: its time over ours",
        "jet": "directions, jax.experimental.jet: its time over ours",
    }[name]
    report.add(Row(what, f"{name}_times_faster", ratio(timings[best], timings["ours"]), "{:.2f}", goal, note))


def plain(report: Report, run: cs.Training, repeats: int) -> None:
    """Compare run.train() with jitted JAX."""
    from jax_microgpt import JaxRun, flat

    jax_run = JaxRun(run)
    keeps = np.ones(run.steps)
    others = {"stepwise": jax_run.stepwise(keeps), "scanned": jax_run.scanned(keeps)}
    ours = flat(run.train()["params"])
    for other, train in others.items():
        check_agreement(report, f"plain_{other}", ours[None, None], np.asarray(train())[None, None])
    compare(report, "plain", run.train, others, repeats, run.steps * 1e-6, "us_per_step", Goal(">=", 1.0))


def retrain(report: Report, run: cs.Training, subsets: int, repeats: int) -> None:
    """Compare retraining of several subsets with vmapped JAX."""
    from jax_microgpt import JaxRun, flat

    jax_run = JaxRun(run)
    rng = np.random.default_rng(0)
    without = np.zeros((subsets, run.n))
    for row in without:
        row[rng.choice(run.n, max(run.n // 10, 1), replace=False)] = 1.0
    keeps = np.stack([1.0 - without[:, ids[0]] for ids in run.examples], axis=1)
    others = {"stepwise": jax_run.stepwise(keeps), "scanned": jax_run.scanned(keeps)}
    ours = flat(run.retrain(without=without, threads=1)["params"], lead=1)
    for other, train in others.items():
        check_agreement(report, f"retrain_{other}", ours[:, None], np.asarray(train())[:, None])
    per = run.steps * subsets * 1e-6
    mine = lambda: run.retrain(without=without, threads=1)  # noqa: E731
    compare(report, "retrain", mine, others, repeats, per, "us_per_subset_step", Goal(">=", 1.0))


def polynomial(report: Report, run: cs.Training, given: np.ndarray, order: int, block: int, repeats: int) -> None:
    """Compare cs.push with the polynomials in JAX, in blocks of directions that fit the cache."""
    import jax_polynomial
    from jax_microgpt import JaxRun, flat

    jax_run = JaxRun(run)
    push = jax_polynomial.push(jax_run, run.state["params"], given, order, block)
    ours = flat(cs.push(run, given, order, threads=1).state["params"], lead=2)
    check_agreement(report, "polynomial", ours, jax_polynomial.coefficients(push(), jax_run.names))
    per = run.steps * len(given) * 1e-3
    mine = lambda: cs.push(run, given, order, threads=1)  # noqa: E731
    compare(
        report,
        "polynomial",
        mine,
        {f"blocks of {block}": push},
        repeats,
        per,
        "ms_per_direction_step",
        Goal(">=", 10.0),
    )


def jet(report: Report, run: cs.Training, given: np.ndarray, order: int, block: int, repeats: int) -> None:
    """Compare cs.push with jax.experimental.jet, in blocks of directions."""
    from jax_microgpt import JaxRun, flat

    jax_run = JaxRun(run)
    # One function for all blocks, so that it is compiled once.
    push = jax_run.jet(given, order, block)
    ours = flat(cs.push(run, given, order, threads=1).state["params"], lead=2)
    parts = []
    for zero, terms in push():
        rows = np.stack([np.asarray(term) for term in terms], axis=1)
        parts.append(np.concatenate([np.broadcast_to(np.asarray(zero), rows[:, :1].shape), rows], axis=1))
    check_agreement(report, "jet", ours, np.concatenate(parts))
    per = run.steps * len(given) * 1e-3
    mine = lambda: cs.push(run, given, order, threads=1)  # noqa: E731
    compare(
        report,
        "jet",
        mine,
        {f"blocks of {block}": push},
        repeats,
        per,
        "ms_per_direction_step",
        Goal(">=", 10.0),
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the comparisons and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default=",".join(SIDES), help="the comparisons, separated by commas")
    parser.add_argument("--steps", type=int, help="steps to propagate directions through; default 60, full 200")
    parser.add_argument(
        "--plain-steps", type=int, help="steps of plain training and retraining; default 200, full 1000"
    )
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--block", type=int, default=8, help="directions per block in JAX (8 was the fastest)")
    parser.add_argument("--subsets", type=int, default=16)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    add_options(parser)
    options = parser.parse_args(arguments)
    sides = options.sides.split(",")
    if unknown := set(sides) - set(SIDES):
        parser.error(f"--sides has {min(unknown)!r}; choose from {', '.join(SIDES)}")
    steps = options.steps or (200 if options.full else 60)
    plain_steps = options.plain_steps or (1000 if options.full else 200)
    letters = () if options.full else SMALL_LETTERS
    settings = {
        "names": "all" if options.full else "of 6 letters",
        "steps": steps,
        "plain steps": plain_steps,
        "directions": options.directions,
        "subsets": options.subsets,
        "order": options.order,
        "repeats": options.repeats,
    }
    report = Report("compare_jax", options, settings)
    if not have_jax():
        report.say("  skipped: JAX is not installed; pip install jax")
        report.numbers["skipped"] = "JAX is not installed"
        return report.finish()
    import jax

    report.machine["jax"] = jax.__version__
    report.say(f"  JAX {jax.__version__}, one core, one thread")
    with one_core():
        short, plain_run = run_of(steps, letters), run_of(plain_steps, letters)
        given = directions(options.directions, short.n)
        if "plain" in sides:
            plain(report, plain_run, options.repeats)
        if "retrain" in sides:
            retrain(report, plain_run, options.subsets, options.repeats)
        if "polynomial" in sides:
            polynomial(report, short, given, options.order, options.block, options.repeats)
        if "jet" in sides:
            jet(report, short, given, options.order, options.block, options.repeats)
    return report.finish()


if __name__ == "__main__":
    main()
