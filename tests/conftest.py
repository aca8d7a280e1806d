"""Hypothesis in two measures: `ci`, the same few examples every time, and `thorough`, many new ones.

HYPOTHESIS_PROFILE=thorough pytest tests/gates/test_gates.py   looks further.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from stores import produce, produce_and_extend

pytest.register_assert_rewrite("agreement", "device_runs", "sketch_stores")  # helpers that assert
collect_ignore_glob = ["*conftest.py"]  # --doctest-modules would import several files as one module `conftest`

UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=15, suppress_health_check=UNHURRIED)
settings.register_profile("thorough", deadline=None, max_examples=100, suppress_health_check=UNHURRIED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "whole.sketch"
    produce(path)
    return path


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was extended."""
    path = tmp_path_factory.mktemp("extended") / "extended.sketch"
    produce_and_extend(path)
    return path
