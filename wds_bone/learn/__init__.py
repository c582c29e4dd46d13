"""Train a model on batches, and save its checkpoints and metrics."""
