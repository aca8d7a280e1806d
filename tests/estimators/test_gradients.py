"""The theorem's estimator in gradient form: unbiased, exact at order 1, an order ahead of the plain one in variance."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.directions import Gaussian, Orthonormal, Sphere
from circuitsketch.errors import InputError
from circuitsketch.estimators.gradients import GradientMonteCarlo
from circuitsketch.estimators.interface import Measurement
from circuitsketch.estimators.monte_carlo import MonteCarlo

N = 12
RNG = np.random.default_rng(3)
LINEAR, FACTORS, CUBES = RNG.normal(size=N), RNG.normal(size=(5, N)), RNG.normal(size=(4, N)) / 3


def exact_terms(h):
    """f(h) = g.h + sum_a (u_a.h)^2 + sum_b (v_b.h)^3, order by order."""
    return np.array([LINEAR @ h, ((FACTORS @ h) ** 2).sum(), ((CUBES @ h) ** 3).sum()])


def gradients(psi):
    """Coefficients (m, 3, n, 1) of df(z psi), by hand."""
    first = np.broadcast_to(LINEAR, psi.shape)
    second = 2 * (psi @ FACTORS.T) @ FACTORS
    third = 3 * (psi @ CUBES.T) ** 2 @ CUBES
    return np.stack([first, second, third], axis=1)[..., None]


def values(psi):
    """Coefficients (m, 4) of f(z psi), by hand."""
    terms = psi @ LINEAR, ((psi @ FACTORS.T) ** 2).sum(axis=1), ((psi @ CUBES.T) ** 3).sum(axis=1)
    return np.stack([np.zeros(len(psi)), *terms], axis=1).astype(complex)


def estimator(distribution, m):
    return GradientMonteCarlo(LINEAR[:, None], gradients(distribution.block(0, m)), distribution, median_groups=1)


H = RNG.normal(size=N) / 2


@pytest.mark.parametrize("distribution", [Sphere, Gaussian, Orthonormal])
def test_terms_are_unbiased_over_seeds_and_the_first_is_exact(distribution):
    terms = np.array([estimator(distribution(N, seed), 30).predict(H).terms for seed in range(400)])
    exact = exact_terms(H)
    assert terms[:, 0] == pytest.approx(np.full(400, exact[0]), rel=1e-13)
    for order in (1, 2):
        off = (terms[:, order].mean() - exact[order]) / (terms[:, order].std() / 20)
        assert abs(off) < 4
        assert terms[:, order].std() > 0


def test_a_basis_of_orthonormal_directions_makes_order_2_exact_too():
    found = estimator(Orthonormal(N, 1), N).predict(H, order=2)
    assert found.terms == pytest.approx(exact_terms(H)[:2], rel=1e-12)
    assert found.stderr == pytest.approx(0, abs=1e-12)


def test_order_2_is_as_noisy_as_order_1_of_a_linear_function_and_less_noisy_than_the_plain_one():
    by_gradient, plain, linear = [], [], []
    for seed in range(400):
        sphere = Sphere(N, seed)
        psi = sphere.block(0, 30)
        by_gradient.append(estimator(sphere, 30).predict(H).terms)
        plain.append(MonteCarlo(Measurement(values(psi), sphere), 1).predict(H).terms)
        row = 2 * (FACTORS @ H) @ FACTORS / 2  # F_2(., h), a linear form
        coefficients = np.stack([np.zeros(30), psi @ row], axis=1).astype(complex)
        linear.append(MonteCarlo(Measurement(coefficients, sphere), 1).predict(H).terms)
    noise, others, of_row = (np.std(part, axis=0) for part in (by_gradient, plain, linear))
    assert noise[1] == pytest.approx(of_row[0], rel=1e-9)
    assert noise[0] < 1e-12 < others[0]
    assert noise[1] < others[1] / 1.5 and noise[2] < others[2] / 1.5


@pytest.mark.parametrize(("distribution", "order"), [(Sphere, 2), (Sphere, 3), (Gaussian, 2)])
def test_intervals_cover_as_often_as_they_say(distribution, order):
    covered = 0
    for seed in range(400):
        found = estimator(distribution(N, seed), 60).predict(H, order)
        covered += abs(found.change - exact_terms(H)[:order].sum()) < 1.96 * found.stderr
    assert 0.91 <= covered / 400 <= 0.99  # binomial: .95 +- 4 x .011


def test_the_norms_of_orders_are_those_of_the_tensors():
    norms = np.exp(estimator(Sphere(N, 0), 2000).region.log_norms)
    second = np.linalg.norm(FACTORS.T @ FACTORS)
    cube = np.linalg.norm(np.einsum("bi,bj,bk->ijk", CUBES, CUBES, CUBES))
    assert norms[0] == pytest.approx(np.linalg.norm(LINEAR), rel=1e-12)
    assert norms[1:] == pytest.approx([second, cube], rel=0.05)


def test_batches_and_influences_are_single_answers():
    one = estimator(Sphere(N, 2), 20)
    rows = np.stack([H, np.zeros(N), np.eye(N)[3]])
    together = one.predict(rows)
    for i, h in enumerate(rows):
        alone = one.predict(h)
        for name in ("change", "stderr", "truncation"):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name), rel=1e-12)
    effects = one.influence()
    assert effects.change[3] == pytest.approx(together.change[2], rel=1e-12)
    assert effects.stderr[3] == pytest.approx(together.stderr[2], rel=1e-12)


# ------------------------------------------------------------------------------------------ of runs


def quadratic_run(n=10, seed=0):
    """A run of n steps whose measurement has the series of a polynomial: products of two examples' weights."""
    x = np.random.default_rng(seed).normal(size=(n, 3))

    def step(s, batch, keep):
        return {
            "sum": s["sum"] + keep.sum() * batch,
            "square": s["square"] + keep.sum() * (s["sum"] * batch).sum(),
        }

    state = {"sum": np.zeros(3), "square": np.zeros(())}
    return cs.Training(step, state, x, [[i] for i in range(n)])


def test_a_query_with_gradients_answers_as_retraining_does_for_a_quadratic_run():
    run = quadratic_run()
    query = cs.sketch(run, 4, 1).measure(lambda s: np.stack([s["square"], s["sum"].sum()]))
    exact = query.with_gradients(run.n)  # orthonormal directions: all of the Hessian
    for ids in ([1], [0, 4, 7], list(range(10))):
        found = exact.without(ids)
        state = run.retrain(without=ids)
        assert found.value == pytest.approx([float(state["square"]), state["sum"].sum()], rel=1e-10, abs=1e-10)
        assert found.estimator == "theorem-gradient" and found.directions == run.n
    assert exact.influence().order == 2
    few = query.with_gradients(5).without([0, 4, 7])
    low, high = few.interval(0.999)
    state = run.retrain(without=[0, 4, 7])
    assert low[0] < state["square"] < high[0] and few.stderr[0] > 0
    assert few.terms[0] == pytest.approx(exact.without([0, 4, 7]).terms[0], rel=1e-12)


def test_a_query_with_gradients_keeps_its_other_estimators_and_pytrees():
    run = quadratic_run()
    query = cs.sketch(run, 4, 2, per_example="series").measure(lambda s: {"a": s["square"], "b": s["sum"]})
    more = query.with_gradients(run.n, threads=1)
    state = run.retrain(without=[2, 5])
    assert more.without([2, 5]).value["a"] == pytest.approx(float(state["square"]), rel=1e-10)
    assert more.without([2, 5]).value["b"] == pytest.approx(state["sum"], rel=1e-10)
    same = more.without([2, 5], estimator="interactions"), query.without([2, 5])
    for name in ("a", "b"):
        assert same[0].value[name] == pytest.approx(same[1].value[name], rel=1e-12)
    assert set(more.estimators) == {*query.estimators, "theorem-gradient"}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: cs.sketch(run, 2, 1).measure(get).with_gradients(order=1), "order"),
        (lambda run: cs.sketch(run, 2, 1).measure(get).with_gradients(0), "directions"),
        (lambda run: cs.push(run, [np.ones(10)], order=1).measure(get).with_gradients(), "random directions"),
        (lambda run: cs.sketch(run, 2, 1).measure(get).without([0], estimator="theorem-gradient"), "with_gradients"),
        (lambda run: cs.local_sketch(lambda x: x.sum(), np.ones(3), 4, 1).with_gradients(), "was made from"),
    ],
)
def test_what_has_no_gradients_is_refused(ask, message):
    with pytest.raises(InputError, match=message):
        ask(quadratic_run())


def get(state):
    return state["square"]
