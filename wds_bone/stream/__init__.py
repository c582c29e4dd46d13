"""Shards become batches on the device."""
