"""Folders that tests make once per machine: what makes them anew, and that nobody sees half of one."""

from __future__ import annotations

import threading
from functools import partial

import made_once
import pytest

NO_CODE = ("kndb.errors",)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(made_once.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make(tmp_path):
    """Asks for an entry, and counts how often one was made."""

    def ask(decided_by="settings", text="content"):
        def fill(folder):
            ask.made += 1
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text(text, encoding="utf-8")

        return made_once.made_once("thing", decided_by, NO_CODE, fill, tmp_path)

    ask.made = 0
    return ask


def test_an_entry_is_made_once(cache, make):
    first = make()
    assert first.parent == cache
    assert (first / "inner" / "file").read_text(encoding="utf-8") == "content"
    assert make() == first
    assert make.made == 1


def test_other_settings_are_another_entry(cache, make):
    assert make() != make("other settings")
    assert make.made == 2


def test_a_damaged_entry_is_made_again(cache, make):
    entry = make()
    (entry / "inner" / "file").write_text("Content", encoding="utf-8")
    assert (make() / "inner" / "file").read_text(encoding="utf-8") == "content"
    (entry / "one more").touch()
    assert not (make() / "one more").exists()
    assert make.made == 3


def test_what_could_not_be_made_is_no_entry(cache, make, tmp_path):
    def stopped(folder):
        (folder / "half").touch()
        raise AssertionError("stopped")

    with pytest.raises(AssertionError, match="stopped"):
        made_once.made_once("thing", "settings", NO_CODE, stopped, tmp_path)
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]
    assert not (make() / "half").exists()


def test_two_that_ask_at_once(cache, make):
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.made == 1


@pytest.mark.parametrize("place", ["off", "file/below"])
def test_nothing_is_kept(place, make, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(made_once.VARIABLE, place if place == "off" else str(tmp_path / place))
    assert make() == tmp_path
    assert (tmp_path / "inner" / "file").is_file()


@pytest.mark.parametrize(
    ("changed", "matters"),
    [("a.py", True), ("part/late.py", True), ("part/__init__.py", True), ("part/unused.py", False)],
)
def test_code_decides(changed, matters, tmp_path):
    files = {
        "a.py": "from . import part\n",
        "part/__init__.py": "def f():\n    from ..part.late import g\n",
        "part/late.py": "import json\n",
        "part/unused.py": "import kndb.a\n",
    }
    for name, text in files.items():
        path = tmp_path / "kndb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    key = partial(made_once.key, "settings", ("kndb.a",), tmp_path)
    before = key()
    assert key() == before
    with (tmp_path / "kndb" / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert (key() != before) is matters
