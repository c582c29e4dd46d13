"""Bytes at a path: where things are, local reads, atomic writes."""
