"""The benches run, count right, and say what they should; how fast things are is not tested here."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.lower.tape import Mode

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
    for name in ("push", "size_law", "compare_jax", "start", "accuracy"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


def test_accuracy_scores_every_method_against_retraining(bench, capsys):
    tiny = ["--runs", "tumours", "--directions", "8", "--subsets", "4", "--examples", "40", "--retrainings", "16"]
    found = bench("accuracy").main([*tiny, "--json", "-"])
    assert json.loads(capsys.readouterr().out) == found
    methods = bench("accuracy").METHODS
    assert {cell["method"] for cell in found["cells"]} == set(methods)
    assert len(found["cells"]) == 8 * len(methods)
    one = {c["method"]: c for c in found["cells"] if c["kind"] == "random 0.1 %"}
    assert one["singles"]["rmse"] < one["first order"]["rmse"]  # single examples, and their exact series


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
