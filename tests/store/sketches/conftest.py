"""A sketch on disk that nothing interrupted, and its bits."""

from __future__ import annotations

import pytest
from sketch_stores import (
    LARGE,
    RUN,
    bits,
    make_sketch,
    measure,
)

import circuitsketch as cs


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Kernels are made before processes are copied."""
    cs.sketch(RUN, LARGE, 2, per_example="series", per_example_order=3).measure(measure)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.sketch"
    make_sketch(path)
    return path


@pytest.fixture(scope="module")
def right():
    """The bits of a sketch in memory."""
    return bits(make_sketch(None))
