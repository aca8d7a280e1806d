"""Random projections of the trained parameters, differentiated in the same reverse sweep as a measurement.

In: the cotangents of a measurement's values. Out: these, followed by those of projections: sums of all parameters with
random signs. The derivatives of k projections with respect to an example's weight are a sketch of how the example moves
the parameters: inner products of two such vectors, over k, are those of the moves, to about 1 / sqrt(k) of the product
of their lengths (Johnson and Lindenstrauss; random signs: Achlioptas, 2003).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from circuitsketch.reverse.cotangents import FinalCotangents


@dataclass(frozen=True, eq=False)
class WithProjections:
    """The derivatives of a measurement's values, and of projections, with respect to the varying leaves of a state.

    Attributes
    ----------
    final : FinalCotangents
        Of the measurement.
    values : int
        The number of its values; a number from there on is that of a projection.
    params : collection of int
        The positions of the leaves that are parameters.
    """

    final: FinalCotangents
    values: int
    params: Collection[int]

    def constants(self, value: int) -> list[np.ndarray]:
        """Return the cotangents that belong to one value or projection, by leaf."""
        if value < self.values:
            return self.final.constants(value)
        rng = np.random.default_rng(value - self.values)
        shapes = [np.shape(self.final.state[leaf]) for leaf in self.final.varying]
        return [
            rng.choice([-1.0, 1.0], shape) if leaf in self.params else np.zeros(shape)
            for leaf, shape in zip(self.final.varying, shapes, strict=True)
        ]
