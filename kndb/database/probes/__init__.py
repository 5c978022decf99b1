"""Experiments on activations (`db.probes`)."""
