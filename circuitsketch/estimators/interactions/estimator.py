"""The estimator "interactions": every example's own series, and what the examples do together.

In: a measurement with per-example series and random directions; perhaps evidence. Out: estimates, biased by design
towards no interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.estimators.interactions.conditioning import Evidence, Updated, evidence_of, weigh
from circuitsketch.estimators.interface import Effects, Estimate
from circuitsketch.estimators.own_effects import OwnEffects, Parts, combine
from circuitsketch.limits import blocks_of, require_memory


@dataclass(frozen=True, eq=False)
class WithInteractions(OwnEffects):
    """Every example's own series, and the fitted interactions, updated by evidence if there is any."""

    name: str = "interactions"
    evidence: Evidence | None = None  # type: ignore[assignment]

    def update(self, parts: Parts) -> Estimate:
        """Combine the parts with the evidence."""
        assert self.weighed is not None
        return combine(parts, *self.weighed.update(parts))

    @cached_property
    def weighed(self) -> Updated | None:
        """The evidence, compared with what is predicted without it."""
        if self.evidence is None:
            return None
        assert self.fit.model is not None
        return weigh(self.evidence, self.fit.model, self.measurement.flat_per_example, self.highest_order)

    def influence(self) -> Effects:
        """Sum every example's own series; where there is evidence, predict each example alone."""
        if self.evidence is None:
            return super().influence()
        n = self.measurement.n
        ids = np.arange(n)
        alone = [self.predict((ids[block, None] == ids).astype(np.float64)) for block in blocks_of(n, n)]
        change, stderr = (np.concatenate([getattr(one, name) for one in alone]) for name in ("change", "stderr"))
        return self.effects(change, stderr, self.measurement.flat_per_example.shape[1] - 1)

    def take_in(self, h: np.ndarray, baseline: np.ndarray, values: Any, coefficients: Any) -> Evidence:
        """Return the evidence so far and new pieces at h's (K, n): see `Query.with_evidence`."""
        if self.fit.model is None:
            raise InputError(
                "evidence updates what is known of interactions: measure a sketch with random directions of order 2 "
                "and per_example='series'"
            )
        pieces = len(h) + (0 if self.evidence is None else len(self.evidence.h))
        require_memory(
            48 * pieces**2 * self.measurement.size, f"evidence of {pieces:,} pieces", ["fewer pieces", "fewer values"]
        )
        new = evidence_of(h, baseline, values, coefficients, len(self.fit.model.orders) + 1)
        return new if self.evidence is None else self.evidence.also(new)
