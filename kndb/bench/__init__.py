"""Measuring kndb: models of common sizes with random weights, a baseline, counted arithmetic."""
