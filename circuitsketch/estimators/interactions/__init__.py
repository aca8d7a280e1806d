"""A kernel regression on the interactions between examples."""
