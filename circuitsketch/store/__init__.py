"""Sketches on disk: atomic files, layout, readers, writers, and the fingerprint of a run."""
