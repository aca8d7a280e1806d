"""Single examples summed, their interactions in a similarity, and evidence: against tensors, refits and real
retraining."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from polynomials import along, coefficients_of, query_with_singles, symmetric

import circuitsketch as cs
from circuitsketch.attribution.query import Query
from circuitsketch.directions import Orthonormal, Sphere
from circuitsketch.estimators import own_effects
from circuitsketch.estimators.convergence import sentences_of_beyond
from circuitsketch.estimators.interactions import fitting, posterior, priors
from circuitsketch.estimators.interactions.posterior import MANY
from circuitsketch.zoo import mlp

N = 12


def low_rank(seed=0, n=N, rank=2):
    """A polynomial of degree 3 whose interactions of order 2 live in a similarity of this rank, and the similarity's
    factor."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, rank))
    core = symmetric(rng, rank, 2)
    return [rng.normal(size=n), factor @ core @ factor.T, 1e-6 * symmetric(rng, n, 3)], factor


# ------------------------------------------------------------------------------------------- the kernel and its fit


@pytest.mark.parametrize("r", [2, 3])
def test_the_kernel_is_the_covariance_of_the_off_diagonal_part_of_a_random_tensor(r):
    n, rng = 3, np.random.default_rng(r)
    factor = rng.normal(size=(n, n))
    similarity = factor @ factor.T
    rows = rng.normal(size=(2, n)) + 1j * rng.normal(size=(2, n))
    indices = [a for a in product(range(n), repeat=r) if len(set(a)) > 1]

    def covariance(x, y):  # E O(x) O(y), index by index, from E T_a T_b = the mean over orders p of prod S_{a b_p}
        return sum(
            np.prod(x[list(a)])
            * np.prod(y[list(b)])
            * np.mean(
                [np.prod([similarity[i, b[j]] for i, j in zip(a, p, strict=True)]) for p in permutations(range(r))]
            )
            for a in indices
            for b in indices
        )

    found = priors.kernel_matrix(similarity, rows, r)
    for i, j in product(range(2), repeat=2):
        plain, conjugate = covariance(rows[i], rows[j]), covariance(rows[i], rows[j].conj())
        # Re a Re b = Re (ab + a conj b) / 2, and so on; sums of some hundred terms of size up to a thousand.
        assert found[i, j] == pytest.approx((plain + conjugate).real / 2, rel=1e-9, abs=1e-9)
        assert found[2 + i, 2 + j] == pytest.approx((conjugate - plain).real / 2, rel=1e-9, abs=1e-9)
        assert found[2 + i, j] == pytest.approx((plain + conjugate).imag / 2, rel=1e-9, abs=1e-9)
        assert found[i, 2 + j] == pytest.approx((plain - conjugate).imag / 2, rel=1e-9, abs=1e-9)


def test_closed_form_leave_one_out_is_leaving_one_out():
    rng = np.random.default_rng(1)
    m = 6
    half = rng.normal(size=(2 * m, 2 * m))
    matrix, seen = half @ half.T / m, rng.normal(size=(2 * m, 1))
    values, vectors = np.linalg.eigh(matrix)
    loss, _, surprise = fitting.left_out(values, vectors, seen)
    for at, tau in enumerate(fitting.TAUS):
        whole, squares, terms = matrix + tau * np.eye(2 * m), 0.0, []
        for j in range(m):
            out, rest = [j, m + j], [i for i in range(2 * m) if i not in (j, m + j)]
            gain = whole[np.ix_(out, rest)] @ np.linalg.inv(whole[np.ix_(rest, rest)])
            error = seen[out, 0] - gain @ seen[rest, 0]
            spread = whole[np.ix_(out, out)] - gain @ whole[np.ix_(rest, out)]
            squares += error @ error
            terms.append((error @ np.linalg.solve(spread, error), np.log(np.linalg.det(spread))))
        scale = sum(q for q, _ in terms) / (2 * m)
        assert loss[at, 0] == pytest.approx(squares / (seen**2).sum(), rel=1e-8)
        assert surprise[at, 0] == pytest.approx(2 * m * np.log(scale) + sum(d for _, d in terms), rel=1e-8)


def test_interactions_are_learned_that_per_example_series_miss():
    tensors, factor = low_rank()
    query = query_with_singles(tensors, 60, N, factor)
    h = (np.random.default_rng(3).random((40, N)) < 0.4).astype(float)
    h = h[h.sum(axis=1) > 1]
    truth = sum(along(t, h) for t in tensors)
    model = query.interactions
    at = model.points(h)
    off = along(tensors[1], h) - h**2 @ np.diag(tensors[1])
    mean = model.see(model.orders[0], at).mean[:, 0]
    assert np.sqrt(((mean - off) ** 2).mean()) < 0.1 * off.std()  # three unknowns, 120 observations
    assert model.orders[0].explained[0] > 0.9
    alone = query.predict(h, estimator="per-example")
    assert np.sqrt(((alone.change - truth) ** 2).mean()) > 0.5 * off.std()


def test_the_mean_at_h_is_that_of_the_textbook():
    """k(h, psi) (K + tau)^-1 y, with k by its definition."""
    tensors, factor = low_rank(seed=4)
    model = query_with_singles(tensors, 20, N, factor).interactions
    fit, s = model.orders[0], model.prior.similarity
    psi = model.prior.directions
    observed = along(tensors[1], psi) - psi**2 @ np.diag(tensors[1])
    columns = posterior.shapes(model.per_example, 2, psi, psi @ model.prior.cosines)[:, :, 0]
    rest = observed - fit.shapes[:, 0] @ columns
    matrix = priors.kernel_matrix(s, psi, 2) / fit.size + fit.tau[0] * np.eye(40)
    alpha = np.linalg.solve(matrix, np.concatenate([rest.real, rest.imag]))
    h = np.zeros((3, N))
    h[0, [1, 5]], h[1, :9], h[2] = 1, 1, np.linspace(-1, 0.5, N)

    def k(x, y):
        return (x @ s @ y) ** 2 - (x @ s) ** 2 @ y**2 - x**2 @ (s @ y) ** 2 + x**2 @ s**2 @ y**2

    for row in h:
        weights = np.array([k(row, p) for p in psi]) / fit.size
        both = posterior.shapes(model.per_example, 2, row[None], (row @ model.prior.cosines)[None])
        shaped = fit.shapes[:, 0] @ both[:, 0, 0]
        truth = np.concatenate([weights.real, weights.imag]) @ alpha + shaped
        found = model.see(fit, model.points(row[None])).mean[0, 0]
        assert found == pytest.approx(truth, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("like", [True, False])
def test_batches_of_sparse_subsets_agree_with_single_ones(masks, like):
    """The compiled sums over rows and pairs against plain products; 70 examples are more than one tile."""
    n, rng = 70, np.random.default_rng(9)
    factor = rng.normal(size=(n, 1))
    tensors = [rng.normal(size=n), *(symmetric(rng, n, r, factor @ factor.T) for r in (2, 3, 4))]
    model = query_with_singles(tensors, 30, n, factor if like else None).interactions
    if like:  # both shapes at work
        model = replace(model, orders=tuple(replace(f, shapes=np.ones((2, 1))) for f in model.orders))
    h = (rng.random((MANY, n)) < 0.1) * (1.0 if masks else rng.normal(size=(MANY, n)))
    h[3] = 0
    few = model.points(h)
    square, many = model.look(h, model.orders)
    assert not like or all(model.see(fit, few).mean.any() for fit in model.orders)
    # Products with the similarity are in single precision: 1e-7 of sums of some hundred numbers.
    assert square == pytest.approx(few.square, rel=1e-5, abs=1e-5 * few.square.max())
    for fit, found in zip(model.orders, many, strict=True):
        right = model.see(fit, few)
        spread = np.sqrt(right.prior).max()
        assert found.mean == pytest.approx(right.mean, abs=1e-5 * np.abs(right.mean).max())
        assert found.shaped == pytest.approx(right.shaped, rel=1e-5, abs=1e-5 * spread)
        assert found.prior == pytest.approx(right.prior, rel=1e-5, abs=1e-5 * spread**2)
        assert found.variance == pytest.approx(right.variance, rel=1e-4, abs=1e-5 * spread**2)


def test_a_large_example_does_not_drown_the_interactions_of_small_ones():
    """Its own terms are a million times theirs and cancel in k(h, h)."""
    n = 40
    factor = np.ones((n, 1)) + np.random.default_rng(1).normal(size=(n, 2))
    factor[0] *= 1e3
    tensors = [np.ones(n), factor @ factor.T, np.zeros((n, n, n))]
    model = query_with_singles(tensors, 10, n, factor).interactions
    assert model.prior.name == "given"
    h = np.zeros((MANY, n))
    h[:, 0] = h[np.arange(MANY), 1 + np.arange(MANY)] = 1
    few = model.see(model.orders[0], model.points(h))
    assert model.look(h, model.orders)[1][0].prior == pytest.approx(few.prior, rel=1e-4)


def test_measurements_of_a_sketch_share_what_does_not_depend_on_them():
    data = mlp.data(40)
    run = mlp.training(data.x, data.y, epochs=2)
    sketch = cs.sketch(run, 20, 2, per_example="series")
    measure = lambda p: mlp.margin(p, data.test_x[:2], data.test_y[:2])  # noqa: E731
    one, two = sketch.measure(measure), sketch.measure(measure)
    assert one.without([0, 1], estimator="theorem").estimator == "theorem"
    assert "similarity" not in vars(sketch) and "directions" not in vars(sketch.priors)  # the theorem needs neither
    right = Query(one.coefficients, one.distribution, per_example=one.per_example, similarity=sketch.similarity)
    for query in (one, two):
        assert query.without([0, 1, 5]).value == pytest.approx(right.without([0, 1, 5]).value, rel=1e-12)
    shared = {name for name, prior in sketch.priors.found.items() if prior.found}
    assert shared and all(two.priors.found[name] is one.priors.found[name] for name in shared)


def test_interactions_that_are_noise_shrink_to_nothing():
    rng = np.random.default_rng(5)
    n = 60
    first, noise = rng.normal(size=n), symmetric(rng, n, 2) * 0.01
    query = query_with_singles([first, noise], 40, n, rng.normal(size=(n, 3)))
    h = (rng.random((50, n)) < 0.1).astype(float)
    h = h[h.sum(axis=1) > 1]
    truth = h @ first + along(noise, h)
    error = [
        np.sqrt(((query.predict(h, estimator=e).change - truth) ** 2).mean()) for e in ("interactions", "per-example")
    ]
    assert error[0] < 1.1 * error[1]


def test_equal_examples_may_do_together_what_each_does_with_itself_and_that_is_a_guess():
    ones, c = np.ones(N), 0.3
    query = query_with_singles([ones, c * np.ones((N, N)), np.zeros((N,) * 3)], 20, N, ones[:, None])
    fits = tuple(replace(fit, shapes=np.zeros((2, 1))) for fit in query.interactions.orders)
    vars(query.fit)["model"] = replace(query.interactions, orders=fits)
    assert query.interactions.prior.name == "given"
    found = query.without(range(6))
    # Coherence is 6, less sqrt(2 / 2) that chance may make of two dimensions; each F_ii is c, and there are 6 of them.
    assert found.stderr == pytest.approx(c * (6 - 1 - 1) * 6, rel=1e-3)
    assert found.degrees_of_freedom == pytest.approx(own_effects.GUESSED, rel=1e-3)
    low, high = found.interval(0.95)
    assert high - low == pytest.approx(2 * 3.182446 * found.stderr, rel=1e-3)  # of any printed table
    signs, rng = np.where(np.arange(N) % 2, 1.0, -1.0), np.random.default_rng(2)
    query = query_with_singles([signs, symmetric(rng, N, 2), np.zeros((N,) * 3)], 40, N, np.eye(N))
    assert query.without(range(6)).degrees_of_freedom > 1000  # examples that act apart: what was measured is all


@pytest.mark.parametrize("beyond, warned", [(0.05, False), (0.2, True)])
def test_the_warning_asks_what_orders_above_may_add_to_the_change(beyond, warned):
    found = sentences_of_beyond(np.array(beyond), own_effects.TRUST)
    assert any("may add 0.2 of the change" in text for text in found) == warned


# ------------------------------------------------------------------------------------------- the query


def test_one_example_is_its_own_series_and_influence_is_all_of_them():
    tensors, factor = low_rank()
    query = query_with_singles(tensors, 40, N, factor)
    truth = np.array([sum(along(t, e[None])[0] for t in tensors) for e in np.eye(N)])
    influence = query.influence(top=3)
    assert influence.change == pytest.approx(truth, rel=1e-12)
    assert influence.estimator == "per-example" and len(influence.top()) == 3
    assert influence.top()[0] == np.abs(truth).argmax() and f"{N - 3} smaller ones" in str(influence)
    found = query.without([4])
    assert found.estimator == "interactions" and found.change == pytest.approx(truth[4], rel=1e-12)
    assert found.warnings == () and not found.outside
    assert query.predict(np.eye(N)[4], estimator="first-order").change == pytest.approx(tensors[0][4])


def test_each_estimator_says_its_name_and_needs_its_data():
    tensors, factor = low_rank()
    query = query_with_singles(tensors, 40, N, factor)
    h = np.zeros(N)
    h[:3] = 0.1
    for name in ("theorem", "per-example", "interactions", "first-order"):
        found = query.predict(h, estimator=name)
        assert found.estimator == name and found.to_dict()["estimator"] == name
        assert "<table>" in found._repr_html_()
    with pytest.raises(cs.InputError, match="no estimator 'best'"):
        query.predict(h, estimator="best")
    with pytest.raises(cs.InputError, match="no median"):
        query.predict(h, median_groups=3)
    plain = Query(query.coefficients, query.distribution)
    assert plain.predict(h).estimator == "theorem"
    with pytest.raises(cs.InputError, match="per_example='series'"):
        plain.predict(h, estimator="per-example")


def test_without_random_directions_the_error_of_several_examples_is_unknown():
    tensors, _ = low_rank()
    query = query_with_singles(tensors, 0, N)
    several = query.without([0, 1])
    assert np.isinf(several.stderr) and any("nothing was measured" in text for text in several.warnings)
    assert several.change == pytest.approx(sum(along(t, np.eye(N)[:2]).sum() for t in tensors), rel=1e-12)
    assert np.isfinite(query.without([0]).stderr)
    for ask in (query.stability, lambda: query.without([0], estimator="theorem")):
        with pytest.raises(cs.InputError, match="no random directions"):
            ask()


def test_labels_groups_and_questions_name_examples():
    tensors, factor = low_rank()
    labels, items = ["x", "y", "z"] * 4, list(range(N))
    query = query_with_singles(tensors, 40, N, factor, labels=labels, items=items)
    wanted = query.without([0, 3, 6, 9]).value
    assert query.without("x").value == wanted == query.without(label="x").value
    assert query.without(lambda i: i % 3 == 0).value == wanted
    assert query.without(["x", "y"]).value == query.without([i for i in range(N) if i % 3 < 2]).value
    assert query.without([[0], [1, 2]]).value.shape == (2,)
    numbered = query_with_singles(tensors, 40, N, factor, labels=[0, 1, 2] * 4)
    assert numbered.without(label=0).value == pytest.approx(wanted)
    for ask, words in (
        (lambda: query.without("q"), "no group 'q'; the labels are 'x', 'y', 'z'"),
        (lambda: query.without(lambda i: i), "True or False"),
        (lambda: numbered.without(lambda i: True), "items="),
        (lambda: query_with_singles(tensors, 40, N).without("x"), "labels="),
        (lambda: query.without([1], label="x"), "not both"),
        (lambda: query_with_singles(tensors, 40, N, labels=["a"]), "labels has 1 entries for n = 12 examples"),
        (lambda: query_with_singles(tensors, 40, N, np.ones((3, 2))), "a similarity is given"),
        (lambda: Query(query.coefficients, query.distribution, per_example=np.ones((3, 4))), "do not go with"),
    ):
        with pytest.raises(cs.InputError, match=words):
            ask()


# ------------------------------------------------------------------------------------------- evidence


def test_evidence_of_a_retrained_subset_corrects_similar_subsets():
    tensors, factor = low_rank(seed=6)
    query = query_with_singles(tensors, 12, N, factor)
    subsets = [[0, 1, 2], [3, 7], [5, 6, 8, 9]]
    truth = query.baseline + 1 + query.without(subsets).change  # the retrainings say: one more than predicted
    known = query.with_evidence(subsets, truth)
    found = known.without(subsets)
    assert found.value == pytest.approx(truth, abs=1e-3)
    assert np.all(found.stderr < 0.01 * query.without(subsets).stderr)
    near = [0, 1, 2, 4]
    moved = known.without(near).change - query.without(near).change
    assert moved > 0 and known.without(near).stderr < query.without(near).stderr
    both = query.with_evidence(subsets[:1], truth[:1]).with_evidence(subsets[1:], truth[1:])
    assert both.without(near).value == pytest.approx(known.without(near).value, rel=1e-9)
    for ask, words in (
        (lambda: query.with_evidence(subsets), "either values="),
        (lambda: query.with_evidence(subsets, truth[:2]), "evidence of shape"),
        (lambda: query_with_singles(tensors, 0, N).with_evidence(subsets, truth), "random directions of order 2"),
    ):
        with pytest.raises(cs.InputError, match=words):
            ask()


def test_evidence_of_one_example_corrects_every_subset_that_contains_it():
    tensors, factor = low_rank(seed=6)
    query = query_with_singles(tensors, 12, N, factor)
    truth = query.without([[3], [8]]).value + [0.7, -0.2]
    known = query.with_evidence([[3], [8]], truth)
    subsets = [[3], [8], [3, 5], [3, 8], [0, 1, 3, 7, 8], [0, 1, 7]]
    before, after = query.without(subsets), known.without(subsets)
    np.testing.assert_allclose(after.change - before.change, [0.7, -0.2, 0.7, 0.5, 0.5, 0.0], atol=1e-6)
    own = query.influence().stderr
    lost = before.stderr**2 - after.stderr**2
    np.testing.assert_allclose(lost[[0, 2]], own[3] ** 2, rtol=1e-5)
    np.testing.assert_allclose(lost[[3, 4]], own[3] ** 2 + own[8] ** 2, rtol=1e-5)
    assert after.stderr[-1] == before.stderr[-1]
    alone = known.influence()
    np.testing.assert_allclose(query.baseline + alone.change[[3, 8]], truth, rtol=1e-7)
    assert np.all(alone.stderr[[3, 8]] < 1e-3 * own[[3, 8]])
    rest = [i for i in range(N) if i not in (3, 8)]
    np.testing.assert_allclose(alone.change[rest], query.influence().change[rest], rtol=1e-12)
    np.testing.assert_allclose(alone.stderr[rest], own[rest], rtol=1e-12)


def test_evidence_that_says_what_is_known_already_changes_nothing():
    """An example without any effect has no error either, and nothing to divide by."""
    tensors, factor = low_rank(seed=6)
    for tensor in tensors:
        for axis in range(tensor.ndim):
            tensor[(slice(None),) * axis + (4,)] = 0
    query = query_with_singles(tensors, 12, N, factor)
    known = query.with_evidence([[4], [2]], query.without([[4], [2]]).value)
    for what in ([4], [4, 2], [2, 3]):
        assert known.without(what).value == pytest.approx(query.without(what).value, rel=1e-9)
        assert np.isfinite(known.without(what).stderr)


def test_coefficients_along_a_group_correct_its_orders():
    tensors, factor = low_rank(seed=7)
    rng = np.random.default_rng(8)
    tensors[1] = tensors[1] + 0.3 * symmetric(rng, N, 2)  # partly outside the similarity
    query = query_with_singles(tensors, 12, N, factor)
    h = np.zeros((1, N))
    h[0, [1, 2, 5]] = 1
    known = query.with_evidence(h.astype(bool), coefficients=coefficients_of(tensors, h, 1.0).real)
    truth = along(tensors[1], h)[0] - (h**2 @ np.diag(tensors[1]))[0]
    parts = own_effects.parts_of(known.measurement.flat_per_example, known.interactions, h, "interactions", 3)
    means, _ = known.estimators["interactions"].weighed.update(parts)
    assert means[0, 0, 0] == pytest.approx(truth, abs=1e-3 * abs(truth))
    assert abs(parts.means[0, 0, 0] - truth) > 0.01 * abs(truth)  # it was not known before


# ------------------------------------------------------------------------------------------- stability


def test_geometric_norms_give_their_rate_and_radius():
    psi = Orthonormal(1, 2).block(0, 4)
    found = Query((0.5 * psi) ** np.arange(6), Orthonormal(1, 2)).stability()
    assert found.rate[0] == pytest.approx(0.5) and found.radius[0] == pytest.approx(2.0)
    assert found.alpha(2.0) == pytest.approx(1.0) and "radius" in str(found)
    tensors, _ = low_rank()
    query = query_with_singles(tensors, 400, N)
    assert query.stability().norms[0] == pytest.approx(np.linalg.norm(tensors[0]), rel=1e-12)
    assert math.isnan(Query(np.array([[0, 1.0]]), Sphere(1)).stability().rate[0])


# ------------------------------------------------------------------------------------------- real retraining


@pytest.fixture(scope="module")
def digits():
    """A perceptron on 150 digits: the query, and truths of random deletions and of whole parts of classes."""
    data = mlp.data(150)
    run = mlp.training(data.x, data.y, epochs=6)
    rng = np.random.default_rng(0)
    x, y = data.test_x[:12], data.test_y[:12]
    rows = [rng.permutation(150)[:size] for size in (2, 4, 8, 40, 75) for _ in range(16)]
    rows += [np.flatnonzero(data.y == c) for c in range(10)]
    masks = np.zeros((len(rows), 150), dtype=bool)
    for mask, ids in zip(masks, rows, strict=True):
        mask[ids] = True
    pushed = cs.push(run, np.eye(150), 4)
    factor = np.concatenate([leaf[:, 1].real.reshape(150, -1) for leaf in pushed.state["params"].values()], axis=1)
    measure = lambda p: mlp.margin(p, x, y)  # noqa: E731
    per_example = pushed.measure(measure).coefficients
    random = cs.sketch(run, 100, 3, distribution="orthonormal").measure(measure)
    query = Query(random.coefficients, random.distribution, per_example=per_example, similarity=factor)
    return query, cs.evaluate(query, masks, run=run, measure=measure)


def test_the_warning_separates_good_predictions_from_bad_ones(digits):
    query, found = digits
    error = np.abs(found.prediction.value - found.truth) / np.abs(found.truth - query.baseline).mean(
        axis=1, keepdims=True
    )
    assert 0.2 < found.trusted.mean() < 0.8
    assert np.median(error[found.trusted]) < 0.5 * np.median(error[~found.trusted])
    assert any("outside the region of trust" in text for text in found.prediction.warnings)


def test_intervals_cover_where_there_is_no_warning(digits):
    _, found = digits
    inside = found.where(found.trusted)
    assert 0.9 < inside[0.95] and inside[0.5] < inside[0.8] < inside[0.95]
    # And they say something: their half width is below the typical change of a prediction that is trusted.
    change = np.abs(found.prediction.change)[found.trusted].mean()
    assert np.median(found.prediction.stderr[found.trusted]) < 0.5 * change


def test_the_default_estimator_is_as_good_as_per_example_and_better_than_first_order(digits):
    query, found = digits
    chosen = np.flatnonzero(found.trusted.all(axis=1))
    h = found.masks[chosen].astype(float)
    truth = found.truth[chosen]
    error = {
        name: np.sqrt(((query.predict(h, estimator=name).value - truth) ** 2).mean())
        for name in ("interactions", "per-example", "first-order")
    }
    assert error["interactions"] < 1.02 * error["per-example"] and error["per-example"] < error["first-order"]
