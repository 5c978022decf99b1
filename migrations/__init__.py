"""Schema revisions of the store, run by alembic from the installed package."""
