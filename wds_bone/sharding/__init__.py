"""Labels and films become a complete set of shards."""
