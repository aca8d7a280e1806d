"""The loops of `sparse_batches`, which Numba compiles when they are first called and keeps on disk."""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums may be taken in any order, which lets them use vectors; numbers that are not finite keep their meaning.
LOOSE = {"reassoc", "contract", "nsz"}
ROWS = 32  # of a table of pairs that are worked off together: up to 256 kB for a thousand examples


@njit(nogil=True)
def gather(h, ids, weights, starts):  # type: ignore[no-untyped-def]
    """The entries of h (B, n) that differ from zero; False where there is no room for all."""
    at = 0
    for b in range(h.shape[0]):
        for i in range(h.shape[1]):
            if h[b, i] != 0:
                if at == len(ids):
                    return False
                ids[at] = i
                weights[at] = h[b, i]
                at += 1
        starts[b + 1] = at
    return True


@njit(nogil=True, fastmath=LOOSE)
def add_rows(ids, starts, weights, table, out):  # type: ignore[no-untyped-def]
    """out (B, tiles x width) += for every h the rows of its examples, of table (tiles, n, width), by their weights."""
    width = table.shape[2]
    for t in range(table.shape[0]):
        at = t * width
        for b in range(len(starts) - 1):
            k, end = starts[b], starts[b + 1]
            while k + 4 <= end:
                p, q, r, s = ids[k], ids[k + 1], ids[k + 2], ids[k + 3]
                u, v, w, x = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
                for c in range(width):
                    one, two = u * table[t, p, c] + v * table[t, q, c], w * table[t, r, c] + x * table[t, s, c]
                    out[b, at + c] += one + two
                k += 4
            while k < end:
                p, u = ids[k], weights[k]
                for c in range(width):
                    out[b, at + c] += u * table[t, p, c]
                k += 1


@njit(nogil=True, fastmath=LOOSE)
def raise_powers(first, real, found):  # type: ignore[no-untyped-def]
    """found (B, columns) *= first, elementwise; from column `real` on, complex: all real parts, then all imaginary."""
    half = (first.shape[1] - real) // 2
    for b in range(first.shape[0]):
        x, y = first[b, :real], found[b, :real]
        for c in range(real):
            y[c] *= x[c]
        p, q = first[b, real : real + half], first[b, real + half :]
        u, v = found[b, real : real + half], found[b, real + half :]
        for c in range(half):
            u_c, v_c = u[c], v[c]
            u[c] = u_c * p[c] - v_c * q[c]
            v[c] = u_c * q[c] + v_c * p[c]


@njit(nogil=True, fastmath=LOOSE)
def pair_sums(ids, starts, weights, pairs, similarity, alike, together):  # type: ignore[no-untyped-def]
    """Sums over the pairs of different examples of each h, whose ids ascend.

    pairs: a row of numbers for every (i, j), j < i, in turn: the similarity's, and if there are two, how alike they
    are. similarity, alike: for every entry the sum of these over its h's other entries by their weights. together (B,
    top + 1): column r is the sum over all ordered pairs of the r-th power of the similarity and both weights, r from 2
    on.
    """
    top, two, width = together.shape[1] - 1, pairs.shape[1] > 1, pairs.shape[1]
    flat, reached = pairs.reshape(-1), starts[:-1].copy()
    similarity[:] = 0.0
    alike[:] = 0.0
    most = 0
    for b in range(len(reached)):
        most = max(most, starts[b + 1] - starts[b])
    near, like = np.empty(most), np.empty(most)
    last = 0
    while (reached < starts[1:]).any():
        last += ROWS  # some rows of the table at a time, which a second-level cache holds, for all h's
        for b in range(len(reached)):
            begin, end, k = starts[b], starts[b + 1], reached[b]
            squares, cubes = 0.0, 0.0
            while k < end and ids[k] < last:
                i, u, count = int(ids[k]), weights[k], k - begin
                first = i * (i - 1) // 2 * width
                row = flat[first : first + i * width]
                before, others = ids[begin:k], weights[begin:k]
                # Numbers are gathered first: what is added up lies side by side then, and takes vectors.
                for o in range(count):
                    near[o] = row[width * before[o]]
                total, square, cube = 0.0, 0.0, 0.0
                for o in range(count):
                    one = others[o] * near[o]
                    total += one
                    square += one * one
                    cube += one * one * one
                similarity[k] += total
                sums = similarity[begin:k]
                for o in range(count):
                    sums[o] += u * near[o]
                if two:
                    for o in range(count):
                        like[o] = row[2 * before[o] + 1]
                    total = 0.0
                    for o in range(count):
                        total += others[o] * like[o]
                    alike[k] += total
                    sums = alike[begin:k]
                    for o in range(count):
                        sums[o] += u * like[o]
                squares += u * u * square
                cubes += u * u * u * cube
                for r in range(4, top + 1):
                    for o in range(count):
                        together[b, r] += 2 * (u * others[o] * near[o]) ** r
                k += 1
            reached[b] = k
            together[b, 2] += 2 * squares
            if top > 2:
                together[b, 3] += 2 * cubes
