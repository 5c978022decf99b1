"""A new store for each test; in a module with `BACKENDS = BOTH`, on each backend."""

import pytest


@pytest.fixture
def store(db_places):
    """A new store, open."""
    with db_places.new().store(timeout=5.0) as opened:
        yield opened
