"""Questions to the store (`db.query`)."""
