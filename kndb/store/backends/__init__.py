"""The one place where SQLite and PostgreSQL differ: a module for each, behind the interface in `backend`."""
