"""A sketch larger than the memory that a query may take is read from disk block by block.

The oracle of the memory is the kernel's count of the pages that a process of its own has had.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import circuitsketch as cs

P, DIRECTIONS = 60_000, 200

QUERY = """
import resource, sys
import numpy as np
import circuitsketch as cs

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

sketch = cs.open_sketch(sys.argv[1], threads=1)
sketch.coefficients(lambda p: p[:3].sum())  # compiles
before = peak()
query = sketch.measure(lambda p: (p * p).sum())
print(query.without([1, 2], estimator="theorem").value, sketch.nbytes, peak() - before)
"""


@pytest.mark.slow
def test_a_query_of_a_large_sketch_takes_the_memory_of_a_block(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, P)) / 300

    def step(state, x, keep):
        return state - 0.1 * cs.grad(lambda p: (keep * np.tanh(x @ p + 0.2) ** 2).sum())(state)

    run = cs.Training(step, np.ones(P), [x[:4], x[4:]], [[0, 1, 2, 3], [4, 5, 6, 7]])
    sketch = cs.sketch(run, DIRECTIONS, 1, distribution="sphere", path=tmp_path / "a", threads=1)
    ran = subprocess.run([sys.executable, "-c", QUERY, tmp_path / "a"], capture_output=True, text=True, check=True)
    value, stored, taken = ran.stdout.split()
    right = sketch.measure(lambda p: (p * p).sum()).without([1, 2], estimator="theorem").value
    assert float(value) == right
    block = sketch.lanes.header.block_bytes
    assert int(stored) > 20 * block and int(taken) < 5 * block
