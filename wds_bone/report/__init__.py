"""Predictions become numbers, figures and tables."""
