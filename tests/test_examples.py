"""The examples run, and what they return is right."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from circuitsketch.gates import GATES

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    """What an example defines."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def test_every_example_is_tested_and_numbered_from_one():
    numbers = [int(path.name[:2]) for path in sorted(EXAMPLES.glob("*.py"))]
    assert numbers == list(range(1, 17))


def test_a_traced_function_prints_itself(capsys):
    circuit = example("01_trace_and_print.py")["main"]()
    assert str(circuit) in capsys.readouterr().out
    # Two products of matrices, by hand: 3 x 4 dot products of length 2, then 3 x 3 of length 4.
    assert circuit.size > 3 * 4 * (2 + 1) + 3 * 3 * (4 + 3)


def test_a_gradient_and_its_derivative_agree_with_differences():
    names = example("02_a_gradient_is_a_circuit.py")
    slope, curvature = names["main"]()
    x, direction = np.array([0.3, -1.2, 0.7]), np.array([1.0, 2.0, -1.0])
    step = 1e-4
    below, at, above = (names["energy"](x + s * direction) for s in (-step, 0.0, step))
    # Differences of second order: off by step^2 times a higher derivative, and by rounding over step^2.
    assert slope == pytest.approx((above - below) / (2 * step), abs=1e-6)
    assert curvature == pytest.approx((above - 2 * at + below) / step**2, abs=1e-5)


def test_a_taylor_series_in_the_weights_agrees_with_differences_and_sums_to_the_retrained_value(capsys):
    series, differences, sums, truth = example("03_taylor_along_a_direction.py")["main"]()
    # Differences with a step of 0.05 are off by its square times a coefficient two orders up, and by rounding / step^4.
    assert series[1:5] == pytest.approx(differences, rel=1e-4, abs=1e-7)
    assert abs(sums[-1] - truth) < 1e-9
    assert np.all(np.diff(np.abs(sums - truth)) < 0)
    assert "up to z^8" in capsys.readouterr().out


def test_deleting_tumours_changes_the_diagnoses_that_it_was_predicted_to_change():
    for prediction, truth, predicted, wrong in example("04_sketch_and_delete.py")["main"]():
        low, high = prediction.interval(0.99)
        assert low < truth < high
        assert predicted == wrong


def test_a_name_is_taught_by_names_that_are_alike():
    ranked, effect, prediction, truth = example("05_who_taught_it.py")["main"](count=200, directions=128, name="mary")
    # Nine of 200 names begin like it: among eight at random, one would be luck.
    assert sum(name.startswith("ma") for name in ranked[:8]) >= 2
    assert np.all(effect.stderr > 0)
    # Four standard errors, and a quarter of the change for the orders left out.
    assert abs(prediction.value - truth) < 4 * prediction.stderr + abs(truth - prediction.baseline) / 4


def test_wrong_labels_are_among_those_that_it_helps_to_leave_out():
    suspects, wrong, accuracy, loss, truth = example("06_mislabelled_digits.py")["main"](
        count=200, directions=200, epochs=20
    )
    found = np.isin(suspects[: 2 * len(wrong)], wrong).sum()
    # Ten of 200 are wrong: at random, one of the first twenty would be.
    assert found >= 8
    # Without them the loss falls, as predicted: within a third of the change.
    assert truth < loss.baseline
    assert abs(loss.value - truth) < abs(loss.baseline - truth) / 3 + 3 * loss.stderr
    assert accuracy[1] == pytest.approx(accuracy[2], abs=0.03)


def test_a_class_matters_most_to_itself_and_mixtures_of_classes_are_predicted():
    each, found = example("07_groups.py")["main"](directions=100, count=200, epochs=10)
    assert np.array_equal(each.change.argmin(axis=1), np.arange(10))
    for prediction, truth in found:
        off = np.abs(prediction.value - truth)
        # Four standard errors, and a tenth of the largest change for the orders left out.
        assert np.all(off < 4 * prediction.stderr + 0.1 * np.abs(truth - prediction.baseline).max())


def test_a_gate_of_ones_own_has_the_series_of_what_it_is_composed_of():
    names = example("08_own_gate.py")
    try:
        ours, theirs, prediction, truth = names["main"]()
        x = np.linspace(-3, 3, 7)
        assert names["snake"](x) == pytest.approx(x + np.sin(x) ** 2, rel=1e-14, abs=1e-14)
    finally:
        GATES.pop("snake")  # the table is everybody's
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert abs(prediction.value - truth) < 4 * prediction.stderr


def test_a_sketch_of_ones_own_training_predicts_the_retrained_loss():
    prediction, truth = example("09_own_model_and_optimiser.py")["main"](directions=128)
    # Four standard errors, and a tenth of the change for the orders left out.
    assert abs(prediction.value - truth) < 4 * prediction.stderr + 0.1 * abs(truth - prediction.baseline)
    assert abs(truth - prediction.baseline) > prediction.stderr


def test_a_stopped_sketch_goes_on_where_it_was(capsys):
    pushed, same, prediction, truth = example("10_interrupted_and_resumed.py")["main"](directions=128, count=100)
    done, blocks = pushed[-1]
    assert done == blocks > 0 and pushed[0][0] > blocks // 2  # what was done is not done again
    assert same
    assert abs(prediction.value - truth) < 4 * prediction.stderr
    assert "incomplete:" in capsys.readouterr().out


def test_the_names_that_a_reverse_sweep_ranks_first_matter_as_it_says():
    found, ids, changes = example("11_influence_in_seconds.py")["main"](count=200)
    names = [found.items[i] for i in found.top(8)]
    # Nine of 200 names begin like it: among eight at random, one would be luck.
    assert sum(name.startswith("ma") for name in names) >= 2
    # Over all five, a quarter of the changes for the orders above the first.
    assert np.linalg.norm(changes - found.change[ids]) < np.linalg.norm(changes) / 4
    assert np.array_equal(np.sign(changes), np.sign(found.change[ids]))


def test_a_metagradient_finds_wrong_labels_and_better_weights():
    suspects, wrong, w, losses = example("12_wrong_labels_by_a_metagradient.py")["main"](count=200)
    # Ten of 200 are wrong: at random, one of the first twenty would be.
    assert np.isin(suspects[:20], wrong).sum() >= 8
    trusted, others = np.array(losses).T
    assert np.all(np.diff(trusted) < 0) and others[-1] < others[0]
    assert w[wrong].mean() > 0.1 > np.delete(w, wrong).mean()


def test_a_larger_budget_has_a_smaller_error_and_owners_are_exact(capsys):
    results, changes, retrained = example("13_a_budget.py")["main"]()
    errors, covered = np.array(results).T
    assert errors[-1] < 0.5 * errors[0] and errors[-1] < 0.2
    # 40 truths, 48 retrained subsets: the share held has a deviation of (.1 .9)^(1/2) (1/40 + 1/48)^(1/2) = .064.
    assert covered[1:].min() > 0.9 - 2.5 * 0.064
    baseline = retrained - changes
    assert baseline[0] == pytest.approx(baseline[1], rel=1e-9)
    assert "exact for one group" in capsys.readouterr().out


def test_a_transformer_in_flax_is_taught_by_names_that_are_alike(capsys):
    for library in ("flax", "optax"):
        pytest.importorskip(library, reason="the extra frontends is not installed")
    ranked, _, prediction, truth, in_jax = example("14_a_flax_transformer.py")["main"](count=100, budget=60)
    assert abs(truth - in_jax) < 1e-4 * truth  # JAX's is in single precision
    # The calibration is on random subsets; names that were chosen because they are alike matter more than these.
    assert abs(prediction.value - truth) < 0.3 * abs(truth - prediction.baseline)
    assert "catherine" in ranked[:10] and "The loss on 'katherine'" in capsys.readouterr().out


def test_a_network_in_pytorch_finds_wrong_labels_and_retrains_alike():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'torch==2.13.0+cpu'")
    suspects, wrong, here, there = example("15_mislabelled_images_in_pytorch.py")["main"](count=120, epochs=6)
    # Six of 120 are wrong: at random, less than one of the first twelve would be.
    assert np.isin(suspects[:12], wrong).sum() >= 3
    assert here == pytest.approx(there, rel=1e-4)  # PyTorch's in single precision


def test_a_head_of_ten_thousand_parameters_is_asked_about():
    params, effects, ids, changes = example("16_a_head_on_frozen_features.py")["main"](count=150, epochs=4)
    assert 1e4 < sum(leaf.size for leaf in params.values()) < 1e5
    # To first order, over five examples; a quarter of the changes for the orders above.
    assert np.linalg.norm(changes - effects.change[ids]) < np.linalg.norm(changes) / 4
    assert np.array_equal(np.sign(changes), np.sign(effects.change[ids]))
