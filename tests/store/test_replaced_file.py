"""A database whose file is replaced by another while it is open: nothing is read from either, nor written."""

import shutil

import pytest

from kndb.database import open_database
from kndb.errors import StoreError


def copied(path):
    with open_database(path):
        pass
    other = path.with_name("other.db")
    shutil.copyfile(path, other)
    return other


def test_another_file_in_its_place_is_refused_until_it_is_opened_again(tmp_path):
    path = tmp_path / "kndb.db"
    other = copied(path)
    with open_database(path) as database:
        assert database.facts.labels() == {}
        other.replace(path)
        for _ in range(2):
            with pytest.raises(StoreError, match="was replaced by another file while it was open"):
                database.facts.labels()
            with pytest.raises(StoreError, match="was replaced"), database.store.writing():
                pass
        database.store.close()
        assert database.facts.labels() == {}


def test_a_file_that_is_gone_is_missed_at_once(tmp_path):
    path = tmp_path / "kndb.db"
    other = copied(path)
    with open_database(path) as database:
        assert database.facts.labels() == {}
        path.unlink()
        with pytest.raises(StoreError, match="is gone"):
            database.facts.labels()
        other.replace(path)
        with pytest.raises(StoreError, match="was replaced"):
            database.facts.labels()
