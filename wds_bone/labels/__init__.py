"""Read label tables into labels."""
