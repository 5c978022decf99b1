"""Locations of databases: which part of a URL is a password, and what is said of a URL that is wrong."""

from __future__ import annotations

import traceback

import pytest

from kndb.errors import KndbError, StoreError, UsageError
from kndb.records.locations import is_clear, is_server, without_password
from kndb.store.engine import Store, open_store

SECRET = "geheim"
HIDDEN = "postgresql://…"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("postgresql://me:geheim@host:5433/lab", "postgresql://me@host:5433/lab"),
        ("postgres://me@host/lab", "postgres://me@host/lab"),
        ("POSTGRESQL://me:geheim@host/lab", "POSTGRESQL://me@host/lab"),
        ("postgresql://:geheim@host/lab", "postgresql://host/lab"),
        ("postgresql:///lab?host=/run/pg&password=geheim", "postgresql:///lab?host=/run/pg"),
        ("postgresql:///lab?pass%77ord=geheim&sslmode=require", "postgresql:///lab?sslmode=require"),
        (
            "postgresql://me:a%40geheim@[::1]/lab?sslpassword=geheim&sslmode=require",
            "postgresql://me@[::1]/lab?sslmode=require",
        ),
        ("postgresql://me:geheim@one:1,two:2/lab", "postgresql://me@one:1,two:2/lab"),
        # The URL's parts are those that PostgreSQL's own programs see.
        ("postgresql://me:ge?heim@host/lab", "postgresql://me@host/lab"),
        ("postgresql://me:ge#heim@host/lab", "postgresql://me@host/lab"),
        ("postgresql://me:ge:heim@host/lab", "postgresql://me@host/lab"),
        ("postgresql://me:geheim@host:99999999/lab#x", "postgresql://me@host:99999999/lab#x"),
        ("kndb.db", "kndb.db"),
        ("./postgres:kndb.db", "./postgres:kndb.db"),
    ],
)
def test_no_password_is_shown(location, shown):
    assert without_password(location) == shown
    assert not is_server(location) or is_clear(location)


UNCLEAR = (
    "postgresql://me:geheim@geheim@host/lab",
    "postgresql://me:x/geheim@host/lab",
    "postgresql://me:x/y?geheim@host/lab",
    "postgresql://me:geheim",
    "postgresql://me:geheim/lab",
    "postgresql://me@host:geheim/lab",
    "postgresql://me:x@host?geheim@other/lab",
    "postgresql://me:geheim@ho st/lab",
    "postgresql://me:geheim@host/lab\n",
    "postgresql://me:geheim@host/la\0b",
    "postgresql://me:geheim\ud800@host/lab",
    "postgresql:/me:geheim@host/lab",
    "postgresql:me:geheim@host/lab",
    "postgresql+psycopg://me:geheim@host/lab",
    " postgresql://me:geheim@host/lab",
)
"""URLs of which it can't be told, or not by everybody alike, where their password ends."""


@pytest.mark.parametrize("location", UNCLEAR)
def test_a_url_that_is_not_clear_is_not_used(location, tmp_path, monkeypatch, capsys):
    from kndb.cli.main import exit_code

    assert is_server(location)
    assert SECRET not in without_password(location)
    with pytest.raises(UsageError, match="no URL of a database, or its password is not quoted") as caught:
        Store(location)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    monkeypatch.chdir(tmp_path)
    for words in (["--db", location, "query", "runs"], ["query", "runs", "--db", location], ["demo", "--db", location]):
        assert exit_code(words) == 2
    assert exit_code(["--db", location, "query", "runs", "--db", "other.db"]) == 2
    assert exit_code(["--db", location, "docs", "schema"]) == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("postgresql://me:geheim@host", "names no database"),
        ("postgresql://", "names no database"),
        ("postgresql://me:geheim@host/lab?what", "no URL of a database"),
        ("postgresql://me:geheim@host/lab?autocommit=1", "no connection option 'autocommit'"),
        ("postgresql://me:geheim@host/lab?conninfo=x", "no connection option 'conninfo'"),
        ("postgresql://me:geheim@host/lab?prepare_threshold=0", "no connection option 'prepare_threshold'"),
        ("postgresql://me:geheim@host/lab?port=abc", "its port is no number"),
        ("postgresql://me:geheim%00@host/lab", "no URL of a database"),
        ("postgresql://me:geheim%zz@host/lab", "no URL of a database"),
        ("postgresql://me:geheim@host/lab?options=%00", "no URL of a database"),
        ("mysql://me:geheim@host/lab", "got a 'mysql' URL"),
    ],
)
def test_a_url_that_is_wrong(location, said):
    with pytest.raises(UsageError, match=said) as caught:
        Store(location)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("postgresql://me:geheim@127.0.0.1:9/lab", "can't be reached: .*refused"),
        ("postgresql://me:ge?heim@127.0.0.1:9/lab", "can't be reached: .*refused"),
        ("postgresql://me:geheim@127.0.0.1:9/lab?connect_timeout=2", "can't be reached: .*refused"),
        ("postgresql://me:geheim@nowhere.invalid/lab", r"can't be reached: .*nowhere\.invalid"),
        ("postgresql://me:geheim@%2Fno%2Fsuch/lab", "can't be reached: .*/no/such"),
        ("postgresql://me:geheim@127.0.0.1:99999999/lab", "can't be made as its URL .*port"),
        ("postgresql://me:geheim@127.0.0.1:9/lab?sslmode=bogus", "can't be made as its URL .*sslmode"),
        ("postgresql://me:geheim@127.0.0.1:9/lab?connect_timeout=soon", "connect_timeout.*a number of seconds"),
        ("postgresql://me:geheim@127.0.0.1:9/?service=nobodys", "can't be made as its URL .*nobodys"),
    ],
)
def test_a_server_that_is_not_there(location, said):
    with pytest.raises((StoreError, UsageError), match=said) as caught:
        open_store(location, create=True, timeout=2)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__
    assert isinstance(caught.value, KndbError)


def test_a_folder_of_objects_is_for_servers():
    with pytest.raises(UsageError, match="objects is for databases on a server"):
        Store("kndb.db", objects="somewhere")
