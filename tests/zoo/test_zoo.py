"""The zoo against independent arithmetic: Newton's method, closed forms, finite differences, retraining."""

from __future__ import annotations

import functools
import hashlib
import warnings
from importlib import resources

import numpy as np
import pytest
from scipy import signal, special

import circuitsketch as cs
from circuitsketch.errors import BoundsError, InputError, KinkWarning, TraceError
from circuitsketch.zoo import cnn, datasets, logistic, microgpt, mlp, supervised

COUNT = 40  # examples of the small trainings


def small(model, **options):
    """A training of a model on few examples, and a mean margin (of microgpt: a loss) to measure."""
    if model is microgpt:
        options = {"width": 8, "heads": 2, "layers": 2, "context": 8} | options
        docs = microgpt.names()[:COUNT]
        options["alphabet"] = microgpt.ALPHABET
        return microgpt.training(docs, **options), lambda p: microgpt.loss(p, "max", heads=2)
    data = model.data(COUNT)
    x, y = data.test_x[:30], data.test_y[:30]
    return model.training(data.x, data.y, **options), lambda p: model.margin(p, x, y).mean()


# A training of every model, with every optimiser and option somewhere among them.
TRAININGS = {
    "logistic": (logistic, {"epochs": 20, "weight_decay": 0.2}),
    "logistic in batches": (
        logistic,
        {"epochs": 2, "batch_size": 16, "optimiser": "adamw", "learning_rate": 0.02},
    ),
    "mlp": (mlp, {"epochs": 2, "batch_size": 8}),
    "mlp, deep": (
        mlp,
        {"epochs": 2, "layers": 2, "width": 6, "activation": "tanh", "schedule": cs.optim.cosine},
    ),
    "mlp, dropout": (mlp, {"epochs": 2, "dropout": 0.3, "activation": "silu", "clip": 0.5}),
    "cnn": (
        cnn,
        {"epochs": 2, "batch_size": 10, "channels": (2, 3), "optimiser": "momentum", "learning_rate": 0.05},
    ),
    "microgpt": (microgpt, {}),
}


@functools.cache
def trained(name):
    """One of TRAININGS, made once."""
    model, options = TRAININGS[name]
    return small(model, **options)


# -------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("name", ["digits.npz", "breast_cancer.npz"])
def test_a_data_file_has_the_stated_checksum(name):
    data = resources.files("circuitsketch.zoo") / "data"
    provenance = (data / "PROVENANCE.txt").read_text(encoding="ascii")
    assert f"{hashlib.sha256((data / name).read_bytes()).hexdigest()}  {name}" in provenance
    assert provenance.count("Creative Commons Attribution 4.0") == 2


def test_the_classes_are_as_many_as_their_authors_published():
    images, labels = datasets.digits()
    # optdigits.names: "Class: No of examples in testing set", 0 to 9.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.shape == (1797, 8, 8)
    assert images.min() == 0 and images.max() == 1
    features, malignant = datasets.breast_cancer()
    # wdbc.names: 357 benign, 212 malignant; 569 instances of 30 measures, none missing.
    assert features.shape == (569, 30) and np.isfinite(features).all()
    assert np.bincount(malignant).tolist() == [357, 212]
    # Published extremes of two measures: mean radius, mean area.
    assert [features[:, 0].min(), features[:, 0].max()] == [6.981, 28.11]
    assert [features[:, 3].min(), features[:, 3].max()] == [143.5, 2501.0]


def test_a_split_has_every_example_once_and_is_the_callers_own():
    x, y, test_x, test_y = datasets.split(np.arange(50.0), np.arange(50), 20, seed=3)
    assert len(x) == 20
    assert sorted([*y, *test_y]) == list(range(50))
    assert np.array_equal(np.concatenate([x, test_x]), np.concatenate([y, test_y]))
    mlp.data().x[:] = -1.0
    datasets.breast_cancer()[0][:] = -1.0
    assert mlp.data().x.min() == 0
    assert datasets.breast_cancer()[0].min() == 0


def test_standardised_features_have_mean_0_and_deviation_1_where_one_trains():
    data = logistic.data(100)
    assert data.x.mean(axis=0) == pytest.approx(np.zeros(30), abs=1e-12)
    assert data.x.std(axis=0) == pytest.approx(np.ones(30), rel=1e-12)
    assert np.abs(data.test_x.mean(axis=0)).min() > 0


# -------------------------------------------------------------------------------------------------- models


def test_a_convolution_is_scipys_correlation():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4))
    expected = [
        sum(signal.correlate2d(picture[:, :, c], kernel[:, :, c, out], mode="valid") for c in range(3))
        for picture in x
        for out in range(4)
    ]
    found = np.moveaxis(cnn.convolve(x, kernel), 3, 1).reshape(8, 4, 5)
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_pooling_takes_the_mean_of_every_cell():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
    found = cnn.pool(x)
    assert found.shape == (2, 2, 3, 3)
    assert found[1, 1, 2] == pytest.approx(x[1, 2:4, 4:6].mean(axis=(0, 1)), rel=1e-14)


@pytest.mark.parametrize("classes", [2, 10])
def test_a_margin_is_the_log_odds_of_the_right_class(classes):
    rng = np.random.default_rng(0)
    scores, labels = 3 * rng.normal(size=(20, classes)), rng.integers(0, classes, 20)
    right = special.softmax(scores, axis=1)[np.arange(20), labels]
    assert supervised.margins(scores, labels) == pytest.approx(special.logit(right), rel=1e-12)
    circuit = cs.compile(cs.trace(supervised.margins, scores, labels))
    assert circuit(scores, labels) == pytest.approx(special.logit(right), rel=1e-12)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_margin_of_a_label_without_a_class_is_refused(label):
    scores, labels = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, label, 2])
    with pytest.raises(BoundsError):
        supervised.margins(scores, labels)
    circuit = cs.compile(cs.trace(supervised.margins, scores, labels))
    with pytest.raises(BoundsError, match=f"label {label} is out of bounds for 3 classes"):
        circuit(scores, labels)


def test_a_margin_of_a_model_that_is_sure_keeps_its_digits():
    # p = 1 in floating point, so log(p / (1 - p)) as it is written would be infinite.
    assert supervised.margins(np.array([[500.0, 0.0, 0.0]]), np.array([0]))[0] == pytest.approx(500 - np.log(2))


def test_the_two_classes_of_a_logistic_regression_are_a_softmax():
    params = {"w": np.array([1.0, -2.0]), "b": np.array(0.5)}
    x, y = np.array([[0.3, 0.1], [2.0, 1.5], [-1.0, 0.4]]), np.array([1, 0, 1])
    scores = np.stack([np.zeros(3), logistic.logits(params, x)], axis=1)
    assert logistic.loss(params, x, y) == pytest.approx(cs.cross_entropy(scores, y), rel=1e-12)
    assert logistic.margin(params, x, y) == pytest.approx(supervised.margins(scores, y), rel=1e-12)


@pytest.mark.parametrize("model", [logistic, mlp, cnn], ids=["logistic", "mlp", "cnn"])
def test_an_accuracy_counts_the_likeliest_class_and_is_no_measurement(model):
    data = model.data(COUNT)
    params = {name: np.sin(np.arange(p.size)).reshape(p.shape) for name, p in small(model)[0].state["params"].items()}
    scores = model.logits(params, data.test_x).reshape(len(data.test_x), -1)
    if model is logistic:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    hits = sum(max(range(len(row)), key=lambda c: row[c]) == y for row, y in zip(scores, data.test_y, strict=True))
    assert model.accuracy(params, data.test_x, data.test_y) == pytest.approx(hits / len(scores), rel=1e-14)
    with pytest.raises(TraceError):
        cs.trace(lambda p: model.accuracy(p, data.test_x, data.test_y), params)


@pytest.mark.parametrize("name", ["logistic", "mlp, deep", "cnn"])
def test_a_step_of_gradient_descent_follows_the_finite_difference_of_the_mean_loss(name):
    model, options = TRAININGS[name]
    keep = {key: value for key, value in options.items() if key in ("layers", "width", "activation", "channels")}
    decay = {"weight_decay": 0.0} if model is logistic else {}
    options = keep | decay | {"epochs": 1, "batch_size": None, "optimiser": "sgd", "learning_rate": 0.5}
    data = model.data(COUNT)
    run, _ = small(model, **options)
    before, after = run.state["params"], run.train()["params"]
    rng = np.random.default_rng(0)
    along = {key: rng.normal(size=p.shape) for key, p in before.items()}

    def mean_loss(s):
        return model.loss({key: p + s * along[key] for key, p in before.items()}, data.x, data.y).mean()

    slope = (mean_loss(1e-4) - mean_loss(-1e-4)) / 2e-4  # off by 1e-8 times a third derivative
    moved = sum(((before[key] - after[key]) / 0.5 * along[key]).sum() for key in before)
    assert moved == pytest.approx(slope, rel=1e-5)


# -------------------------------------------------------------------------------------------------- closed forms


def newton(x, y, keep, weight_decay):
    """The minimum of mean(keep * loss) + weight_decay / 2 |params|^2, and the Hessian there."""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    theta = np.zeros(design.shape[1])
    for _ in range(30):
        p = special.expit(design @ theta)
        gradient = design.T @ (keep * (p - y)) / len(x) + weight_decay * theta
        hessian = (design.T * (keep * p * (1 - p))) @ design / len(x) + weight_decay * np.eye(len(theta))
        theta = theta - np.linalg.solve(hessian, gradient)
    return theta, hessian


def test_logistic_regression_ends_where_newtons_method_does_and_its_influences_are_the_closed_form():
    data, decay = logistic.data(60), 0.05
    run = logistic.training(data.x, data.y, epochs=600, learning_rate=0.3, weight_decay=decay)
    for without in (None, [0, 7, 9]):
        keep = np.ones(60)
        if without is not None:
            keep[without] = 0.0
        params = run.params(run.train() if without is None else run.retrain(without=without))
        theta, _ = newton(data.x, data.y, keep, decay)
        # The slowest mode, of curvature 0.05, shrinks like 0.9^(steps / 2): 600 steps leave 1e-13.
        assert np.append(params["w"], params["b"]) == pytest.approx(theta, abs=1e-9)

    # d theta / d w_i = Hessian^-1 gradient_i / n (Koh and Liang, equation 1, with our downweights).
    theta, hessian = newton(data.x, data.y, np.ones(60), decay)
    design = np.concatenate([data.x, np.ones((60, 1))], axis=1)
    gradients = (special.expit(design @ theta) - data.y)[:, None] * design
    closed = np.linalg.solve(hessian, gradients.T).T / 60
    pushed = cs.push(run, np.eye(60), order=1)
    found = np.concatenate([pushed.state["params"]["w"], pushed.state["params"]["b"][..., None]], axis=-1)
    assert found[:, 1].real == pytest.approx(closed, abs=1e-9)
    # With as many orthonormal directions as examples, a sketch knows the first order exactly.
    query = cs.sketch(run, directions=60, order=1, distribution="orthonormal").measure(lambda p: p["w"][0])
    assert query.influence().change == pytest.approx(closed[:, 0], abs=1e-9)


# -------------------------------------------------------------------------------------------------- series


@pytest.mark.parametrize("name", TRAININGS)
def test_the_first_coefficient_is_the_finite_difference_of_retraining(name):
    run, measure = trained(name)
    direction = np.random.default_rng(5).normal(size=run.n) / np.sqrt(run.n)
    series = cs.push(run, direction[None], order=2).measure(measure).coefficients[0].real
    step = 1e-4
    below, above = (float(measure(run.params(run.retrain(without=s * direction)))) for s in (-step, step))
    assert series[0] == pytest.approx(float(measure(run.params(run.train()))), rel=1e-12)
    # A central difference is off by step^2 times the third derivative, and by rounding over step, some 1e-11.
    assert series[1] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)
    assert series[2] == pytest.approx((above - 2 * series[0] + below) / (2 * step**2), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_sketch_predicts_what_retraining_gives(name):
    run, measure = trained(name)
    query = cs.sketch(run, directions=128, order=3, seed=1).measure(measure)
    influence = cs.sketch(run, directions=64, order=1, distribution="orthonormal").measure(measure).influence()
    # The two examples whose absence lowers the measurement most, so that there is something to predict.
    ids = np.argsort(influence.change)[:2]
    prediction = query.without(ids)
    truth = float(measure(run.params(run.retrain(without=ids))))
    low, high = prediction.interval(0.99)
    assert low <= truth <= high
    # And the interval says something: the change stands out of it, or comes near.
    assert prediction.stderr < 2 * abs(truth - prediction.baseline)


@pytest.mark.parametrize("blank", [False, True])
def test_relu_is_followed_between_its_kinks(blank):
    data = mlp.data(COUNT)
    # A blank picture meets the first biases, which are 0, exactly in the kink; but no weight has moved them by then.
    x = np.concatenate([np.zeros((1, 64)), data.x[1:]]) if blank else data.x
    run = mlp.training(x, data.y, epochs=1, activation="relu", width=4)
    direction = np.random.default_rng(0).normal(size=(1, COUNT))
    with warnings.catch_warnings():
        warnings.simplefilter("error", KinkWarning)
        series = cs.push(run, direction, order=1).measure(mlp.held_out_loss).coefficients[0].real
    below, above = (mlp.held_out_loss(run.params(run.retrain(without=s * direction[0]))) for s in (-1e-6, 1e-6))
    assert series[1] == pytest.approx((above - below) / 2e-6, rel=1e-4)


# -------------------------------------------------------------------------------------------------- what a user gets


def test_a_seed_makes_the_same_training_again():
    for model in (mlp, cnn):
        data = model.data(COUNT)
        one, again, other = (model.training(data.x, data.y, epochs=1, seed=seed) for seed in (1, 1, 2))
        for name, p in one.state["params"].items():
            assert np.array_equal(p, again.state["params"][name])
        assert all(np.array_equal(a, b) for a, b in zip(one.examples, again.examples, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(one.examples, other.examples, strict=True))


def test_every_epoch_reads_every_example_once():
    examples = supervised.batches_of(10, epochs=3, batch_size=4, seed=0)
    assert [len(ids) for ids in examples] == [4, 4, 2] * 3
    for epoch in range(3):
        assert sorted(np.concatenate(examples[3 * epoch : 3 * epoch + 3])) == list(range(10))


def test_a_groups_weight_is_that_of_all_its_members():
    data = mlp.data(COUNT)
    groups = data.y % 3
    alone = mlp.training(data.x, data.y, epochs=1)
    grouped = mlp.training(data.x, data.y, epochs=1, groups=groups)
    assert (alone.n, grouped.n) == (COUNT, 3)
    down = np.array([0.0, 1.0, -0.5])
    one, other = alone.retrain(without=down[groups])["params"], grouped.retrain(without=down)["params"]
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_invalid_model_arguments_are_refused_before_training():
    x, y = np.zeros((6, 4)), np.array([0, 1, 2, 0, 1, 2])
    pictures = np.zeros((6, 8, 8))
    for call, message in [
        (lambda: mlp.training(x, y[:5]), "as many labels as examples"),
        (lambda: mlp.training(x, y, classes=2), "labels run from 0 to 2; with 2 classes give 0..1"),
        (lambda: mlp.training(x, y - 1), "labels run from -1 to 1"),
        (lambda: mlp.training(x, y / 2), "integers in 0..9, not of dtype float64"),
        (lambda: logistic.training(x, y), "with 2 classes"),
        (lambda: mlp.training(x, y, batch_size=0), "batch_size is 0"),
        (lambda: mlp.training(x, y, epochs=0), "epochs is 0"),
        (lambda: mlp.training(x, y, optimiser="lion"), "'lion'; choose one of sgd, momentum, adam, adamw"),
        (lambda: mlp.training(x, y, optimiser="adam", weight_decay=0.1), "choose optimiser='adamw'"),
        (lambda: mlp.training(x, y, activation="gelo"), "choose one of gelu"),
        (lambda: mlp.training(x, y, layers=0), "layers is 0"),
        (lambda: mlp.training(x, y, dropout=1.5, batch_size=2), r"a rate in \[0, 1\), not 1.5"),
        (lambda: mlp.training(x, y, groups=[0, 1]), "one non-negative integer for each of 6 examples"),
        (lambda: mlp.training(x, y, groups=y - 1), "one non-negative integer"),
        (lambda: mlp.training(x, y, groups=y * 0.5), "one non-negative integer"),
        (lambda: mlp.training(pictures, y), "one row of features per example"),
        (lambda: cnn.training(x, y), r"give images, \(examples, rows, columns\)"),
        (lambda: cnn.training(pictures[:, :5], y), "even sides of 6 or more"),
        (lambda: cnn.training(pictures, y, channels=(0, 2)), "each must be at least 1"),
        (lambda: mlp.data(1797), "with some left to measure on"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


def test_the_alphabet_is_by_default_the_sorted_letters_of_the_words():
    run = microgpt.training(["otto", "anna"], width=4, heads=1)
    assert run.state["params"]["wte"].shape == (4 + 1, 4)
    spelled = microgpt.training(["otto", "anna"], width=4, heads=1, alphabet="anot")
    assert np.array_equal(run.batches[0][0], spelled.batches[0][0])
    # None of these has an x, and the loss of "max" says which alphabet it needs.
    with pytest.raises(InputError, match="give loss the alphabet of the training"):
        microgpt.loss(run.params(run.train()), "max", heads=1)
    assert np.isfinite(microgpt.loss(run.params(run.train()), "nat", "anot", heads=1))
    assert microgpt.training(["été"], width=4, heads=1).state["params"]["wte"].shape == (3, 4)


# ------------------------------------------------------------------------------------- what the examples are


def test_trainings_say_what_their_examples_are():
    run, _ = trained("microgpt")
    names = microgpt.names()[:COUNT]
    assert run.items == tuple(names) and run.labels == tuple(name[0] for name in names)
    for name in ("logistic", "mlp", "cnn"):
        model, run = TRAININGS[name][0], trained(name)[0]
        assert run.labels == tuple(model.data(COUNT).y.tolist()) and len(run.labels) == run.n
    assert small(mlp, groups=np.arange(COUNT) % 4)[0].labels is None
