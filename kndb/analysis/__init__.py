"""Refinement of scores to knowledge neurons. Imports no SQLAlchemy."""
