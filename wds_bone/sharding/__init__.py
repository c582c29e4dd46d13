"""Write labels and films as a complete set of shards."""
