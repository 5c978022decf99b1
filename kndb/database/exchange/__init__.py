"""Importing results of others, and exporting everything (`db.exchange`)."""
