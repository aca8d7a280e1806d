"""microgpt against numbers that a slow, independent implementation computed once: see data/README.md.

Tolerance: each coefficient to 1e-9 of its own size. One that is small by cancellation carries the rounding of
those it is the difference of, so entries also pass within 1e-12 of the largest coefficient of their order:
evaluated by an FFT of trainings on a circle of complex weights, a third way, the same numbers differ by at
most 2e-13 of the largest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.zoo import microgpt

ORDER = 4
RELATIVE = 1e-9
OF_LARGEST = 1e-12


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "data" / "microgpt_golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def run(golden):
    docs, alphabet = (golden[key].tolist() for key in ("docs", "alphabet"))
    return microgpt.training(docs, init=golden["init"], alphabet="".join(alphabet))


@pytest.fixture(scope="module")
def pushed(run, golden):
    return cs.push(run, golden["directions"], ORDER)


@pytest.fixture(scope="module")
def deletion(golden):
    """The real direction 1_deleted."""
    downweights = np.zeros(len(golden["docs"]))
    downweights[golden["deleted"]] = 1.0
    return downweights


def assert_coefficients_agree(ours, theirs):
    """Compare arrays (..., order + 1), order by order."""
    assert ours.shape == theirs.shape
    for k in range(theirs.shape[-1]):
        floor = OF_LARGEST * np.abs(theirs[..., k]).max()
        np.testing.assert_allclose(ours[..., k], theirs[..., k], rtol=RELATIVE, atol=floor, err_msg=f"order {k}")


def test_the_parameters_are_named_and_ordered_as_in_the_golden_file(run, golden):
    shapes = {name: value.shape for name, value in run.train()["params"].items()}
    listed = [f"{name}:{rows}x{columns}" for name, (rows, columns) in shapes.items()]
    assert listed == golden["shapes"].tolist()


def test_every_trained_parameter_has_the_golden_coefficients(pushed, golden):
    names = [entry.split(":")[0] for entry in golden["shapes"]]
    # One direction's leaf is (order + 1, rows, columns): orders last, then row by row.
    leaves = [np.moveaxis(pushed.state["params"][name][0], 0, -1).reshape(-1, ORDER + 1) for name in names]
    assert_coefficients_agree(np.concatenate(leaves), golden["params"])


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("name", ["max", "lena", "theodore"])
def test_the_loss_on_a_name_has_the_golden_coefficients(pushed, golden, name, direction):
    ours = pushed.measure(microgpt.loss, name).coefficients[direction]
    theirs = golden[f"loss_{name}_{direction}"]
    assert ours.shape == theirs.shape
    # A single series: nothing to be small among, so each coefficient stands alone.
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=0.0)


def test_the_loss_along_a_deletion_has_the_golden_coefficients(run, golden, deletion):
    query = cs.push(run, deletion[None, :], ORDER).measure(microgpt.loss, "max")
    np.testing.assert_allclose(query.coefficients[0], golden["along_deletion_loss_max"], rtol=RELATIVE, atol=0.0)


@pytest.mark.parametrize("downweight", [0.0, 0.5, 1.0])
def test_retraining_gives_the_golden_loss(run, golden, deletion, downweight):
    params = run.params(run.retrain(without=downweight * deletion))
    np.testing.assert_allclose(microgpt.loss(params, "max"), golden[f"retrained_max_{downweight}"], rtol=RELATIVE)


def test_plain_training_gives_the_constant_terms(run, golden):
    params = run.params(run.train())
    flat = np.concatenate([value.ravel() for value in params.values()])
    assert_coefficients_agree(flat[:, None], golden["params"][:, :1].real)
