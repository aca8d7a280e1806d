"""Training runs: a step circuit applied T times over batches, for training, retraining and propagating series."""
