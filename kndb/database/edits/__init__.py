"""Editing: plan, apply, revert, compare, measure and share edits (`db.edits`), and try many of them (`db.trials`)."""
