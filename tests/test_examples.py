"""The examples run, and what they return is right."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    """What an example defines."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def test_every_example_is_tested_and_numbered_from_one():
    numbers = [int(path.name[:2]) for path in sorted(EXAMPLES.glob("*.py"))]
    assert numbers == [1, 2, 3]


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


def test_a_sketch_of_ones_own_training_predicts_the_retrained_loss():
    prediction, truth = example("03_own_model_and_optimiser.py")["main"](directions=128)
    # Four standard errors, and a tenth of the change for the orders left out.
    assert abs(prediction.value - truth) < 4 * prediction.stderr + 0.1 * abs(truth - prediction.baseline)
    assert abs(truth - prediction.baseline) > prediction.stderr
