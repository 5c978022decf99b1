"""Runs the revisions on the connection that `kndb.store.schema` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("kndb's revisions are run by `kndb db upgrade`, not by the alembic command")

context.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
