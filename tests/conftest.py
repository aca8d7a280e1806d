"""Hypothesis in two measures: `ci`, the same few examples every time, and `thorough`, many new ones.

HYPOTHESIS_PROFILE=thorough pytest tests/test_gates.py   looks further.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=15, suppress_health_check=UNHURRIED
)
settings.register_profile("thorough", deadline=None, max_examples=100, suppress_health_check=UNHURRIED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
