"""Describe the format of the tar shards, their indexes and the manifest, and read, write and verify them."""
