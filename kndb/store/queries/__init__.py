"""Reads for questions: neurons, facts, overlap, distributions, comparisons, and a user's own SQL."""
