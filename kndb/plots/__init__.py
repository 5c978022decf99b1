"""Figures of what queries and probes find; matplotlib is imported here alone."""
