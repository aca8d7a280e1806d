"""The benches run, count right, and say what they should; how fast things are is not tested here."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.lower.instructions import Mode

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Imports a bench as its own directory sees it."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_a_push_is_timed_and_its_share_of_the_peak_is_a_share(bench, capsys):
    found = bench("push").main(["--steps", "3", "--directions", "8", "--repeats", "1", "--json", "-"])
    assert json.loads(capsys.readouterr().out) == found
    assert found["core_ms_per_direction_step"] > 0
    assert 0 < found["fraction_of_peak"] < 1


def test_the_law_of_cost_has_a_slope_for_all_that_grows(bench, tmp_path, monkeypatch):
    law = bench("size_law")
    monkeypatch.setattr(law, "points", lambda *_: few_points(law))
    found = law.main(["--repeats", "1", "--json", str(tmp_path / "law.json")])
    assert json.loads((tmp_path / "law.json").read_text()) == found
    assert all(np.isfinite(found[f"slope_{name}"]) for name in ("steps", "directions", "size", "order"))
    assert found["direction_over_plain_order_1"] > 0


def few_points(law):
    """Two of each family, all at order 3 but for one."""
    one, two = law.run_of(2), law.run_of(4)
    grown = ("steps", "width", "depth", "length")
    found = [law.Point(family, "", run, 8) for family in grown for run in (one, two)]
    found += [law.Point("directions", "", one, count) for count in (8, 16)]
    return found + [law.Point("order", "", one, 8, order) for order in (1, 3)]


def test_the_cost_law_counts_what_grows_and_finds_the_coefficients_of_made_up_times(bench, tmp_path, monkeypatch):
    law = bench("cost_law")
    base = {"steps": 3, "directions": 8, "examples": 3, "width": 8, "lanes": 4}
    settings = [
        law.Setting(dimension, 0, **base | {dimension: value})
        for dimension, values in (("steps", (3, 6)), ("directions", (8, 16)), ("width", (8, 16)), ("order", (2, 3)))
        for value in values
    ]
    terms = np.array([law.count_terms(s, s.make_run()) for s in settings])
    one, two = terms[2], terms[3]  # twice the directions: twice as many blocks, of which at most 8 share the primal
    np.testing.assert_array_equal(two[[0, 1, 3]], 2 * one[[0, 1, 3]])
    assert one[4] <= two[4] <= 2 * one[4] and one[5] == two[5] == 1
    coefficients = np.array([1e-10, 5e-12, 0.0, 2e-7, 1e-10, 1e-3])
    np.testing.assert_allclose(
        law.fit_terms(terms, terms @ coefficients)[[0, 1, 3, 4, 5]], coefficients[[0, 1, 3, 4, 5]]
    )
    coefficients[5] = 1e-7
    timings = {f"{i}": [SimpleNamespace(cpu=seconds)] for i, seconds in enumerate(terms @ coefficients)}

    def time_pushes(pushes, repeats):
        for push in pushes.values():
            push()
        return timings

    monkeypatch.setattr(law, "interleaved", time_pushes)
    monkeypatch.setattr(law, "list_settings", lambda full: settings)
    found = law.main(["--repeats", "1", "--json", str(tmp_path / "law.json")])
    slopes = [found[f"slope_{name}"] for name in ("steps", "directions", "width", "order", "all")]
    np.testing.assert_allclose(slopes, 1.0, rtol=1e-6)
    assert json.loads((tmp_path / "law.json").read_text())["terms"] == terms.tolist()


def test_a_larger_model_has_its_floors_and_the_error_of_single_precision(bench, monkeypatch, capsys):
    larger = bench("larger_models")
    monkeypatch.setattr(larger, "SMALL", (larger.Model(8, 1, 2, 8),))
    monkeypatch.setattr(larger, "bandwidth", lambda: 1e10)
    found = larger.main(["--repeats", "1", "--json", "-"])
    printed = capsys.readouterr().err
    state = 3 * 1328  # parameters and two moments
    assert "1,328 (8 x 1)" in printed and f"{2 * state * 48 / 1e6:.1f} MB, {1e3 * 2 * state * 48 / 1e10:.3f}" in printed
    assert np.isfinite(found["p1328_trainings"]) and np.isfinite(found["p1328_order_1_ms"])
    run = larger.Model(8, 1, 2, 8).make_run(2)
    assert run.steps == 4 and 1e-9 < larger.measure_error(run, 2) < 1e-4


def test_float32_of_jax_is_as_close_to_double_precision_as_floats_are(bench, monkeypatch, tmp_path):
    jax = pytest.importorskip("jax")
    runs = bench("float32_runs")
    with jax.enable_x64(False):
        report = SimpleNamespace(numbers={}, add=lambda row: report.numbers.update({row.what: row.value}))
        runs.measure(report, 8, 1, 6, 2)
    assert len(report.numbers) == 7 and all(1e-9 < value < 1e-3 for value in report.numbers.values())


def test_retraining_in_float32_errs_by_little_of_the_change(bench):
    runs, report = bench("float32_runs"), SimpleNamespace(numbers={})
    for case in runs.list_cases(full=False):
        assert len(runs.compare_precisions(report, case, 1)) == 2
    errors = [value for key, value in report.numbers.items() if key.endswith("error")]
    assert len(errors) == 4 and all(1e-9 < value < 1e-2 for value in errors)


def test_the_peak_is_above_a_thousandth_and_below_a_thousand_times_of_any_core_of_today(bench):
    machine = bench("machine")
    for single in (False, True):
        assert 1e8 < machine.peak(single, seconds=0.001) < 1e13


@pytest.mark.parametrize("order, product, alone", [(1, 4, 2), (3, 24, 6), (100, 20_200, 200)])
def test_a_dot_product_counts_its_products_of_series(bench, order, product, alone):
    circuit = cs.trace(lambda x, y: x @ y, np.ones(5), np.ones(5))
    count = bench("multiply_adds").step_cost
    assert count(circuit, {0, 1}, Mode(order)) == 5 * product
    assert count(circuit, {0}, Mode(order)) == 5 * alone


@pytest.mark.parametrize(
    "f, cost",
    [(np.exp, 18), (np.square, 14), (lambda x: x + x, 0), (lambda x: 2.0 * x, 6), (lambda x: x / 3.0, 6)],
)
def test_gates_count_by_the_table_at_order_three(bench, f, cost):
    circuit = cs.trace(f, np.full(7, 0.5))
    assert bench("multiply_adds").step_cost(circuit, {0}, Mode(3)) == 7 * cost


def test_real_directions_count_a_fourth_of_the_products_of_complex_coefficients(bench):
    circuit = cs.trace(lambda x, y: x * y, np.ones(()), np.ones(()))
    count = bench("multiply_adds").step_cost
    # 2s = 6 products with the constant terms, and 3 among coefficients of order one and two.
    assert count(circuit, {0, 1}, Mode(3, complex=False)) == 6 + 3


def test_a_section_of_the_table_is_replaced_and_nothing_else(bench, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- push -->\nold\n<!-- end of push -->\nafter\n")
    bench("report").write_section(file, "push", "new")
    assert file.read_text() == "before\n<!-- push -->\nnew\n<!-- end of push -->\nafter\n"


def test_goals_are_met_from_the_right_side(bench):
    goal = bench("report").Goal
    assert goal("<=", 2.0).met(1.9) and not goal("<=", 2.0).met(2.1)
    assert goal(">=", 2.0).met(2.1) and not goal(">=", 2.0).met(1.9)
    assert goal("=", 1.0, 0.05).met(0.96) and not goal("=", 1.0, 0.05).met(1.06)


def test_every_table_in_the_readme_has_its_place():
    text = (BENCH / "README.md").read_text()
    for name in (
        "push",
        "size_law",
        "compare_jax",
        "frontends",
        "metagradient",
        "start",
        "accuracy",
        "budgets",
        "trust",
        "gpu",
        "compare_attribution",
        "first_order",
    ):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


def test_accuracy_scores_every_method_against_retraining(bench, capsys):
    tiny = ["--runs", "tumours", "--directions", "8", "--subsets", "4", "--examples", "100", "--retrainings", "16"]
    found = bench("accuracy").main([*tiny, "--json", "-"])
    assert json.loads(capsys.readouterr().out) == found
    methods = bench("accuracy").METHODS
    assert {cell["method"] for cell in found["cells"]} == set(methods)
    assert len(found["cells"]) == 8 * len(methods)
    one = {c["method"]: c for c in found["cells"] if c["kind"] == "random 0.1 %"}
    assert one["singles"]["rmse"] < one["first order"]["rmse"]  # single examples, and their exact series


def test_every_method_is_scored_at_what_it_spent(bench, capsys, tmp_path):
    budgets, file, image = bench("budgets"), tmp_path / "cells.json", tmp_path / "cells.png"
    tiny = ["--runs", "tumours", "--examples", "100", "--subsets", "8", "--budgets", "60", "600"]
    found = budgets.main([*tiny, "--json", str(file)])
    assert json.loads(file.read_text()) == found
    cells = {(cell["method"], cell["budget"], cell["kind"]): cell for cell in found["cells"]}
    scored = {method for method, *_ in cells}
    # Whether a budget pays the directions of "theorem-gradient" depends on the times that are measured.
    assert scored | {"theorem-gradient"} == set(budgets.METHODS) - {"own effects"}
    assert all(cell["cost"] > 0 and np.isfinite(cell["rmse"]) for cell in cells.values())
    # 1 % of 100 examples is one, whose own effect is known.
    assert cells["own and pairs", 600, "random 1 %"]["rmse"] < 1e-9 < cells["first order", 5, "random 1 %"]["rmse"]
    assert cells["own and pairs", 600, "random 5 %"]["rmse"] < cells["first order", 5, "random 5 %"]["rmse"]
    assert cells["own and pairs", 600, "random 5 %"]["cost"] > cells["first order", 5, "random 5 %"]["cost"]
    printed = capsys.readouterr().out
    again = budgets.main(
        ["--read", str(file), *([] if importlib.util.find_spec("matplotlib") is None else ["--plot", str(image)])]
    )
    assert again["cells"] == found["cells"] and again["costs"] == found["costs"]
    assert capsys.readouterr().out.splitlines()[-10:] == printed.splitlines()[-10:]
    assert image.exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_a_metagradient_is_timed_in_trainings_and_takes_the_memory_that_was_planned(bench, capsys):
    found = bench("metagradient").main(["--steps", "30", "--jax-steps", "0", "--repeats", "1", "--json", "-"])
    assert json.loads(capsys.readouterr().out) == found
    assert found["trainings_values_1"] > 1 and found["pushes_hessian_1"] > 0
    assert 1 <= found["peak_over_planned_all"] < 2


def test_jax_has_the_same_metagradient_and_hessian_rows(bench):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed; pip install jax")
    metagradient = bench("metagradient")
    assert metagradient.have_jax()
    numbers, rows = {}, []
    report = SimpleNamespace(numbers=numbers, say=print, add=rows.append)
    metagradient.jax_rows(report, metagradient.run_of(5, (6,)), 1)  # stops where the two differ
    assert len(rows) == 2 and all(numbers[key] < 1e-9 for key in numbers) and len(numbers) == 4


@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_jax_pushes_the_same_perceptron(bench, dtype):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed; pip install jax")
    gpu = bench("gpu")
    report = SimpleNamespace(numbers={})
    seconds, block = gpu.time_jax(report, gpu.Case("mlp", 2, 6, 3, dtype), 1)  # stops where the two differ
    assert seconds > 0 and block == 6
    assert report.numbers[f"mlp_{dtype}_jax_difference"] > 0


def test_jax_trains_the_same_model(bench):
    if importlib.util.find_spec("jax") is None:
        print("skipped: JAX is not installed; pip install jax")
        pytest.skip("JAX is not installed; pip install jax")
    tiny = ["--sides", "plain", "--plain-steps", "2", "--repeats", "1", "--json", "-"]
    found = bench("compare_jax").main(tiny)
    assert found["plain_scanned_difference"] < 1e-9
    assert found["plain_times_faster"] > 0


def test_without_jax_the_comparison_says_so(bench, monkeypatch, capsys):
    compare = bench("compare_jax")
    monkeypatch.setattr(compare, "have_jax", lambda: False)
    assert compare.main(["--json", "-"])["skipped"]
    assert "pip install jax" in capsys.readouterr().err


# The bench of a GPU: what it reckons, on a machine without one. `tests/on_device.py` runs it whole.


def test_without_a_gpu_the_bench_says_what_was_looked_for_and_keeps_nothing(bench, monkeypatch, capsys):
    gpu, report = bench("gpu"), bench("report")
    monkeypatch.setattr(gpu, "find_device", no_gpu)
    monkeypatch.setattr(report, "write_section", lambda *_: pytest.fail("nothing was measured"))
    assert "no GPU here" in gpu.main(["--full", "--write", "--json", "-"])["skipped"]
    assert "skipped, nothing is written: no GPU here" in capsys.readouterr().err


def no_gpu():
    raise cs.errors.DeviceError("no GPU here")


@pytest.mark.parametrize(
    "capability, multiprocessors, clock, memory_clock, bus, sheet",
    [
        # NVIDIA's data sheets: H100 SXM 34 and 67 TFLOP/s, 3.35 TB/s; A100 SXM 80 GB 9.7 and 19.5, 2.04 TB/s.
        ((9, 0), 132, 1.98e9, 2.619e9, 5120, (34e12, 67e12, 3.35e12)),
        ((8, 0), 108, 1.41e9, 1.593e9, 5120, (9.7e12, 19.5e12, 2.039e12)),
    ],
)
def test_the_peaks_of_a_card_are_those_of_its_data_sheet(
    bench, capability, multiprocessors, clock, memory_clock, bus, sheet
):
    from circuitsketch.backends.cuda.device import Device

    device = Device("card", capability, multiprocessors, 80 << 30)
    card = bench("gpu").Card.of(device, clock, memory_clock, bus)
    np.testing.assert_allclose((card.double, card.single, card.bandwidth), sheet, rtol=0.02)


def test_a_gpu_case_is_reported_as_seconds_shares_and_ratios(bench):
    gpu = bench("gpu")
    case = gpu.Case("microgpt", 1000, 512, 3, "complex64")
    card = gpu.Card("card", 30e12, 60e12, 3e12)
    found = gpu.Measurement(case, card, 0.5, 20.0, 3e12, 0.6e12, "a plan", 50.0, 64, 2.0, 256)
    rows = {row.key.removeprefix("microgpt_complex64_"): row for row in found.rows(goals=True)}
    assert {key: row.value for key, row in rows.items()} == pytest.approx(
        {
            "seconds": 0.5, "first_seconds": 20.0, "fraction_of_peak": 0.1, "fraction_of_bandwidth": 0.4,
            "over_cpu": 100.0, "over_jax": 4.0,
        }
    )  # fmt: skip
    assert rows["seconds"].cells()[2:] == ["<= 1.000", "yes"]
    assert rows["over_jax"].cells()[2:] == [">= 5.0", "no"]
    assert "from 64 directions" in rows["over_cpu"].note and "256 directions at a time" in rows["over_jax"].note
    short = gpu.Measurement(case, card, 0.5, 20.0, 3e12, 0.6e12, "a plan").rows(goals=False)
    assert len(short) == 4 and not any(row.goal for row in short)


def test_the_whole_table_of_a_gpu_has_every_workload_in_both_precisions(bench):
    gpu = bench("gpu")
    found = gpu.cases(gpu.parse_options(["--full"]))
    assert [(c.workload, c.steps, c.dtype) for c in found] == [
        (workload, steps, dtype)
        for workload, steps in (("microgpt", 1000), ("mlp", 500), ("wide", 200))
        for dtype in ("complex128", "complex64")
    ]
    assert all((c.directions, c.order) == (512, 3) for c in found)
    with pytest.raises(SystemExit):
        gpu.parse_options(["--workloads", "cnn"])


def test_jax_takes_half_the_directions_where_its_memory_runs_out(bench):
    def once(block):
        if block > 150:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return f"pushed {block}"

    fits = bench("gpu").halve_until_it_fits
    assert fits(once, 512) == ("pushed 128", 128)
    with pytest.raises(RuntimeError, match="INTERNAL"):
        fits(lambda block: (_ for _ in ()).throw(RuntimeError("INTERNAL")), 512)


def one_instruction(function, *args):
    """The lane phase of a function, and how many numbers its lanes hold for an element."""
    from circuitsketch.backends.contract import Phases, Target
    from circuitsketch.backends.cpu import executable
    from circuitsketch.lower.tape import lower

    circuit = cs.trace(function, *args)
    tape = lower(circuit, range(len(args)), Mode(3))
    linked = executable.link([tape], Target(Mode(3), 4), len(args), False, Phases(0))
    return linked, [i for i in linked.instructions if i.kernel.phase == "lane"]


@pytest.mark.parametrize(
    "function, shapes, touched",
    [
        (lambda x, y: x * y, [(5, 3), (5, 3)], 45),  # two read, one written
        (lambda x, y: x * y, [(5, 3), (3,)], 33),  # a row is read once
        (lambda x: np.tanh(x) + 1.0, [(7,)], 14),
        (lambda x, y: x @ y, [(4, 5), (5, 3)], 20 + 15 + 12),
        (lambda x, y: np.einsum("bij,j->bi", x, y), [(2, 4, 5), (5,)], 40 + 5 + 8),
        (lambda x: x.sum(axis=0), [(6, 2)], 2 + 12 + 2 * 2),  # set to zero; read, and added to what is there
        (lambda x: np.concatenate([x, x]), [(3,)], 2 * (3 + 3)),
        (lambda x: x[np.array([0, 2, 2, 1])], [(3, 2)], 2 * 8),
    ],
)
def test_bytes_are_those_of_the_elements_that_an_instruction_needs(bench, function, shapes, touched):
    linked, instructions = one_instruction(function, *(np.ones(shape) for shape in shapes))
    elements = bench("traffic").count_elements
    assert sum(elements(i) for i in instructions) == touched
    schedule = cs.Training(lambda s, x, keep: s * keep[0], np.ones(()), [1.0] * 3, [[0]] * 3).schedule
    assert bench("traffic").count_lane_bytes(linked, schedule) == 3 * touched * 6 * 8


def test_scale_has_slopes_efficiencies_and_a_model_on_paper(bench, tmp_path, monkeypatch):
    scale = bench("scale")
    monkeypatch.setattr(scale, "BASE", {"n": 20, "p": 4, "T": 2})
    monkeypatch.setattr(scale, "GROWN", {"n": (20, 40), "p": (4, 8), "T": (2, 4)})
    options = ["--steps", "3", "--directions", "8", "--workers", "1", "2", "--json", str(tmp_path / "scale.json")]
    numbers = scale.main(options)
    assert json.loads((tmp_path / "scale.json").read_text()) == numbers
    whats = ("training", "reverse_sweep", "retraining", "pushing")
    assert all(np.isfinite(numbers[f"slope_{what}_{family}"]) for what in whats for family in ("n", "p", "T"))
    assert numbers["efficiency_1"] == 1 and 0 < numbers["efficiency_2"]
    assert 0 < numbers["single_error_microgpt_3"] < 1e-4
    for keep in ("params", "state"):
        for who in ("one", "workers"):
            shares = list(numbers[f"on_paper_{keep}_{who}"].values())
            assert shares == sorted(shares, reverse=True) and 0 < shares[-1] <= shares[0] <= 1
    assert numbers["rate_state"] > numbers["rate_params"]
