"""Directions of a known law and seed go through a training run; a sketch of the run comes out."""
