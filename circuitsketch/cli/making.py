"""Commands that begin with a run: demo, sketch, plan, trace, profile, figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from circuitsketch.cli.options import (
    Device,
    DeviceName,
    Dtype,
    Json,
    Law,
    Precision,
    RunOf,
    Seed,
    Sum,
    Target,
    TargetOrNone,
    Threads,
)
from circuitsketch.cli.output import Answer, keeping, progress_bars, tell, working
from circuitsketch.errors import InputError

if TYPE_CHECKING:
    from circuitsketch.training.training import Training


def demo(
    directions: Annotated[
        int,
        typer.Option(metavar="N", help="Random directions, beside every name alone: more, and errors shrink."),
    ] = 128,
    order: Annotated[int, typer.Option(metavar="N", help="The highest Taylor coefficient.")] = 3,
    steps: Annotated[int, typer.Option(metavar="N", help="Train on this many names, one a step.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the initial parameters and of the directions.")] = 0,
    json_to: Json = None,
) -> None:
    """Sketch the training of a small GPT on real names, predict what deletions would do, retrain to check."""
    answer = Answer(json_to)
    with working("tracing the training"):
        from circuitsketch.report import Settings, prepare, study
        from circuitsketch.report.tables import of_demo

        try:
            settings = Settings(directions=directions, order=order, steps=steps, seed=seed)
            experiment = prepare(settings)
        except InputError as reason:
            raise typer.BadParameter(str(reason)) from None
    tell(f"A microgpt trained on {steps:,} names: size(A) = {experiment.run.size:,} scalar gates.")
    with progress_bars() as watch:
        found = study(experiment, watch)
    answer.give(found.as_dict(), *of_demo(found))


def sketch(
    target: Target,
    directions: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Random directions: more, and errors shrink. 0 only with --singles."),
    ] = 512,
    order: Annotated[int, typer.Option(metavar="N", min=1, help="The highest Taylor coefficient.")] = 3,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="The folder to keep it in; by default TARGET.sketch, here."),
    ] = None,
    law: Annotated[
        Law,
        typer.Option(metavar="NAME", help="Of the directions: orthonormal, sphere (the theorem's), or gaussian."),
    ] = Law.orthonormal,
    singles: Annotated[
        bool, typer.Option("--singles", help="Every example alone, too: its own series, without noise.")
    ] = False,
    singles_order: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The order of these; by default --order.")
    ] = None,
    by_label: Annotated[
        bool,
        typer.Option("--by-label", help="One weight a label of the examples: questions are about labels."),
    ] = False,
    dtype: Dtype = Precision.complex128,
    threads: Threads = None,
    device: DeviceName = Device.cpu,
    json_to: Json = None,
) -> None:
    """Push random directions through a training run, and keep them: a sketch, of which anything can be asked.

    Interrupted at any moment, the same command goes on where it stopped. More --directions add to
    what is there.
    """
    answer = Answer(json_to)
    if singles_order is not None and not singles:
        raise typer.BadParameter("--singles-order is the order of --singles; give that too")
    if directions == 0 and not singles:
        raise typer.BadParameter("--directions 0 leaves nothing to sketch but --singles; give that, or directions")
    where = out if out is not None else Path(f"{Path(target.split(':')[0]).stem}.sketch")
    from circuitsketch.backends.registry import backend

    backend(device.value).check()  # whether there is one, before what takes long
    run = traced(target)
    if by_label and run.labels is None:
        raise InputError(f"--by-label: {target} gives its examples no labels; make it a cs.Training(..., labels=...)")
    tell(f"{target}: {run.steps:,} steps on {run.n:,} examples, size(A) = {run.size:,} scalar gates.")
    import circuitsketch as cs
    from circuitsketch.report.facts import facts_of

    def how_to_go_on() -> str:
        done = blocks_in(where)
        if not done:
            return f"no block was done yet, so nothing is kept in {where}"
        return f"{done} block{'s' * (done > 1)} of directions kept in {where}; the same command goes on from there"

    begin = time.perf_counter()
    with keeping(how_to_go_on):
        with progress_bars() as watch:
            watch("sketch", 0, 0)

            def progress(done: float, blocks: int) -> None:
                watch("sketch", done, blocks)

            made = cs.sketch(
                run,
                directions=directions,
                order=order,
                seed=seed,
                law=law.value,
                singles="exact" if singles else None,
                singles_order=singles_order,
                groups=run.labels if by_label else None,
                dtype=dtype.value,
                threads=threads,
                device=device.value,
                progress=progress,
                path=where,
            )
        spent = time.perf_counter() - begin
        answer.give(
            facts_of(made) | {"seconds": round(spent, 3)},
            made.info(),
            f"  took       {spent:,.1f} s\nnext: circuitsketch predict {where} --measure ... --without ...",
        )


def plan(
    target: TargetOrNone = None,
    epsilon: Annotated[
        float | None,
        typer.Option(metavar="X", help="An error of at most X alpha, with --delta; else a sketch is priced."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(metavar="P", help="The probability that it is larger.", show_default=False)
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="X", help="The stability function at 4 |h|.", show_default=False)
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Measure alpha: a small sketch of the same run, with --measure."),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="What the pilot measures.", show_default=False)
    ] = None,
    deleted: Annotated[
        float | None,
        typer.Option(metavar="N", help="How many examples may go at once; by default 1.", show_default=False),
    ] = None,
    directions: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the sketch to price; by default 512.", show_default=False)
    ] = None,
    order: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of the sketch to price; by default 3.", show_default=False)
    ] = None,
    law: Annotated[Law | None, typer.Option(metavar="NAME", help="Of the sketch to price.", show_default=False)] = None,
    singles: Annotated[bool, typer.Option("--singles", help="Every example alone, too.")] = False,
    singles_order: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The order of these; by default --order.")
    ] = None,
    by_label: Annotated[bool, typer.Option("--by-label", help="One weight a label of the examples.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds of a core per gate and direction; by default measured."),
    ] = None,
    dtype: Dtype = Precision.complex128,
    threads: Threads = None,
    json_to: Json = None,
) -> None:
    """Say what a sketch would cost, or how large one must be for an error that is promised: seconds and bytes.

    With --epsilon and --delta, the directions that the theorem asks for; without, those of --directions and --order.
    Nothing is kept; time is measured by pushing a few directions for a moment.
    """
    answer = Answer(json_to)
    if singles_order is not None and not singles:
        raise typer.BadParameter("--singles-order is the order of --singles; give that too")
    if (pilot is None) != (measure is None):
        raise typer.BadParameter("a pilot tells alpha of a measurement: give both --pilot STORE and --measure FUNCTION")
    if target is None and epsilon is None:
        raise typer.BadParameter("say of which run: TARGET; or how small an error: --epsilon X --delta P")
    run = None if target is None else traced(target)
    if by_label and (run is None or run.labels is None):
        raise InputError(f"--by-label: {target} gives its examples no labels; make it a cs.Training(..., labels=...)")
    import circuitsketch as cs

    query = None
    if pilot is not None and measure is not None:
        from circuitsketch.cli.asking import measured

        with working("measuring the pilot"):
            query = measured(pilot, measure, target, Device.cpu)[1]
    with working("planning"):
        found = cs.plan(
            epsilon,
            delta,
            alpha,
            query=query,
            deleted=deleted,
            run=run,
            directions=directions,
            order=order,
            law=None if law is None else law.value,
            singles="exact" if singles else None,
            singles_order=singles_order,
            groups=run.labels if by_label and run is not None else None,
            seconds_per_gate=rate,
            dtype=dtype.value,
            threads=threads,
        )
    answer.give({"target": target} | found.to_dict(), str(found))


def trace(
    target: Target,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="The step to show; by default one of the circuit that most share."),
    ] = None,
    dot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the graph for Graphviz.")] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the graph; needs Graphviz's program dot.")
    ] = None,
    json_to: Json = None,
) -> None:
    """Print the circuit of a training step, gate by gate, with its size and depth and the lines it comes from.

    TARGET may also be a function that returns a cs.Circuit.
    """
    answer = Answer(json_to)
    with working("tracing"):
        from circuitsketch.cli.words import circuit_or_run
        from circuitsketch.report.drawing import dot_of, plain_circuit, svg_of, written
        from circuitsketch.report.tables import of_circuits
        from circuitsketch.training.training import Training

        found = circuit_or_run(target)
    plain: dict[str, object] = {"target": target}
    shown: list[RenderableType] = []
    if isinstance(found, Training):
        programs = found.schedule.program
        if step is not None and step >= found.steps:
            raise typer.BadParameter(f"--step {step}: the run has steps 0 to {found.steps - 1}")
        counts = [int((programs == i).sum()) for i in range(len(found.circuits))]
        chosen = int(programs[step]) if step is not None else counts.index(max(counts))
        circuit = found.circuits[chosen]
        plain |= {"steps": found.steps, "examples": found.n, "size": found.size, "shown": chosen}
        plain["circuits"] = [
            {"steps": count, "nodes": len(one.nodes), "size": one.size, "depth": one.depth}
            for one, count in zip(found.circuits, counts, strict=True)
        ]
        shown.extend(of_circuits(found, counts, chosen))
    else:
        if step is not None:
            raise typer.BadParameter(f"--step {step}: {target} is one circuit, not a run of steps")
        circuit = found
        plain["size"] = circuit.size
    if dot is not None:
        written(dot, dot_of(circuit))
        tell(f"the graph is in {dot}")
    if svg is not None:
        with working("drawing the graph"):
            picture = svg_of(dot_of(circuit))
        written(svg, picture)
        tell(f"the picture is in {svg}")
    answer.give(plain | {"circuit": plain_circuit(circuit)}, *shown, str(circuit))


def profile(
    target: Target,
    order: Annotated[int, typer.Option(metavar="N", min=0, help="Of the series; 0 is plain training.")] = 3,
    by: Annotated[Sum, typer.Option(metavar="NAME", help="Add up by gate, by line, or by both.")] = Sum.both,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows to show, the costliest first.")] = 20,
    dtype: Dtype = Precision.complex128,
    json_to: Json = None,
) -> None:
    """Measure where the time of a run goes: seconds of one core a block of directions, by gate and source line."""
    answer = Answer(json_to)
    run = traced(target)
    from circuitsketch.report.profile import profile_of
    from circuitsketch.report.tables import of_profile

    with progress_bars() as watch:
        found = profile_of(run, order, dtype.value, watch)
    answer.give({"target": target} | found.as_dict(by.value), *of_profile(found, by.value, top))


def figures(
    store: Annotated[
        Path | None,
        typer.Argument(metavar="STORE", help="Your own sketch; by default figures of microgpt.", show_default=False),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="What to measure of STORE.", show_default=False)
    ] = None,
    truths: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Of STORE: what evaluate --keep has retrained.", show_default=False),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="At the paper's scale, in minutes; else small ones, in seconds.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to put them in.")] = Path("figures"),
    target: RunOf = None,
    threads: Threads = None,
    json_to: Json = None,
) -> None:
    """Draw the paper's figures and those of the package, or those of your own sketch, each with its data beside it.

    Of STORE: how its orders fall, which examples matter most, and, with --truths, how its predictions compare with
    retraining. Needs matplotlib.
    """
    answer = Answer(json_to)
    if store is None:
        from circuitsketch.report.figures import draw

        if measure is not None or truths is not None or target is not None:
            raise typer.BadParameter("--measure, --truths and --target are of a sketch; give STORE too")
        with keeping(lambda: f"the figures that were done are kept in {out}"), progress_bars() as watch:
            paths = draw(out, paper=paper, threads=threads, watch=watch)
    else:
        if paper:
            raise typer.BadParameter("--paper draws the paper's figures, not those of a sketch; leave out STORE")
        if measure is None:
            raise typer.BadParameter("say what to measure of the sketch: --measure FUNCTION")
        from circuitsketch.cli.asking import measured
        from circuitsketch.report.figures import draw_sketch

        _, query, _ = measured(store, measure, target, Device.cpu)
        with working("drawing"):
            paths = draw_sketch(out, query, measure, truths, {"store": str(store), "measure": measure})
    answer.give({"folder": str(out), "files": [str(path) for path in paths]}, "\n".join(str(path) for path in paths))


def blocks_in(path: Path) -> int:
    """How many blocks of a sketch are on the disk, whatever its progress has told."""
    from circuitsketch.store.part_store import Store
    from circuitsketch.store.sketch_store import PARTS

    stores = [str(path / part) for part in PARTS]
    return sum(len(Store.open(store).done) for store in stores if Store.exists(store))


def traced(target: str) -> Training:
    """The run of a TARGET."""
    with working(f"tracing {target}"):
        from circuitsketch.cli.words import run_of

        return run_of(target)


EXAMPLES = {
    demo: "Example:\n\n  circuitsketch demo --steps 200 --directions 64",
    sketch: (
        "Examples:\n\n  circuitsketch sketch microgpt:200 --directions 256 --out names.sketch\n\n"
        "  circuitsketch sketch my_run.py:make --singles --order 2 --out mine.sketch\n\n"
        "where my_run.py has a function make() that returns a cs.Training."
    ),
    plan: (
        "Examples:\n\n  circuitsketch plan my_run.py:make --directions 512 --order 3 --singles\n\n"
        "  circuitsketch plan logistic --epsilon 0.2 --delta 0.05 --pilot pilot.sketch --measure held_out_loss"
    ),
    trace: (
        "Examples:\n\n  circuitsketch trace logistic\n\n  circuitsketch trace microgpt:200 --step 7 --svg step.svg"
    ),
    profile: "Example:\n\n  circuitsketch profile microgpt:200 --order 3 --by line",
    figures: (
        "Examples:\n\n  circuitsketch figures --paper --out figures\n\n"
        "  circuitsketch figures tumours.sketch --measure held_out_loss --truths truths"
    ),
}
