"""Inference: a checkpoint and images -> ages in months."""
