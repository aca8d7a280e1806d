"""A step circuit applied T times over batches: plain training, batched retraining, directions pushed through."""
