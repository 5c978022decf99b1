"""Reads and writes of edits, the steps of a model's versions, evaluations and trials."""
