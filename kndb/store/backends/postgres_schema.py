"""A database's schema as PostgreSQL's catalogue describes it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from sqlalchemy import Connection

from ...errors import StoreError
from .backend import Part, Schema
from .finding import backend_of

_HERE = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
_TABLES = f"""
SELECT relname, relkind FROM pg_class WHERE relnamespace = {_HERE} AND relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY relname
"""  # noqa: S608 - a constant
_COLUMNS = f"""
SELECT owner.relname, part.attname, format_type(part.atttypid, part.atttypmod), part.attnotnull, part.attgenerated,
    coalesce(sorted.collname, ''), coalesce(pg_get_expr(value.adbin, value.adrelid), '')
FROM pg_attribute AS part
JOIN pg_class AS owner ON owner.oid = part.attrelid
LEFT JOIN pg_collation AS sorted ON sorted.oid = part.attcollation
LEFT JOIN pg_attrdef AS value ON value.adrelid = part.attrelid AND value.adnum = part.attnum
WHERE owner.relnamespace = {_HERE} AND owner.relkind = 'r' AND part.attnum > 0 AND NOT part.attisdropped
ORDER BY owner.relname, part.attnum
"""  # noqa: S608 - a constant
_CONSTRAINTS = f"""
SELECT owner.relname, said.conname, said.contype, pg_get_constraintdef(said.oid)
FROM pg_constraint AS said JOIN pg_class AS owner ON owner.oid = said.conrelid
WHERE said.connamespace = {_HERE} AND said.contype IN ('c', 'f', 'p', 'u', 'x')
ORDER BY owner.relname, said.conname
"""  # noqa: S608 - a constant
_INDEXES = f"""
SELECT owner.relname, named.relname, pg_get_indexdef(part.indexrelid), part.indisvalid
FROM pg_index AS part
JOIN pg_class AS named ON named.oid = part.indexrelid
JOIN pg_class AS owner ON owner.oid = part.indrelid
WHERE named.relnamespace = {_HERE}
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = part.indexrelid AND contype IN ('p', 'u', 'x'))
ORDER BY named.relname
"""  # noqa: S608 - a constant
_TRIGGERS = f"""
SELECT owner.relname, tgname FROM pg_trigger JOIN pg_class AS owner ON owner.oid = tgrelid
WHERE NOT tgisinternal AND owner.relnamespace = {_HERE}
"""  # noqa: S608 - a constant
_CONSTRAINT = {
    "c": "check constraint",
    "f": "reference",
    "p": "primary key",
    "u": "unique constraint",
    "x": "exclusion",
}


def described(connection: Connection) -> Schema:
    """Describes the schema that a connection works in; its name makes no difference."""
    schema = str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    # In the definition of an index, the server calls a session's own schema of temporary tables pg_temp.
    prefixes = [f"{name}." for name in (schema, f'"{schema}"', "pg_temp")]
    parts: dict[Part, str] = {}
    within: dict[Part, str] = {}

    def add(kind: str, name: str, text: str, table: str | None = None) -> None:
        parts[kind, name] = functools.reduce(lambda said, prefix: said.replace(prefix, ""), prefixes, text)
        if table is not None:
            within[kind, name] = table

    read = connection.exec_driver_sql
    for name, kind in read(_TABLES):
        add("table" if kind == "r" else "view", name, "a table" if kind == "r" else "a view")
    for table, name, kind, not_null, generated, collation, default in read(_COLUMNS):
        words = [kind, "NOT NULL" if not_null else "nullable"]
        words += [f"collation {collation}"] if collation else []
        words += [f"default {default}"] if default else []
        words += ["generated"] if generated else []
        add("column", f"{table}.{name}", ", ".join(words), table)
    for table, name, kind, text in read(_CONSTRAINTS):
        add(_CONSTRAINT[kind], f"{table}.{name}", text, table)
    for table, name, text, valid in read(_INDEXES):
        add("index", name, text if valid else f"{text}, which is not valid", table)
    for table, name in read(_TRIGGERS):
        add("trigger", name, "a trigger", table)
    return Schema(parts, within)


def expected(connection: Connection, run_migrations: Callable[[Connection], None]) -> Schema:
    """Describes what the revisions make, as temporary tables: that takes no right to create anything that stays.

    Args:
        connection: one that is nobody else's, without a transaction.
        run_migrations: what runs the revisions on a connection.

    Raises:
        StoreError: if the user may not make temporary tables, or the server can't.
    """
    from sqlalchemy.exc import DBAPIError

    transaction = connection.begin()
    try:
        try:
            connection.exec_driver_sql("SET TRANSACTION READ WRITE")
            connection.exec_driver_sql("CREATE TEMPORARY TABLE kndb_room (id integer)")
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ("42501", "25006", "25001", "0A000"):
                raise
            raise StoreError(
                f"{backend_of(connection).shown}: what the tables must be is found out by making them as temporary "
                "ones, which this user or server may not; ask who runs it for: GRANT TEMPORARY ON DATABASE … TO …, "
                "or check a server that is no copy of another one"
            ) from error
        connection.exec_driver_sql("DROP TABLE kndb_room")
        connection.exec_driver_sql("SET LOCAL search_path TO pg_temp")
        run_migrations(connection)
        return described(connection)
    finally:
        transaction.rollback()
