"""Batches become a trained model and its checkpoints."""
