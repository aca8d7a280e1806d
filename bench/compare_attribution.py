"""Beside the attribution libraries: the same trainings, the same subsets, the same truths.

    pip install -r bench/requirements-peers.txt              # its first lines say how
    python bench/compare_attribution.py                      # two settings, few subsets: minutes
    python bench/compare_attribution.py --full --write       # all settings, 64 subsets a kind
    python bench/compare_attribution.py --folder FOLDER      # keeps masks and truths there, and scores what lies beside

FOLDER/SETTING/KIND/masks.npy (B, n) says what is deleted, margins.npy (B, values) what the retrained models measure,
and FOLDER/SETTING/baseline.npy (values,) what the trained one does. A method of your own takes part as
FOLDER/SETTING/effects-NAME.npy (n, values), added up over what is deleted, or as FOLDER/SETTING/KIND/values-NAME.npy
(B, values). examples.npz there has the data, the batches and the initial parameters.

Each value is a question of its own, and costs are of one, in CPU seconds of one thread. A training is that of the
method's own framework: a library is not charged for PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers.apart import Outcome, describe_error, run_apart
from peers.ours import DIRECTIONS, LEAST_BUDGET, measure_ours
from peers.scores import (
    COSTS,
    DATAMODELS,
    FIRST,
    OURS,
    SKETCH,
    Cell,
    Truths,
    correlate,
    list_losses,
    make_cell,
    score,
    score_effects,
)
from peers.settings import KNOWN, SETTINGS, Setting
from report import README, Goal, Report, Row, add_options, table, write_section
from timing import timed

from circuitsketch.attribution.ground_truth import retrain_and_measure

BUDGETS = (10, 50, 200, 600)
LONGEST = 180  # characters of an error in a table


def read_or_retrain(setting: Setting, folder: Path) -> Truths:
    """Return the truths of all kinds, read from a folder or written to it."""
    home = folder / setting.name
    home.mkdir(parents=True, exist_ok=True)
    params = setting.run.params(setting.run.train())
    np.save(home / "baseline.npy", np.asarray(setting.measure(params)))
    first = {f"initial.{name}": value for name, value in setting.run.state["params"].items()}
    batches = {f"batch.{t}": np.asarray(ids) for t, ids in enumerate(setting.run.examples)}
    queries = {"query_x": setting.queries[0], "query_y": setting.queries[1], "combine": setting.combine}
    np.savez(home / "examples.npz", x=setting.x, y=setting.y, rates=setting.rule.rates, **queries, **first, **batches)
    truths = {}
    for kind, masks in setting.kinds.items():
        place = home / kind
        place.mkdir(exist_ok=True)
        for part, rows in (("known-", masks[:KNOWN]), ("", masks[KNOWN:])):
            files = place / f"{part}masks.npy", place / f"{part}margins.npy"
            if not all(file.exists() for file in files) or not np.array_equal(np.load(files[0]), rows):
                np.save(files[1], retrain_and_measure(setting.run, rows.astype(float), setting.measure, (), 1))
                np.save(files[0], rows)
        margins = [np.load(place / f"{part}margins.npy") for part in ("known-", "")]
        truths[kind] = masks, np.concatenate(margins)
    return truths


# ------------------------------------------------------------------------------------------------ the libraries


def check_twin(setting: Setting) -> tuple[float, float]:
    """Return the difference of the PyTorch model after training, in double precision, and seconds of a training."""
    import torch
    from peers.twins import Twin

    difference = Twin.of(setting).check()
    single = Twin.of(setting, torch.float32)
    return difference, min(timed(single.train).cpu for _ in range(3))


def ask_library(setting: Setting, number: int, truths: Truths) -> tuple[Any, dict[str, Any], float, str]:
    """Return the best of the settings that a method is tried with, its scores, the CPU seconds of one value, and the
    errors of the others."""
    import torch
    from peers.libraries import METHODS
    from peers.twins import Twin

    method, base = METHODS[number], np.asarray(setting.measure(setting.run.params(setting.run.train())))
    scored, errors = [], []

    def ask(values: list[int], tried: Any) -> Callable[[], np.ndarray]:
        twin = Twin.of(setting, torch.float32)
        twin.model.load_state_dict(twin.trained()[0])
        return lambda: method.run(twin, values, tried)

    for tried in method.tried:
        try:
            effects = ask(list(range(setting.values)), tried)()
        except Exception as reason:
            errors.append(f"{method.describe(tried)}: {describe_error(reason)}")
            continue
        if not np.isfinite(effects).all():
            errors.append(f"{method.describe(tried)}: effects that are not finite")
            continue
        total = [float(correlate(masks[KNOWN:] @ effects, truth[KNOWN:])) for masks, truth in truths.values()]
        scored.append((float(np.mean(total)), len(scored), tried, effects))
    if not scored:
        raise RuntimeError("; ".join(errors))
    _, _, tried, effects = max(scored, key=lambda one: one[:2])
    return (
        tried,
        score_effects(effects, base, truths, method.predicts_for(setting)),
        timed(ask([0], tried)).cpu,
        "; ".join(errors),
    )


def measure_libraries(setting: Setting, truths: Truths, only: list[str], report: Report) -> list[Cell]:
    """Score every method of every library; what fails is said with its error."""
    try:
        import torch
    except ImportError:
        report.say("no libraries: PyTorch is not installed; see bench/requirements-peers.txt")
        return []
    from peers.libraries import METHODS

    torch.set_num_threads(1)
    difference, unit = check_twin(setting)
    report.numbers[f"{setting.name}_twin_difference"] = difference
    report.numbers[f"{setting.name}_torch_training_ms"] = 1e3 * unit
    report.say(f"{setting.name}: trained in PyTorch, parameters differ by {difference:.1g}; {1e3 * unit:.3g} ms")
    cells: list[Cell] = []
    for number, method in enumerate(METHODS):
        if only and not any(word in method.label for word in only):
            continue
        why = method.excludes(setting)
        found = Outcome(None, float("nan"), why) if why else run_apart(ask_library, setting, number, truths)
        if found.error:
            report.numbers[f"{setting.name}, {method.label}"] = found.error
            report.say(f"  {method.label}: {found.error}")
            continue
        tried, kinds, seconds, errors = found.result
        label = f"{method.label} ({method.describe(tried)})" if len(method.tried) > 1 else method.label
        cells.append(make_cell(label, (seconds, seconds / unit, found.megabytes), kinds))
        scores = ", ".join(f"{kind} {one['lds']:.3f}" for kind, one in kinds.items())
        report.say(f"  {label}: {seconds:.3g} s, LDS {scores}" + (f"; {errors}" if errors else ""))
    return cells


def read_own(setting: Setting, folder: Path, truths: Truths) -> list[Cell]:
    """Score the effects and values that a user has put beside the truths."""
    home, cells = folder / setting.name, []
    baseline, nothing = np.load(home / "baseline.npy"), (None,) * 3
    for file in sorted(home.glob("effects-*.npy")):
        kinds = score_effects(np.load(file), baseline, truths, True)
        cells.append(make_cell(file.stem.removeprefix("effects-"), nothing, kinds))
    names = sorted({file.stem for kind in truths for file in (home / kind).glob("values-*.npy")})
    for name in names:
        have = {kind: np.load(file) for kind in truths if (file := home / kind / f"{name}.npy").exists()}
        kinds = {kind: score(value, truths[kind][1][KNOWN:], True) for kind, value in have.items()}
        cells.append(make_cell(name.removeprefix("values-"), nothing, kinds))
    return cells


# ------------------------------------------------------------------------------------------------ tables


def format_number(x: float | None, form: str = "{:.3f}") -> str:
    return "-" if x is None or not np.isfinite(x) else form.format(x)


def format_scores(one: dict[str, Any]) -> str:
    parts = [f"{one['lds']:.3f} [{one['lds_low']:.2f}, {one['lds_high']:.2f}]", format_number(one["rmse"], "{:.2f}")]
    return ", ".join(parts + ([] if one["covered"] is None else [f"{one['covered']:.0%}"]))


def describe(facts: dict[str, Any], name: str) -> str:
    """Say what a training takes, and which methods did not answer."""
    ours, theirs = facts[f"{name}_training_ms"], facts.get(f"{name}_torch_training_ms")
    text = f", a training takes {ours:.3g} ms"
    if theirs is not None:
        text += f", in PyTorch {theirs:.3g} ms, to parameters that differ by {facts[f'{name}_twin_difference']:.1g}"
    reasons = {key.removeprefix(f"{name}, "): why for key, why in facts.items() if isinstance(why, str)}
    silent = [f"{method} ({why if len(why) <= LONGEST else why[:LONGEST] + '...'})" for method, why in reasons.items()]
    return text + "".join(f"; no answer by {one}" for one in silent)


def tabulate(cells: list[Cell]) -> str:
    """Tabulate the methods of a setting."""
    kinds = list(cells[0]["kinds"])
    rows = []
    for cell in cells:
        costs = [format_number(cell[key], "{:.3g}") for key in COSTS]
        rows.append(
            [label_cell(cell), *costs, *(format_scores(cell["kinds"][k]) if k in cell["kinds"] else "-" for k in kinds)]
        )
    return table(rows, ["method", "CPU s", "trainings", "MB", *kinds])


def compare(
    name: str, options: argparse.Namespace, subsets: int, budgets: list[float], folder: Path, report: Report
) -> dict[str, Any]:
    """Return the cells of a setting, and in which of them we are behind; from the folder, where they are there."""
    file = folder / name / f"cells-{subsets}.json"
    if file.exists() and not options.methods:
        return json.loads(file.read_text())
    setting = SETTINGS[name](subsets)
    truths = read_or_retrain(setting, folder)
    cells = measure_ours(setting, truths, budgets, report)
    if not options.no_libraries:
        cells += measure_libraries(setting, truths, options.methods, report)
    cells += read_own(setting, folder, truths)
    behind, compared = list_losses(name, cells, truths)
    for cell in cells:
        for scores in cell["kinds"].values():
            del scores["value"]
    facts = {key: value for key, value in report.numbers.items() if key.startswith(name)}
    found = {"cells": cells, "behind": behind, "compared": compared, "facts": facts}
    if not options.methods and not options.no_libraries:
        file.write_text(json.dumps(found))
    return found


# The methods in the README of the package: their labels here, and what they answer.
ANSWERS = {
    f"{DATAMODELS}, 600": ("[datamodels](https://arxiv.org/abs/2202.00622), 600 trainings", "subsets of one size"),
    "pyDVL: influence functions, Nyström": (
        "[influence functions](https://arxiv.org/abs/1703.04730), pyDVL",
        "the first-order change at a minimum of the loss, ignoring the path there",
    ),
    "traker: TRAK, 5 models": ("[TRAK](https://arxiv.org/abs/2303.14186), traker", "scores for ranking examples"),
    "bergson: MAGIC": (
        "[MAGIC](https://arxiv.org/abs/2504.16430), Bergson",
        "the exact first-order effect of every example on one measurement",
    ),
    FIRST: ("`cs.metagradient`", "the same"),
    f"{OURS}, 50": ("`cs.attribute`, 50 trainings", "any subset or weights, one measurement, with an interval"),
    f"{OURS}, 600": ("`cs.attribute`, 600 trainings", "the same"),
    SKETCH: (
        f"`cs.sketch`, {DIRECTIONS} directions and a series per example",
        "any subset or weights and any measurement, chosen later",
    ),
}
SUMMARISED, KIND = ("digits", "names"), "random 5 %"


def summarise(cells: dict[str, list[Cell]], facts: dict[str, Any]) -> str:
    """Tabulate what the methods answer and cost, and their scores for random 5 %, for the README of the package."""
    exact = [f"{facts[f'{name}_training_ms'] / 1e3:.2g} s; exact" for name in SUMMARISED]
    rows = [["retraining", "one subset, every measurement", *exact]]
    for label, about in ANSWERS.items():
        scores = []
        for name in SUMMARISED:
            have = [cell for cell in cells[name] if label_cell(cell).startswith(label)]
            one = have[0]["kinds"][KIND] if have else None
            numbers = [] if one is None else [f"{have[0]['seconds']:.2g} s", f"{one['lds']:.3f}"]
            scores.append(", ".join(numbers + ([] if one is None or one["rmse"] is None else [f"{one['rmse']:.2f}"])))
        rows.append([*about, *(text or "no answer" for text in scores)])
    return table(rows, ["method", "answers", *(f"{name}: CPU time, LDS, RMSE" for name in SUMMARISED)])


def label_cell(cell: Cell) -> str:
    return cell["method"] if cell["budget"] in (None, LEAST_BUDGET) else f"{cell['method']}, {cell['budget']:g}"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, metavar="SETTING", help=", ".join(SETTINGS))
    parser.add_argument("--budgets", nargs="+", type=float, help="in trainings")
    parser.add_argument("--subsets", type=int, help="subsets of a kind that are asked about")
    parser.add_argument("--methods", nargs="+", default=[], help="words in the names of the libraries' methods")
    parser.add_argument("--no-libraries", action="store_true", help="our methods and datamodels alone")
    parser.add_argument("--folder", help="keep masks and truths there")
    options = parser.parse_args(argv)
    subsets = options.subsets or (64 if options.full else 32)
    budgets = options.budgets or list(BUDGETS)
    names = options.settings or (list(SETTINGS) if options.full else ["logistic", "digits"])
    report = Report("compare_attribution", options, {"subsets": subsets, "budgets": budgets})
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    report.numbers["cells"], losses, total = {}, [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        for name in names:
            found = compare(name, options, subsets, budgets, folder, report)
            report.numbers["cells"][name] = found["cells"]
            report.numbers |= found["facts"]
            losses, total = losses + found["behind"], total + found["compared"]
            report.add_table(f"{name}{describe(found['facts'], name)}:\n\n{tabulate(found['cells'])}")
    head = ["setting", "deletions", "trainings", "score", "ours", "better", "of", "clear"]
    for what, key, count in (
        ("cells in which a method that costs no more is better", "behind", len(losses)),
        ("the same, clearly", "clearly_behind", sum(row[-1] == "yes" for row in losses)),
    ):
        report.add(Row(what, key, float(count), "{:.0f}", Goal("<=", 0.0), f"of {total}"))
    if losses:
        report.add_table(f"Where a method that costs no more is better:\n\n{table(losses, head)}")
    if options.write and set(SUMMARISED) <= set(names):
        write_section(README.parent.parent / README.name, "methods", summarise(report.numbers["cells"], report.numbers))
    return report.finish()


if __name__ == "__main__":
    main()
