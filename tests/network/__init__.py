"""Tests of streams over a network that fails."""
