"""Label tables become labels."""
