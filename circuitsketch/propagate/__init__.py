"""Blocks of directions, propagated through a training run as Taylor series."""
