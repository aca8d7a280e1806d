"""Benchmark how cost grows with the run, and how far workers share it; on paper, up to 1,000 cores.

    python bench/scale.py                       small, a minute or two
    python bench/scale.py --full --write        work over a second everywhere, several minutes

A perceptron is scaled in examples n, parameters p and steps T, one at a time; what is timed is a training, a reverse
sweep (first order), retraining with subsets as lanes, and pushing directions, in CPU seconds of one thread. Slopes are
fitted in logarithms. Nothing should grow with n alone; everything should grow in proportion to p and T. Worker
processes share the blocks of a push; their efficiency is that of wall time, so it takes as many idle cores. The model
to 1,000 cores: every core makes blocks at its own rate, and one writer digests and stores them, or, where workers write
blocks into the folder themselves, takes them in; these rates are measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from report import Report, Row, add_options, table
from size_law import slope
from timing import interleaved, middle, timed
from workloads import directions, training

import circuitsketch as cs
from circuitsketch.store.header import Header
from circuitsketch.store.part_store import PartStore

CLASSES, FEATURES, BATCH = 10, 32, 32
FAMILIES = ("n", "p", "T")
GROWN = {"n": (500, 1000, 2000, 4000), "p": (16, 32, 64, 128), "T": (50, 100, 200, 400)}  # p by the width of layers
BASE = {"n": 500, "p": 32, "T": 50}
CORES = (1, 10, 100, 1000)


def run_of(n: int, width: int, steps: int) -> cs.Training:
    """Return the training of a perceptron with two hidden layers, whose minibatches are drawn from n examples."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, FEATURES)), rng.integers(0, CLASSES, n)

    def step(state: Any, batch: Any, keep: Any) -> Any:
        grads = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(state["params"])
        return cs.optim.momentum(state, grads, learning_rate=0.01)

    sizes = [FEATURES, width, width, CLASSES]
    first = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in zip(sizes, sizes[1:], strict=False)]
    ids = rng.integers(0, n, (steps, BATCH))
    return cs.Training(step, cs.optim.momentum_state(first), [(x[i], y[i]) for i in ids], ids, n=n)


def loss(params: Any, x: Any, y: Any) -> Any:
    """Return the loss of each example."""
    for weights in params[:-1]:
        x = np.tanh(x @ weights)
    return cs.cross_entropy(x @ params[-1], y)


def measure(params: Any) -> Any:
    """Return the mean loss of a few test examples."""
    x = np.sin(np.arange(8.0 * FEATURES)).reshape(8, FEATURES)
    return loss(params, x, np.arange(8) % CLASSES).mean()


def size_of(run: cs.Training, family: str) -> float:
    """Return what a family of runs grows in."""
    params = sum(leaf.size for leaf in run.state["params"])
    return float({"n": run.n, "p": params, "T": run.steps}[family])


def actions(run: cs.Training, count: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed of a run, by name."""
    rows = 1.0 * (np.random.default_rng(1).random((count, run.n)) < 0.05)
    given = directions(count, run.n)
    return {
        "training": run.train,
        "reverse sweep": partial(cs.metagradient, run, measure, threads=1),
        "retraining": partial(run.retrain, rows, threads=1),
        "pushing": partial(cs.push, run, given, 2, threads=1),
    }


def add_slopes(report: Report, grown: dict[str, tuple[int, ...]], base: dict[str, int], count: int, full: bool) -> None:
    """Add the slope of every action against n, p and T."""
    repeats = 3 if full else 1
    lines, points = [], []
    for family in FAMILIES:
        runs = [run_of(*(base | {family: value}).values()) for value in grown[family]]
        sides = {f"{i} {name}": act for i, run in enumerate(runs) for name, act in actions(run, count).items()}
        timings = interleaved(sides, repeats)
        for name in actions(runs[0], 1):
            seconds = [middle(timings[f"{i} {name}"]) for i in range(len(runs))]
            sizes = [size_of(run, family) for run in runs]
            value = slope(sizes, seconds)
            report.numbers[f"slope_{name.replace(' ', '_')}_{family}"] = value
            points.append({"family": family, "what": name, "at": sizes, "seconds": seconds})
            scale = ", ".join(f"{size:,.0f}: {s:.3g}" for size, s in zip(sizes, seconds, strict=True))
            lines.append([name, family, f"{value:.2f}", "0" if family == "n" else "1", scale])
    report.numbers["points"] = points
    report.add_table(table(lines, ["what", "against", "slope", "ideal", "CPU seconds"]))


def add_efficiency(report: Report, workload: str, steps: int, count: int, workers: list[int]) -> None:
    """Add the efficiency of some worker processes that share the blocks of a push."""
    run = training(workload, steps)
    given = directions(count, run.n)
    seconds = {}
    for w in workers:
        with cs.executor(f"processes:{w}") as executor:
            push = partial(cs.push, run, given, 3, executor=executor)
            push()  # starts the workers, sends them the run, and compiles
            seconds[w] = min(timed(push).wall for _ in range(2))
        what = f"efficiency of {w} worker{'s' * (w > 1)}: {workload}, {steps} steps, {count} directions, order 3"
        value = seconds[workers[0]] * workers[0] / (w * seconds[w])
        report.add(Row(what, f"efficiency_{w}", value, "{:.2f}", note=f"{seconds[w]:.2f} s"))


def add_precision(report: Report, workload: str, steps: int, count: int) -> None:
    """Add what single precision costs and saves: the error of each order, the time, the bytes."""
    run = training(workload, steps)
    given = directions(count, run.n)
    double = cs.push(run, given, 3)
    single = cs.push(run, given, 3, dtype=np.complex64)

    def flat(sketch: cs.Sketch) -> np.ndarray:
        leaves = sketch.coefficients(lambda p: p)
        leaves = leaves.values() if isinstance(leaves, dict) else leaves
        return np.concatenate([leaf.reshape(count, 4, -1) for leaf in leaves], axis=2)

    right, rounded = flat(double), flat(single)
    for k in (1, 2, 3):
        errors = np.linalg.norm(rounded[:, k] - right[:, k], axis=1) / np.linalg.norm(right[:, k], axis=1)
        what = f"relative error of the parameters' coefficient {k} in complex64, the worst of {count} directions"
        report.add(Row(f"{what}: {workload}, {steps} steps", f"single_error_{workload}_{k}", float(errors.max())))
    report.add(Row("bytes, complex64 over complex128", "single_bytes", single.nbytes / double.nbytes, "{:.2f}"))


def add_model(report: Report, workload: str, steps: int, count: int) -> None:
    """Add how fast a core makes bytes and a writer stores them, and the efficiency on paper to 1,000 cores."""
    run = training(workload, steps)
    made = {}  # blocks per second of a core, by what is kept, and their bytes
    with tempfile.TemporaryDirectory() as folder:
        for keep in ("params", "state"):
            pushed = timed(partial(cs.sketch, run, count, 3, distribution="sphere", threads=1, keep=keep))
            sketch = cs.sketch(run, count, 3, distribution="sphere", threads=1, keep=keep, path=f"{folder}/{keep}")
            header = sketch.lanes.header
            made[keep] = header.blocks / pushed.cpu, header.block_bytes
            rate = made[keep][0] * header.block_bytes / 1e6
            report.add(Row(f"MB/s from a core, {keep}", f"rate_{keep}", rate, "{:.2f}"))
        blocks = [sketch.lanes.read(b) for b in range(header.blocks)]
        stored = [write(f"{folder}/stored{i}", header, blocks, share=False) for i in range(3)]
        taken = [write(f"{folder}/taken{i}", header, blocks, share=True) for i in range(3)]
    writer, adopter = header.blocks * header.block_bytes / min(stored), header.blocks / min(taken)
    report.add(Row("MB/s that one writer digests and stores, the best of 3", "rate_writer", writer / 1e6, "{:.0f}"))
    report.add(Row("blocks per second that it takes in, the best of 3", "rate_adopter", adopter, "{:.0f}"))
    lines = []
    for keep, (rate, nbytes) in made.items():
        for who, most in (("one", writer / nbytes), ("workers", adopter)):
            shares = [min(1.0, most / (cores * rate)) for cores in CORES]
            report.numbers[f"on_paper_{keep}_{who}"] = dict(zip(map(str, CORES), shares, strict=True))
            lines.append([keep, who, f"{most / rate:,.0f}", *(f"{share:.2f}" for share in shares)])
    header_row = ["kept", "written by", "cores that one writer serves", *(f"{cores:,} cores" for cores in CORES)]
    report.add_table(table(lines, header_row))


def write(path: str, header: Header, blocks: list[np.ndarray], share: bool) -> float:
    """Write all blocks of a part to a new store; return the seconds that its one writer took.

    share : whether workers have written the blocks, of which the writer takes the files in.
    """
    with PartStore.create(path, header) as store, store.share() as folder:
        files = [folder(number, block) for number, block in enumerate(blocks)] if share else blocks
        return timed(lambda: [store.take(number, file) for number, file in enumerate(files)]).wall


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, help="steps of microgpt; default 100, full 1000")
    parser.add_argument("--directions", type=int, help="default 32, full 128")
    parser.add_argument("--points", type=int, default=4, help="runs of each family, from 2 to 4")
    add_options(parser)
    options = parser.parse_args(arguments)
    steps = options.steps or (1000 if options.full else 100)
    count = options.directions or (128 if options.full else 32)
    report = Report("scale", options, {"steps": steps, "directions": count, "workers": options.workers})
    factor = 8 if options.full else 1
    base = BASE | {"T": BASE["T"] * factor}
    grown = {family: GROWN[family][: options.points] for family in FAMILIES}
    grown["T"] = tuple(value * factor for value in grown["T"])
    add_slopes(report, grown, base, min(count, 16), options.full)
    add_efficiency(report, "microgpt", steps, count, options.workers)
    for workload in ("microgpt", "mlp"):
        add_precision(report, workload, steps, min(count, 16))
    add_model(report, "microgpt", steps, min(count, 32))
    return report.finish()


if __name__ == "__main__":
    main()
