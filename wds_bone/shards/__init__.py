"""Label table and images become tar shards, their indexes and the manifest."""
