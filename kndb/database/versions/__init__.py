"""Versions of a model: snapshots (`db.snapshots`) and working copies (`db.checkouts`)."""
