"""Estimators: from Taylor coefficients along directions to the effect of any weights."""
