"""Read shards from a local disk, and write any file atomically."""
