"""The median of means over groups of directions, and its standard error.

In: how many directions there are, in blocks of how many dependent ones; what each of them contributes. Out: medians of
means, variances, standard errors. What directions contribute is left to `monte_carlo`.

Standard errors. One group mean of g independent directions has variance s^2 / g, with s^2 the variance of
sum_r Re Z_r over all m directions; the median of k such means has `median_variance(k)` times that.
Orthonormal directions are not independent inside a block of n. At order one their mean over the whole block
is exact, so a mean of b of them is a sample without replacement and has variance (1 - b/n) s^2 / b. Of the
orders above one the mean over a whole block still varies, by V. Together:

    variance of the mean of b directions of a block  =  (1 - b/n) s^2 / b  +  V,

with s^2 taken inside blocks. V is the variance between full blocks where there are at least ten of them. With
fewer, it is the larger of that and of s_R^2 / n, what n independent directions would give at the orders above
one. That is a bound to leading order in 1/n, where the covariance of two directions of a block is negative; seen
on low-rank tensors of orders 2 to 4, V was .2 to 1.05 times as large for n = 20 and up to 1.2 times for n = 6,
but at n = 2 or 3 it may be many times larger: there, take ten blocks. Heavy tails (a high order far from x)
make every standard error too small at times: the median is there because of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from circuitsketch.arguments import is_int, quoted
from circuitsketch.errors import InputError

MANY_BLOCKS = 10  # from here on the variance between blocks is known well enough: to a third


@dataclass(frozen=True)
class Grouping:
    """How m directions are cut into k groups, whole and contiguous, and what that means for the error.

    `groups` and `blocks` are the sizes of the groups and of the blocks inside which variances are taken, a full
    block having `block_size` directions. The variance of a group's mean, averaged over the groups, is
    `inside_weight` s^2 + `between_weight` V.
    """

    groups: tuple[int, ...]
    blocks: tuple[int, ...]
    block_size: int
    inside_weight: float
    between_weight: float

    @property
    def directions(self) -> int:
        """The number m of directions."""
        return sum(self.groups)

    @property
    def degrees_of_freedom(self) -> int:
        """The degrees of freedom of the standard error: of the variance between blocks, if that is used."""
        return self.full - 1 if self.full >= MANY_BLOCKS else self.degrees_inside

    @property
    def degrees_inside(self) -> int:
        """The degrees of freedom of the variance inside blocks: one is lost a block."""
        return self.directions - len(self.blocks)

    @property
    def full(self) -> int:
        """The number of full blocks of dependent directions."""
        return sum(block == self.block_size for block in self.blocks)


def default_groups(directions: int) -> int:
    """The number of groups when nobody chose one: 1 below 48 directions, then 3, 5, 7, and 9 from 144 on.

    A heuristic: the largest odd number up to 9 that leaves 16 directions a group. Seen on random low-rank
    tensors (n = 30 to 200, 64 and 512 directions): nine groups cost 15 to 25 % of the RMSE where orders 1 and
    2 dominate, 5 to 15 % at order 3 with 512 directions, and gain 30 % there with 64; three groups cost the
    same and gain less.

    >>> [default_groups(m) for m in (8, 48, 512)]
    [1, 3, 9]
    """
    return _odd(min(9, directions // 16))


def arrange(directions: int, block_size: int = 1, groups: int | None = None, exact: bool = False) -> Grouping:
    """Cut `directions` directions, dependent in blocks of `block_size`, into `groups` groups.

    Groups are as equal as they can be, the last one the largest. Where there is more than one dependent
    block, a group is made of whole blocks, and the default number is odd and at most the number of full ones.
    A single block is one group by default, which keeps its exactness; if more are asked for, their error is
    that of independent directions, too large rather than too small. `exact` says that each direction alone
    knows the answer (directions of one coordinate), so that there is no error.

    InputError: more groups than directions, or than blocks; fewer than one.

    >>> arrange(100, groups=3).groups
    (33, 33, 34)
    >>> arrange(100, block_size=40).groups, arrange(100, block_size=40).blocks
    ((100,), (40, 40, 20))
    """
    if groups is not None and not is_int(groups, 1):
        raise InputError(f"the number of groups is an int of at least 1, not {quoted(groups)}")
    full, left = divmod(directions, block_size)
    blocks = [block_size] * full + [left] * (left > 0)
    several = block_size > 1 and len(blocks) > 1
    if groups is not None:
        k = int(groups)
    elif block_size == 1:
        k = default_groups(directions)
    else:
        k = _odd(min(default_groups(directions), full))
    if several and k > len(blocks):
        raise InputError(
            f"{directions} orthonormal directions are {len(blocks)} blocks of up to {block_size}, and a group "
            f"is made of whole blocks: ask for at most {len(blocks)} groups, not {k}"
        )
    if k > directions:
        raise InputError(f"{directions} directions cannot make {k} groups: ask for at most {directions}")

    if block_size == 1 or (k > 1 and not several):
        sizes = _split([1] * directions, k)
        blocks = [directions]
        inside, between = [1 / sum(part) for part in sizes], [0.0]
    else:
        sizes = _split(blocks, k)
        inside = [sum((b / sum(part)) ** 2 * (1 - b / block_size) / b for b in part) for part in sizes]
        between = [sum((b / sum(part)) ** 2 for b in part) for part in sizes]
    if exact:
        inside, between = [0.0], [0.0]
    made = tuple(sum(part) for part in sizes)
    return Grouping(made, tuple(blocks), block_size, float(np.mean(inside)), float(np.mean(between)))


def median_variance(k: int) -> float:
    """The variance of the median of k independent standard normal variables, to 2 %.

    pi / (2k) for many. For odd k pi / (2k + pi - 2) is exact at 1, for even k pi / (2k + 2 pi - 4) at 2.

    >>> median_variance(1), round(median_variance(9), 3)
    (1.0, 0.164)
    """
    return math.pi / (2 * k + (math.pi - 2) * (1 if k % 2 else 2))


def median_of_means(samples: np.ndarray, grouping: Grouping) -> np.ndarray:
    """The median over groups of the means of groups, (..., m, S) -> (..., S), element by element of S."""
    if len(grouping.groups) == 1:
        return samples.mean(axis=-2)
    sizes = np.array(grouping.groups)
    sums = np.add.reduceat(samples, np.cumsum(sizes) - sizes, axis=-2)
    return np.median(sums / sizes[:, None], axis=-2)


def pooled_variance(samples: np.ndarray, grouping: Grouping) -> np.ndarray:
    """The variance over directions inside blocks, (..., m, S) -> (..., S); infinite where it is unknown."""
    if grouping.degrees_inside < 1:
        return np.full((*samples.shape[:-2], samples.shape[-1]), np.inf)
    sizes = np.array(grouping.blocks)
    sums = np.add.reduceat(samples, np.cumsum(sizes) - sizes, axis=-2)
    centred = samples - np.repeat(sums / sizes[:, None], sizes, axis=-2)
    return np.einsum("...ms,...ms->...s", centred, centred) / grouping.degrees_inside


def block_variance(samples: np.ndarray, grouping: Grouping) -> np.ndarray:
    """V, the variance of the mean over a full block, (..., m, S) -> (..., S): see the top of the file."""
    full, size = grouping.full, grouping.block_size
    inside = pooled_variance(samples, grouping) / size
    if full < 2:
        return inside
    blocks = samples[..., : full * size, :].reshape(*samples.shape[:-2], full, size, samples.shape[-1])
    between = blocks.mean(axis=-2).var(axis=-2, ddof=1)
    return between if full >= MANY_BLOCKS else np.maximum(inside, between)


def standard_error(inside: np.ndarray, between: np.ndarray, grouping: Grouping) -> np.ndarray:
    """From `pooled_variance` of all orders and `block_variance` of those above one to the standard error."""
    variance = np.zeros(np.broadcast_shapes(inside.shape, between.shape))
    if grouping.inside_weight:  # no 0 x inf
        variance = variance + grouping.inside_weight * inside
    if grouping.between_weight:
        variance = variance + grouping.between_weight * between
    return np.sqrt(median_variance(len(grouping.groups)) * variance)


def _odd(k: int) -> int:
    return max(1, k - (k + 1) % 2)


def _split(items: list[int], k: int) -> list[list[int]]:
    """k contiguous parts with as many items as each other, or one more in the last ones."""
    cuts = [len(items) * i // k for i in range(k + 1)]
    return [items[start:stop] for start, stop in pairwise(cuts)]
