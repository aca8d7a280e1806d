"""What front ends are written with: the table of operations, and the lines that they name."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.extend import OPERATIONS, Builder, Place, located

PLACE = Place("/somewhere/model.py", 17)


def test_gates_and_errors_name_the_line_that_a_front_end_sets():
    build = Builder()
    x = build.input((3,))
    with located(PLACE):
        y = OPERATIONS["exp"](x)
        with pytest.raises(cs.ShapeError, match=r"model\.py:17"):
            OPERATIONS["add"](y, np.ones(4))
    z = OPERATIONS["sum"](y)
    circuit = build.finish([x], [z], ["x"], ["z"])
    assert [str(node.place) for node in circuit.nodes if node.gate.name == "exp"] == ["model.py:17"]
    assert circuit.nodes[z.index].place.file == __file__
    assert evaluate(circuit, [np.zeros(3)]) == [3.0]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pad", ((1, -1), (-1, 2), (0, 1), 7.0)),
        ("slice", ((0, 1), (3, 4), (2, 1))),
        ("slice_at", ((np.array(1), np.array(9)), (2, 2))),
        ("broadcast_axes", ((3, 2, 4), (0, 2))),
        ("cbrt", ()),
        ("sign", ()),
        ("clip", (-0.5, 0.5)),
        ("isfinite", ()),
        ("flip", (1,)),
        ("cummax", (1,)),
        ("pool_max", ((2, 2), (1, 2), ((0, 1), (1, 0)))),
        ("pool_sum", ((2, 2), (1, 2), ((0, 1), (1, 0)))),
    ],
)
def test_an_operation_is_the_same_on_arrays_and_on_wires(name, arguments):
    x = np.random.default_rng(0).normal(size=(3, 4))
    if name == "cummax":
        expected, operation = np.maximum.accumulate(x, axis=1), lambda x: OPERATIONS[name](x, axis=1)
    else:
        operation = lambda x: OPERATIONS[name](x, *arguments)  # noqa: E731
        expected = operation(x)
    np.testing.assert_allclose(cs.compile(cs.trace(operation, x))(x), expected, rtol=1e-14)


def test_a_convolution_is_its_sum_over_the_kernel():
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(2, 2, 7)), rng.normal(size=(3, 2, 3))
    for stride, gap, dilation in ((1, 1, 1), (2, 1, 2), (1, 3, 1), (1, 2, 2)):
        spread = np.zeros((2, 2, 6 * gap + 1 + 2 + 1))
        spread[:, :, 2 : 2 + 6 * gap + 1 : gap] = x  # padded by 2 before and 1 after
        places = (spread.shape[2] - 2 * dilation - 1) // stride + 1
        expected = np.zeros((2, 3, places))
        for p in range(places):
            for u in range(3):
                expected[:, :, p] += spread[:, :, p * stride + u * dilation] @ kernel[:, :, u].T
        y = OPERATIONS["convolve"](x, kernel, (stride,), ((2, 1),), (gap,), (dilation,))
        np.testing.assert_allclose(y, expected, atol=1e-13)
