"""Read shards and deliver their samples in batches, on the device."""
