"""What users hold: sketches, queries, predictions, and their comparison with retraining."""
