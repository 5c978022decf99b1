"""Every command on PostgreSQL, on a copy of the store with something in every table: it answers as on SQLite."""

import json
import re
import shutil

import every_command
import pytest
from backends import POSTGRESQL, SQLITE, Places

from kndb.cli.main import exit_code
from kndb.database import check_database
from kndb.store import maintenance

pytestmark = pytest.mark.slow
SECONDS = frozenset(
    {"report", "edit bench", "edit sweep", "edit optimize", "db backup", "db copy", "db info", "query sql"}
)
"""Commands that take seconds and read what others read, or that answer otherwise on purpose."""
ALIKE = frozenset(f"edit {name}" for name in ("alphaedit", "emmet", "finetune", "rome", "update"))
"""Commands that reach the store as `edit memit` does."""
NAMES = tuple(
    name
    for name in every_command.NAMES
    if name not in SECONDS | ALIKE and (name == "plot fact" or not name.startswith("plot"))
)
READING = tuple(name for name in NAMES if name not in every_command.CHANGING and name != "serve")
"""Pages of `serve` are compared by tests/explorer/test_backends.py."""
CHANGING = tuple(name for name in NAMES if name in every_command.CHANGING)


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    made = {backend: Places(backend, tmp_path_factory.mktemp(backend)) for backend in (SQLITE, POSTGRESQL)}
    yield made
    for places in made.values():
        places.close()


@pytest.fixture(scope="module")
def read_only(ends, rich_store):
    """A copy on each backend that no test changes."""
    return {backend: places.copy_of(rich_store, "read") for backend, places in ends.items()}


@pytest.fixture
def run(rich_store, tmp_path, monkeypatch, capsys):
    """Runs a command on a place, and gives its exit code and what it says, without the place's name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs").symlink_to(rich_store / "inputs")

    def do(name, place):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        capsys.readouterr()
        options = every_command.COMMANDS[f"kndb {name}"].params
        form = ["--format", "json"] if any(one.name == "output" for one in options) else []
        code = exit_code([*every_command.words_for(name, rich_store / "inputs", out), *form, *place.words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err, said.err
        written = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return code, said.out, said.err, written

    return do


@pytest.mark.parametrize("name", READING)
def test_a_reading_command_answers_alike(name, read_only, run):
    code, out, err, written = run(name, read_only[SQLITE])
    found = run(name, read_only[POSTGRESQL])
    assert found[0] == code, found[2]
    assert plain(found[1]) == plain(out)
    assert found[3] == written
    assert re.sub(r" *--(db|objects) \S+", "", found[2]) == re.sub(r" *--(db|objects) \S+", "", err)


def plain(out):
    """What a command printed, without paths of objects and the last digits, which differ with the order of a sum."""
    try:
        return json.loads(re.sub(r"[^\" ]*objects/", "", out), parse_float=lambda text: f"{float(text):.12g}")
    except ValueError:
        return out


def test_numbers_beyond_a_servers_integers_name_nothing(read_only, capsys):
    """They are compared like any other: there is none of that number, as in a file."""
    for number in (2**31, 2**63 - 1):
        for name in ("query compare 1 {}", "probe show {}", "edit trials {}", "query overlap --refinement {}"):
            said = []
            for backend in (SQLITE, POSTGRESQL):
                code = exit_code([*name.format(number).split(), *read_only[backend].words])
                said.append((code, re.sub(r" *--(db|objects) \S+", "", capsys.readouterr().err)))
            assert said[0] == said[1]
            assert said[0][0] == 5, said


@pytest.mark.parametrize("name", CHANGING)
def test_a_changing_command_works(name, ends, rich_store, run):
    places = {backend: made.copy_of(rich_store, name.replace(" ", "-")) for backend, made in ends.items()}
    code, _, err, _ = run(name, places[SQLITE])
    assert code in (0, 2, 8, 11), err
    found = run(name, places[POSTGRESQL])
    assert found[0] == code, found[2]
    place = places[POSTGRESQL]
    assert check_database(place.location, objects=place.objects).problems == ()
    assert rows(place) == rows(places[SQLITE])


def rows(place):
    """The number of rows of each table."""
    with place.store(create=False) as store:
        return maintenance.info(store)["rows"]


def test_a_server_is_described_and_backed_up_by_its_own_tool(read_only, run):
    code, out, _, _ = run("db info", read_only[POSTGRESQL])
    assert code == 0
    found = json.loads(out)
    assert found["rows"] == json.loads(run("db info", read_only[SQLITE])[1])["rows"]
    assert "server_version" in found
    code, _, err, _ = run("db backup", read_only[POSTGRESQL])
    assert code == 2
    assert "pg_dump --format=custom" in err
    assert "kndb db copy FROM TO" in err


def test_a_store_is_copied_by_a_command(read_only, ends, tmp_path, capsys):
    words = ["db", "copy", str(read_only[POSTGRESQL].location), str(tmp_path / "back.db")]
    assert exit_code([*words, "--from-objects", str(read_only[POSTGRESQL].objects), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] > 1000
    assert check_database(tmp_path / "back.db").problems == ()
    assert exit_code([*words, "--db", "x"]) == 2
