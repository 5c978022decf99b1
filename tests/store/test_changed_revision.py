"""A database that another kndb upgrades while it is open: nothing more is read or written, and what was done stays."""

import pytest
from asgi import ask
from backends import BOTH

from kndb.errors import SchemaVersionError
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.store.engine import Store

BACKENDS = BOTH
NOW = "has schema revision 9999 now, and had .* when it was opened, so nothing of this was read or written"


def run(place, statement):
    """Changes the database as another process does."""
    with Store(place.location, objects=place.objects) as other, other.writing() as connection:
        connection.exec_driver_sql(statement)


def changed_to(place, revision):
    """Gives it another revision, as an upgrade does."""
    run(place, f"UPDATE alembic_version SET version_num = '{revision}'")


def revision_of(place):
    with Store(place.location, objects=place.objects) as other, other.reading() as connection:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def test_it_is_refused_by_the_next_transaction_and_taken_again_once_it_is_as_it_was(db_places):
    place = db_places.apart()
    with place.database() as database:
        assert database.facts.labels() == {}
        before = revision_of(place)
        changed_to(place, "9999")
        with pytest.raises(SchemaVersionError, match=NOW):
            database.facts.labels()
        with pytest.raises(SchemaVersionError, match=NOW), database.store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM alembic_version")
        assert revision_of(place) == "9999"
        changed_to(place, before)
        assert database.facts.labels() == {}
        for statement in ("DELETE FROM alembic_version", "DROP TABLE alembic_version"):
            run(place, statement)
            with pytest.raises(SchemaVersionError, match="has no schema revision now"):
                database.facts.labels()


def test_a_server_says_so_on_each_page(db_places):
    place = db_places.apart()
    with place.database() as database:
        explorer = Explorer(database, Rules())
        assert ask(explorer, "/facts").status == 200
        changed_to(place, "9999")
        for address in ("/", "/facts", "/edits", "/sql?query=SELECT%201"):
            page = ask(explorer, address)
            assert (page.status, "has schema revision 9999 now" in page.text) == (503, True), address
