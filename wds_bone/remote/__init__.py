"""Read shards in object storage: fetch byte ranges ahead, and keep whole shards in a local folder."""
