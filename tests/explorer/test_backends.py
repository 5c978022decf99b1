"""Every page says of a store on PostgreSQL what it says of the same store on SQLite."""

import re
from collections import deque

import pytest
from asgi import ask
from backends import POSTGRESQL, Places
from filled_store import HOSTILE, NAME, fill
from html_pages import Html

from kndb.advice import for_python
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules

MOST = 150
"""Pages that are compared: those that lie nearest to the front page."""


@pytest.fixture(scope="module")
def on_server(tmp_path_factory):
    """The same store on PostgreSQL."""
    places = Places(POSTGRESQL, tmp_path_factory.mktemp("server"))
    with places.new().database() as database:
        fill(database)
        database.snapshots.create(HOSTILE, NAME)
        yield database
    places.close()


def addresses(application):
    """Pages by the number of links that lead to them from the front page, without their data and downloads."""
    known, waiting = {"/": None}, deque(["/"])
    while waiting and len(known) < MOST:
        for tag, attributes in Html(ask(application, waiting.popleft()).text).tags:
            target = attributes.get("href", "").partition("#")[0]
            if tag == "a" and target.startswith("/") and target not in known and ".csv" not in target:
                known[target] = None
                waiting.append(target)
    return [one for one in known if ".json" not in one][:MOST]


def alike(text, database):
    """Without the time at which a store was filled, and the folder of its objects."""
    return re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", "then", text.replace(str(database.store.objects), "objects"))


def test_pages_say_the_same(filled, on_server):
    here, there = (Explorer(one, Rules(), for_python) for one in (filled, on_server))
    tried = addresses(here)
    assert len(tried) > 100
    for address in tried:
        path, _, query = address.partition("?")
        target = f"{'/index' if path == '/' else path}.json?{query}"
        found, expected = ask(there, target), ask(here, target)
        assert found.status == expected.status == 200, (target, expected.text, found.text)
        assert alike(found.text, on_server) == alike(expected.text, filled), target
