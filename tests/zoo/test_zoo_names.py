"""The shipped names, and what microgpt says to words and sizes that do not fit: no circuit needed."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

from circuitsketch.errors import InputError
from circuitsketch.zoo import microgpt


@pytest.fixture(scope="module")
def data():
    return resources.files("circuitsketch.zoo") / "data"


@pytest.fixture(scope="module")
def table(data):
    """Rows of name, thousandths of a per cent of women, of men."""
    lines = (data / "first_names_1990.txt").read_text(encoding="ascii").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(name, round(1000 * float(women)), round(1000 * float(men))) for name, women, men in rows]


def test_there_are_5163_names_each_once_in_lower_case_ascii_letters():
    names = microgpt.names()
    assert len(names) == len(set(names)) == 5163
    assert all(name.isascii() and name.isalpha() and name.islower() for name in names)


def test_the_tables_have_as_many_names_as_the_census_bureau_published(table):
    assert sum(women > 0 for _, women, _ in table) == 4275
    assert sum(men > 0 for _, _, men in table) == 1219


def test_names_come_by_frequency_and_ties_alphabetically(table):
    expected = sorted(table, key=lambda row: (-(row[1] + row[2]), row[0]))
    assert microgpt.names() == [name for name, _, _ in expected]
    assert microgpt.names()[:5] == ["james", "john", "robert", "michael", "mary"]


def test_the_names_file_has_the_stated_checksum(data):
    # Read as text: line ends as they were written, whatever the checkout made of them.
    text = (data / "first_names_1990.txt").read_text(encoding="ascii")
    provenance = (data / "PROVENANCE.txt").read_text(encoding="ascii")
    assert f"{hashlib.sha256(text.encode()).hexdigest()}  first_names_1990.txt" in provenance
    assert "Public domain" in provenance


def test_the_list_of_names_is_the_callers_own():
    microgpt.names().clear()
    assert len(microgpt.names()) == 5163


def test_a_name_is_read_between_two_boundary_tokens():
    tokens, targets = microgpt.encode("max", microgpt.ALPHABET, 16)
    assert tokens.tolist() == [26, 12, 0, 23]
    assert targets.tolist() == [12, 0, 23, 26]


@pytest.mark.parametrize(("letters", "predicted", "last"), [(14, 15, 26), (15, 16, 26), (16, 16, 0), (40, 16, 0)])
def test_at_most_context_tokens_are_predicted(letters, predicted, last):
    tokens, targets = microgpt.encode("a" * letters, microgpt.ALPHABET, 16)
    assert len(tokens) == len(targets) == predicted
    assert targets[-1] == last


def test_a_flat_vector_fills_the_matrices_row_by_row_in_order():
    config = microgpt.Config(vocabulary=3, width=2, layers=2, heads=1, context=5)
    parameters = config.parameters(np.arange(config.size))
    assert list(parameters) == list(config.shapes)
    assert {name: value.shape for name, value in parameters.items()} == config.shapes
    flat = np.concatenate([value.ravel() for value in parameters.values()])
    assert flat.tolist() == list(range(config.size))
    assert parameters["layer1.mlp_fc1"].shape == (8, 2)


def test_a_seed_draws_the_same_parameters_again_with_the_stated_deviation():
    config = microgpt.Config(width=64)
    first, again, other = config.draw(3), config.draw(3), config.draw(4)
    assert all(np.array_equal(first[name], again[name]) for name in config.shapes)
    assert not np.array_equal(first["wte"], other["wte"])
    spread = np.concatenate([value.ravel() for value in first.values()]).std()
    # The deviation of a sample of N normals is off by 1 / sqrt(2 N) of itself; five of those are allowed.
    assert abs(spread / 0.08 - 1) < 5 / np.sqrt(2 * config.size)


def test_no_score_depends_on_a_later_token():
    params = microgpt.Config(width=12, layers=2, heads=3, context=8).draw(0)
    tokens = np.array([26, 4, 11, 11, 0])
    other = np.array([26, 4, 11, 25, 3])
    ours, changed = (microgpt.logits(params, sequence, heads=3) for sequence in (tokens, other))
    # Sums of one extent in the same order, but for the rows that changed: equal up to the last places.
    np.testing.assert_allclose(ours[:3], changed[:3], rtol=1e-12)
    assert np.abs(ours[3:] - changed[3:]).max(axis=-1).min() > 1e-3


def test_a_model_of_zeros_finds_every_token_equally_likely():
    params = {name: np.zeros(shape) for name, shape in microgpt.Config(layers=2).shapes.items()}
    assert microgpt.loss(params, "theodore") == pytest.approx(np.log(27), rel=1e-15)


@pytest.mark.parametrize(
    ("docs", "options", "message"),
    [
        ([], {}, "docs is empty"),
        ("max", {}, r"give a list of words, such as \['max'\]"),
        (["max", ""], {}, "drop empty lines"),
        (["max", 3], {}, "3 is not a word"),
        (["Max"], {"alphabet": microgpt.ALPHABET}, "'M', which the alphabet .* lacks; write it in lower case"),
        (
            ["rené"],
            {"alphabet": microgpt.ALPHABET},
            "'é', which the alphabet .* lacks; leave the word out, or train",
        ),
        (["max"], {"alphabet": "axma"}, "has a letter twice"),
        (["max"], {"alphabet": ""}, "is empty"),
        (["max"], {"init": np.zeros(4191), "alphabet": microgpt.ALPHABET}, r"\(4191,\), but .* has 4192 parameters"),
        (["max"], {"init": np.zeros(4192), "seed": 1}, "both seed and init"),
        (["max"], {"heads": 3}, "3 heads cannot share a width of 16"),
        (["max"], {"heads": 0}, "heads is 0; every size must be at least 1"),
        (["max"], {"layers": 0}, "layers is 0"),
        (["max"], {"steps": 0}, "steps is 0"),
    ],
)
def test_invalid_microgpt_trainings_are_refused_with_a_remedy(docs, options, message):
    with pytest.raises(InputError, match=message):
        microgpt.training(docs, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("max", "amx"), {}, "an alphabet of 3 letters needs 4 rows of wte .* but this model has 27"),
        (("",), {}, "'' is not a word"),
        (("Max",), {}, "write it in lower case"),
        (("max",), {"heads": 5}, "5 heads cannot share"),
    ],
)
def test_invalid_microgpt_measurements_are_refused_with_a_remedy(arguments, options, message):
    params = microgpt.Config().draw(0)
    with pytest.raises(InputError, match=message):
        microgpt.loss(params, *arguments, **options)
