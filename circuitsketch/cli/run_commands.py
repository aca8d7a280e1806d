"""Commands that start from a run: demo, sketch, plan, trace, profile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from circuitsketch.cli.options import (
    Device,
    DeviceName,
    Distribution,
    Dtype,
    ExecutorName,
    Json,
    Keep,
    Precision,
    Seed,
    Staging,
    Sum,
    Target,
    TargetOrNone,
    Threads,
)
from circuitsketch.cli.output import Output, print_status, progress_bars, report_kept, show_status
from circuitsketch.cli.workers import open_executor
from circuitsketch.errors import InputError

if TYPE_CHECKING:
    from circuitsketch.training.training import Training


def demo(
    budget: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Cost limit of the predictions, in trainings of the model; a larger budget gives smaller errors.",
        ),
    ] = 500,
    steps: Annotated[int, typer.Option(metavar="N", help="Train on this many names, one per step.")] = 1000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the initial parameters and of the groups used for calibration.")
    ] = 0,
    json_to: Json = None,
) -> None:
    """Train a small GPT on names, predict the effect of deletions within a budget, and retrain to check."""
    output = Output(json_to)
    with show_status("tracing the training"):
        from circuitsketch.report import Settings, prepare, run_experiment
        from circuitsketch.report.tables import format_demo

        try:
            settings = Settings(budget=budget, steps=steps, seed=seed)
            experiment = prepare(settings)
        except InputError as reason:
            raise typer.BadParameter(str(reason)) from None
    print_status(f"A microgpt trained on {steps:,} names: size(A) = {experiment.run.size:,} scalar gates.")
    with progress_bars() as progress:
        result = run_experiment(experiment, progress)
    output.write(result.as_dict(), *format_demo(result))


def sketch(
    target: Target,
    directions: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Number of random directions; more give smaller errors. 0 requires --per-example."
        ),
    ] = 512,
    order: Annotated[int, typer.Option(metavar="N", min=1, help="Highest order of the Taylor series.")] = 3,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Folder to write; default: TARGET.sketch in the working folder."),
    ] = None,
    distribution: Annotated[
        Distribution,
        typer.Option(
            metavar="NAME", help="Distribution of the directions: orthonormal, sphere (the theorem's), or gaussian."
        ),
    ] = Distribution.orthonormal,
    per_example: Annotated[
        bool,
        typer.Option(
            "--per-example", help="Also compute a Taylor series for each single example, which has no sampling error."
        ),
    ] = False,
    per_example_order: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Order of the per-example series; default: --order.")
    ] = None,
    by_label: Annotated[
        bool,
        typer.Option("--by-label", help="Use one weight per label, so that queries delete labels instead of examples."),
    ] = False,
    keep: Keep = None,
    dtype: Dtype = Precision.complex128,
    threads: Threads = None,
    device: DeviceName = Device.cpu,
    executor: ExecutorName = None,
    staging: Staging = None,
    json_to: Json = None,
) -> None:
    """Compute the sketch of a training run and write it to a folder; resumes if interrupted.

    Run the same command again to resume. A larger --directions extends an existing sketch.
    """
    output = Output(json_to)
    if per_example_order is not None and not per_example:
        raise typer.BadParameter("--per-example-order requires --per-example")
    if directions == 0 and not per_example:
        raise typer.BadParameter("--directions 0 requires --per-example")
    if staging is not None and executor is None:
        raise typer.BadParameter("--staging requires --executor")
    where = out if out is not None else Path(f"{Path(target.split(':')[0]).stem}.sketch")
    from circuitsketch.backends.registry import get_backend

    get_backend(device.value).check_available()  # before tracing, which takes long
    run = trace_run(target)
    if by_label and run.labels is None:
        raise InputError(f"--by-label: the examples of {target} have no labels; pass labels= to its cs.Training(...)")
    print_status(f"{target}: {run.steps:,} steps on {run.n:,} examples, size(A) = {run.size:,} scalar gates.")
    import circuitsketch as cs
    from circuitsketch.report.json_values import describe_sketch

    def resume_hint() -> str:
        done = count_blocks(where)
        if not done:
            return f"no block was finished, so nothing is saved in {where} yet"
        return f"{done} block{'s' * (done > 1)} of directions saved in {where}; run the same command to resume"

    begin = time.perf_counter()
    with report_kept(resume_hint):
        with open_executor(executor) as workers, progress_bars() as report_progress:
            report_progress("sketch", 0, 0)

            def progress(done: float, blocks: int) -> None:
                report_progress("sketch", done, blocks)

            stored = cs.sketch(
                run,
                directions=directions,
                order=order,
                seed=seed,
                distribution=distribution.value,
                per_example="series" if per_example else None,
                per_example_order=per_example_order,
                groups=run.labels if by_label else None,
                keep=keep,
                dtype=dtype.value,
                threads=threads,
                device=device.value,
                progress=progress,
                path=where,
                executor=workers,
                staging=staging,
            )
        spent = time.perf_counter() - begin
        output.write(
            describe_sketch(stored) | {"seconds": round(spent, 3)},
            stored.info(),
            f"  took       {spent:,.1f} s\nnext: circuitsketch predict {where} --measure ... --without ...",
        )


def plan(
    target: TargetOrNone = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest permitted error, as a multiple of alpha; requires --delta.",
        ),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(metavar="P", help="Permitted probability of a larger error.", show_default=False)
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="X", help="Value of the stability function at 4 |h|.", show_default=False)
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Folder of a small sketch of the same run, from which alpha is measured; requires --measure.",
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(metavar="FUNCTION", help="The measurement for which --pilot measures alpha.", show_default=False),
    ] = None,
    deleted: Annotated[
        float | None,
        typer.Option(metavar="N", help="Number of examples deleted at once; default: 1.", show_default=False),
    ] = None,
    directions: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Directions of the sketch; default: 512.", show_default=False),
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Order of the sketch; default: 3.", show_default=False),
    ] = None,
    distribution: Annotated[
        Distribution | None,
        typer.Option(metavar="NAME", help="Distribution of the directions of the sketch.", show_default=False),
    ] = None,
    per_example: Annotated[bool, typer.Option("--per-example", help="Include per-example series.")] = False,
    per_example_order: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Order of the per-example series; default: --order.")
    ] = None,
    by_label: Annotated[bool, typer.Option("--by-label", help="One weight per label.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(metavar="S", help="Core seconds per gate per direction; default: measured."),
    ] = None,
    keep: Keep = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Also show how much of the sketch in this folder is computed already.",
            show_default=False,
        ),
    ] = None,
    dtype: Dtype = Precision.complex128,
    threads: Threads = None,
    json_to: Json = None,
) -> None:
    """Estimate the seconds and bytes that a sketch takes, or the size of a sketch for a guaranteed error.

    With --epsilon and --delta, plans the number of directions that the theorem requires; otherwise estimates the cost
    of --directions and --order. Writes no files; the speed is measured by briefly propagating a few directions.
    """
    output = Output(json_to)
    if per_example_order is not None and not per_example:
        raise typer.BadParameter("--per-example-order requires --per-example")
    if (pilot is None) != (measure is None):
        raise typer.BadParameter(
            "--pilot and --measure require each other; give both --pilot STORE and --measure FUNCTION"
        )
    if target is None and epsilon is None:
        raise typer.BadParameter("give a run (TARGET), or an error (--epsilon X --delta P)")
    run = None if target is None else trace_run(target)
    if by_label and (run is None or run.labels is None):
        raise InputError(f"--by-label: the examples of {target} have no labels; pass labels= to its cs.Training(...)")
    import circuitsketch as cs

    query = None
    if pilot is not None and measure is not None:
        from circuitsketch.cli.query_commands import measure_stored

        with show_status("measuring the pilot"):
            query = measure_stored(pilot, measure, target, Device.cpu)[1]
    with show_status("planning"):
        estimate = cs.plan(
            epsilon,
            delta,
            alpha,
            query=query,
            deleted=deleted,
            run=run,
            directions=directions,
            order=order,
            distribution=None if distribution is None else distribution.value,
            per_example="series" if per_example else None,
            per_example_order=per_example_order,
            groups=run.labels if by_label and run is not None else None,
            seconds_per_gate=rate,
            keep=keep,
            dtype=dtype.value,
            threads=threads,
            path=out,
        )
    output.write({"target": target} | estimate.to_dict(), str(estimate))


def trace(
    target: Target,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Step to show; default: one with the most frequent circuit."),
    ] = None,
    dot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the graph for Graphviz.")] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the graph as SVG; requires Graphviz (dot).")
    ] = None,
    json_to: Json = None,
) -> None:
    """Print the circuit of a training step gate by gate, with its size, depth and source lines.

    TARGET may also be a function that returns a cs.Circuit.
    """
    output = Output(json_to)
    with show_status("tracing"):
        from circuitsketch.cli.parsing import load_circuit_or_run
        from circuitsketch.report.graphviz import describe_circuit_nodes, format_dot, render_svg, write_text
        from circuitsketch.report.tables import format_circuits
        from circuitsketch.training.training import Training

        traced = load_circuit_or_run(target)
    plain: dict[str, object] = {"target": target}
    shown: list[RenderableType] = []
    if isinstance(traced, Training):
        programs = traced.schedule.program
        if step is not None and step >= traced.steps:
            raise typer.BadParameter(f"--step {step}: the run has steps 0 to {traced.steps - 1}")
        counts = [int((programs == i).sum()) for i in range(len(traced.circuits))]
        chosen = int(programs[step]) if step is not None else counts.index(max(counts))
        circuit = traced.circuits[chosen]
        plain |= {"steps": traced.steps, "examples": traced.n, "size": traced.size, "shown": chosen}
        plain["circuits"] = [
            {"steps": count, "nodes": len(one.nodes), "size": one.size, "depth": one.depth}
            for one, count in zip(traced.circuits, counts, strict=True)
        ]
        shown.extend(format_circuits(traced, counts, chosen))
    else:
        if step is not None:
            raise typer.BadParameter(f"--step {step}: {target} is one circuit, not a run of steps")
        circuit = traced
        plain["size"] = circuit.size
    if dot is not None:
        write_text(dot, format_dot(circuit))
        print_status(f"wrote the graph to {dot}")
    if svg is not None:
        with show_status("drawing the graph"):
            picture = render_svg(format_dot(circuit))
        write_text(svg, picture)
        print_status(f"wrote the picture to {svg}")
    output.write(plain | {"circuit": describe_circuit_nodes(circuit)}, *shown, str(circuit))


def profile(
    target: Target,
    order: Annotated[int, typer.Option(metavar="N", min=0, help="Order of the series; 0 is plain training.")] = 3,
    by: Annotated[Sum, typer.Option(metavar="NAME", help="Group costs by gate, line, or both.")] = Sum.both,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of rows, the most expensive first.")] = 20,
    dtype: Dtype = Precision.complex128,
    json_to: Json = None,
) -> None:
    """Profile a run: core seconds per block of directions, by gate and source line."""
    output = Output(json_to)
    run = trace_run(target)
    from circuitsketch.report.profile import profile_run
    from circuitsketch.report.tables import format_profile

    with progress_bars() as progress:
        run_profile = profile_run(run, order, dtype.value, progress)
    output.write({"target": target} | run_profile.as_dict(by.value), *format_profile(run_profile, by.value, top))


def count_blocks(path: Path) -> int:
    """Return how many blocks of a sketch are on the disk."""
    from circuitsketch.store.metadata import FOLDERS
    from circuitsketch.store.part_store import PartStore

    stores = [str(path / folder) for folder in FOLDERS.values()]
    return sum(len(PartStore.open(store).done) for store in stores if PartStore.exists(store))


def trace_run(target: str) -> Training:
    """Load the run of a TARGET."""
    with show_status(f"tracing {target}"):
        from circuitsketch.cli.parsing import load_run

        return load_run(target)


EXAMPLES = {
    demo: "Example:\n\n  circuitsketch demo --steps 200 --budget 200",
    sketch: (
        "Examples:\n\n  circuitsketch sketch microgpt:200 --directions 256 --out names.sketch\n\n"
        "  circuitsketch sketch my_run.py:make --per-example --order 2 --out mine.sketch\n\n"
        "where my_run.py has a function make() that returns a cs.Training."
    ),
    plan: (
        "Examples:\n\n  circuitsketch plan my_run.py:make --directions 512 --order 3 --per-example\n\n"
        "  circuitsketch plan logistic --epsilon 0.2 --delta 0.05 --pilot pilot.sketch --measure held_out_loss"
    ),
    trace: (
        "Examples:\n\n  circuitsketch trace logistic\n\n  circuitsketch trace microgpt:200 --step 7 --svg step.svg"
    ),
    profile: "Example:\n\n  circuitsketch profile microgpt:200 --order 3 --by line",
}
