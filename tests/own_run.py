"""A user's file for the command line: runs and measurements, right and wrong ones."""

from __future__ import annotations

OWN = """
import numpy as np
import circuitsketch as cs

def make(steps=4):
    xs = [np.float64(1 + i % 4) for i in range(steps)]
    ids = [[i % 4] for i in range(steps)]
    step = lambda s, x, keep: 0.5 * s + (keep * keep).sum() * x
    return cs.Training(step, np.zeros(()), xs, ids, labels=["a", "a", "b", "b"], items=["ann", "bob", "cid", "dan"])

def value(s):
    return s

def pair(s, factor=2.0):
    return np.stack([s, factor * s])

def slow():
    step = lambda s, x, keep: np.tanh(0.9 * s + keep.sum() * x)
    return cs.Training(step, np.zeros(400), [np.ones(400)] * 4000, [[i % 50] for i in range(4000)])

def shapes():
    step = lambda s, x, keep: s + (keep * x).sum()
    return cs.Training(step, np.zeros(()), [np.ones(1), np.ones(2), np.ones(2)], [[0], [0, 1], [0, 1]])

def broken():
    return 1 / 0

def leaves():
    raise SystemExit(3)

def needs():
    import nowhere_to_be_found

def two():
    return cs.Training(lambda state, batch: state, np.zeros(()), [1.0], [[0]])

def words(s):
    return "abc"

def number():
    return 3
"""
