"""Single functions of PyTorch on wires: values, gradients and series against PyTorch's own, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.backends import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'torch==2.13.0+cpu'")

from torch_steps import ELEMENTWISE, SHAPES  # noqa: E402

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
FUNCTIONS = ELEMENTWISE | SHAPES


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradient_are_pytorchs(name):
    function = FUNCTIONS[name]
    imported = cs.torch.function(function)
    theirs = function(torch.tensor(X), torch.tensor(Y)).numpy()
    weights = np.cos(np.arange(theirs.size)).reshape(theirs.shape)
    np.testing.assert_allclose(imported(X, Y), theirs, rtol=1e-12, atol=1e-13)
    ours = cs.grad(lambda pair: np.sum(weights * imported(*pair)))((X, Y))
    x, y = torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)
    (torch.tensor(weights) * function(x, y)).sum().backward()
    for mine, their in zip(ours, (x.grad, y.grad), strict=True):
        expected = np.zeros((3, 4)) if their is None else their.numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_taken_by_pytorch_is_imported_with_its_slope(name):
    """The gradient's own derivative along a direction against differences of PyTorch's gradients."""
    function = FUNCTIONS[name]

    def gradient(x):
        return torch.func.grad(lambda x: function(x, torch.tensor(Y)).sin().sum())(x)

    h = RNG.uniform(-1.0, 1.0, X.shape)
    circuit = cs.trace(cs.torch.function(gradient), X)
    series = reference.run(circuit, [X], [h[None, None]], 1)[0][0].real
    np.testing.assert_allclose(series[0], gradient(torch.tensor(X)).numpy(), rtol=1e-11, atol=1e-12)
    nodes = np.array([-2, -1, 1, 2])
    values = np.array([gradient(torch.tensor(X + 1e-4 * z * h)).numpy() for z in nodes])
    slope = np.tensordot([1.0, -8.0, 8.0, -1.0], values, 1) / 12e-4
    # Differences of order 4 with a step of 1e-4: 1e-12 of rounding, and 1e-16 times the fifth derivative.
    np.testing.assert_allclose(series[1], slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_a_measurement_may_use_data_of_the_dtype_that_the_model_was_trained_in(kind):
    torch.set_default_dtype(torch.float32)  # as PyTorch has it
    data = torch.linspace(-1, 1, 8, dtype=getattr(torch, kind)).reshape(4, 1, 2)
    rnn = torch.nn.RNN(2, 3).to(data.dtype)  # refuses data of another dtype than its weights
    params = {name: p.detach().numpy().astype(np.float64) for name, p in rnn.named_parameters()}

    @cs.torch.function
    def measure(p):
        return torch.func.functional_call(rnn, p, (data,))[0].sum()

    circuit = cs.trace(measure, params)
    right = rnn(data)[0].sum().item()
    tolerance = 1e-13 if kind == "float64" else 1e-5
    assert cs.compile(circuit)(params) == pytest.approx(right, rel=tolerance)
    assert measure(params) == pytest.approx(right, rel=tolerance)


def test_what_fails_in_either_precision_is_refused_with_the_first_reason():
    torch.set_default_dtype(torch.float32)
    rnn = torch.nn.RNN(2, 3).half()
    measure = lambda p: rnn(p.reshape(4, 1, 2))[0].sum()  # noqa: E731
    with pytest.raises(cs.TraceError, match=r"_functions.py:\d+: .*torch.float32.* does not match .*float16"):
        cs.trace(cs.torch.function(measure), np.ones(8))


def test_a_measurement_is_traced_once_for_all_retrained_models(monkeypatch):
    calls = []
    scale = [1.0]

    @cs.torch.function
    def measure(p, power):
        calls.append(power)
        return scale[0] * (p**power).sum()

    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(2), [1.0, 2.0, 4.0], [[0], [1], [2]])
    rows = np.eye(3)
    for power in (2, 3):
        query = cs.attribute(run, lambda p, k=power: measure(p, k), budget=20)
        del calls[:]
        truth = query.source.retrain(rows)
        np.testing.assert_allclose(truth, 2 * np.array([6.0, 5.0, 3.0]) ** power, rtol=1e-14)
        assert calls == [power]
    assert measure(np.ones(2), 2) == 2.0
    scale[0] = 3.0  # elsewhere, a function may close over something that changes
    assert measure(np.ones(2), 2) == 6.0


def test_a_measurement_without_derivatives_is_traced_once_in_all_threads():
    calls = []

    @cs.torch.function
    def measure(p):
        calls.append(1)
        return (torch.arange(3.0) @ torch.stack([p, p, p]) > 4.0).float().sum()

    first = np.array([1.0, -1.0])
    run = cs.Training(lambda s, x, keep: s + keep.mean() * x, first, list(range(1, 41)), [[i] for i in range(40)])
    query = cs.attribute(run, measure, budget=100, threads=2)
    assert "no derivatives" in str(query.plan) or "without derivatives" in str(query.plan)
    assert query.without([3]).value == 2.0 and len(calls) <= 12
