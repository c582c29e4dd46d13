"""Turn predictions into numbers, figures and tables."""
