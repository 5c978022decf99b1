"""Edit recipes, the diff file, versions and evaluation. Imports no SQLAlchemy."""
