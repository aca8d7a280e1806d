"""Hypothesis in two measures: `ci`, the same few examples every time, and `thorough`, many new ones.

HYPOTHESIS_PROFILE=thorough pytest tests/gates/test_gates.py   looks further.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from stores import produce, produce_and_extend

pytest.register_assert_rewrite("agreement", "device_runs", "objects", "sketch_stores")  # helpers that assert
collect_ignore_glob = ["*conftest.py"]  # --doctest-modules would import several files as one module `conftest`

# Which files have a marker: `pytest -m "not slow and not gpu and not crash and not cli"` is the loop for a change.
MARKED = {
    "browser": ("page/test_browser.py", "page/test_page_in_notebook.py", "page/test_pictures.py"),
    "cli": ("cli/",),  # each starts processes
    "crash": (
        "store/test_store_crashes.py",
        "store/test_store_damage.py",
        "store/test_shared_folder.py",
        "store/test_staging.py",
        "store/test_store_system.py",
        "store/sketches/",
        "workers/test_dask.py",
        "workers/test_killed_workers.py",
        "workers/test_object_server.py",
    ),
    "gpu": ("on_device.py", "backends/test_cuda.py"),
    # Compiles much, trains much, or measures memory and time.
    "slow": (
        "attribution/test_constant_measurements.py",
        "attribution/test_evaluation.py",
        "attribution/test_limits.py",
        "attribution/test_plan.py",
        "attribution/test_structure.py",
        "backends/test_kernel_cache.py",
        "backends/test_kernels.py",
        "circuit/",
        "estimators/test_convergence.py",
        "estimators/test_gradients.py",
        "estimators/test_interactions.py",
        "estimators/test_monte_carlo_intervals.py",
        "frontends/jax/",
        "frontends/numpy/test_signatures.py",
        "frontends/torch/",
        "gates/test_own_gates.py",
        "lower/test_compile_time.py",
        "page/test_browser.py",
        "page/test_page_in_notebook.py",
        "page/test_pictures.py",
        "page/test_static_page.py",
        "passes/",
        "propagate/",
        "report/",
        "reverse/test_reverse_laws.py",
        "store/test_store.py",
        "store/test_store_strangers.py",
        "test_arguments.py",
        "test_bench.py",
        "test_bench_peers.py",
        "test_bench_trust.py",
        "test_examples.py",
        "test_golden.py",
        "test_imported_arguments.py",
        "test_pages.py",
        "training/",
        "workers/",
        "zoo/",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the files above."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            file = item.path.relative_to(here).as_posix()
            for marker, prefixes in MARKED.items():
                if file.startswith(prefixes):
                    item.add_marker(marker)


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
