"""Deletion sets in every form become the downweights that they mean, or an error that says what to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitsketch.errors import InputError
from circuitsketch.training.weights import parse_subset, parse_subsets

steady = settings(derandomize=True, deadline=None, max_examples=50)


@steady
@given(n=st.integers(1, 20), data=st.data())
def test_ids_mask_and_downweights_mean_the_same_deletion(n, data):
    ids = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1))
    expected = [1.0 if i in ids else 0.0 for i in range(n)]
    mask = [i in ids for i in range(n)]
    forms = [
        ids,
        tuple(ids),
        set(ids),
        np.array(ids),
        np.array(ids, dtype=np.uint8),
        mask,
        np.array(mask),
        expected,
    ]
    for form in forms:
        found = parse_subset(form, n)
        assert found.tolist() == expected
        assert found.dtype == np.float64
    assert parse_subsets(forms, n).tolist() == [expected] * len(forms)


@steady
@given(weights=st.lists(st.floats(-10, 10), min_size=1, max_size=9))
def test_float_downweights_are_used_as_given(weights):
    assert parse_subset(weights, len(weights)).tolist() == weights
    table = np.array([weights, weights[::-1]])
    assert np.array_equal(parse_subsets(table, len(weights)), table)


def test_a_range_of_ids_is_a_deletion_set():
    assert parse_subset(range(1, 3), 4).tolist() == [0, 1, 1, 0]


def test_downweights_are_a_copy_of_the_argument():
    weights = np.array([0.5, 1.0])
    parse_subset(weights, 2)[0] = 7
    assert weights[0] == 0.5


def test_two_dimensional_masks_are_several_subsets():
    table = np.array([[True, False, True], [False, True, False]])
    assert parse_subsets(table, 3).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert parse_subsets([[0], np.array([False, True, True]), [0.5, 0, 0]], 3).tolist() == [
        [1, 0, 0],
        [0, 1, 1],
        [0.5, 0, 0],
    ]


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ([], "empty"),
        (set(), "empty"),
        (np.array([], dtype=int), "empty"),
        ([False] * 4, "False everywhere"),
        ([True] * 3, "mask has 3 elements for n = 4"),
        ([1, 1], "id 1 is given 2 times"),
        ([0, 1, 1, 0], "if these 0s and 1s are a mask, pass booleans"),
        ([0, -1], "id -1 at position 1 is out of range.* 0 to 3"),
        ([4], "id 4 at position 0 is out of range"),
        ([0.5, np.nan, 0, 0], "downweight of example 1 is nan"),
        ([0.5, 0, 0, -np.inf], "downweight of example 3 is -inf"),
        ([0.5, 0.5], "2 floats for n = 4.*pass ids as ints"),
        ("anna", "cannot be 'anna'"),
        (b"x", "cannot be"),
        (["a", "b"], "strings"),
        (None, "cannot be None"),
        ({1: 2}, "cannot be"),
        (2, "wrap a single id in a list"),
        (np.True_, "wrap a single id"),
        ([True, 2], "mixes booleans"),
        ([1j, 0, 0, 0], "complex numbers"),
        ([[0], [1, 2]], "for several subsets, pass a list or a 2-D array"),
        (np.ones((2, 4)), "for several subsets, pass a list or a 2-D array"),
        ([object()], "cannot contain"),
        ([2**70], "cannot contain"),
        (object(), "wrap a single id|cannot contain"),
    ],
)
def test_invalid_deletion_sets_are_refused_with_a_remedy(without, words):
    with pytest.raises(InputError, match=words):
        parse_subset(without, 4)


@pytest.mark.parametrize(
    ("subsets", "words"),
    [
        ([[0], [9]], "subset 1: example id 9"),
        ([], "list of subsets is empty"),
        (np.ones(4), r"shape \(subsets, n\), not \(4,\)"),
        ("ab", "not a str"),
        (3, "not a int"),
        ([1, 2], "subset 0: .* wrap a single id"),
        (np.zeros((2, 4), dtype=bool), "subset 0: the mask is False everywhere"),
        (np.ones((2, 3)), "subset 0: the deletion set has 3 floats for n = 4"),
    ],
)
def test_an_invalid_subset_among_several_is_named(subsets, words):
    with pytest.raises(InputError, match=words):
        parse_subsets(subsets, 4)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3", None])
def test_deletion_sets_check_the_number_of_examples(n):
    with pytest.raises(InputError, match="n, the number of examples, must be"):
        parse_subset([0], n)
