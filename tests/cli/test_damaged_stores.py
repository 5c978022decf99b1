"""A damaged database: `db check` names the damage, and no other command crashes on it, whatever the damage."""

import re
import shutil
import sqlite3
from contextlib import closing

import every_command
import pytest
import store_damage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torture import FACTOR

from kndb.cli.main import exit_code
from kndb.database import check_database, open_database
from kndb.errors import KndbError, StoreDamagedError
from kndb.store.tables import Table

pytestmark = pytest.mark.slow
SLOW = frozenset({"report", "ask", "edit update", "edit optimize", "edit bench", "edit sweep", "attribute"})
"""Commands that take seconds: they are tried on a few kinds of damage."""
QUICK = tuple(name for name in every_command.NAMES if name not in SLOW and not name.startswith("plot"))
READING = tuple(name for name in QUICK if name not in every_command.CHANGING and name != "db check")
SOME = ("model list", "query shared", "query facts", "edit list", "db info", "export facts")
"""What is tried where a database is refused as soon as it is opened."""
FOR_ALL = ("a missing table", "a blob for a subject", "JSON of another shape", "a broken reference", "no database")
"""Kinds of damage on which every command is tried, but for the benches, which end alike in minutes."""
DOCUMENTED = range(12)


@pytest.fixture
def copied(rich_store, place):
    """Puts a fresh copy of the rich database into the current folder, and gives its path."""

    def copy():
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copy(rich_store / "kndb.db", place)
        shutil.copytree(rich_store / "kndb.objects", place / "kndb.objects")
        (place / "inputs").symlink_to(rich_store / "inputs")
        (place / "out").mkdir()
        return place / "kndb.db"

    return copy


@pytest.fixture
def ends_well(capsys):
    """Runs a command on a damaged database, and checks how it ends."""

    def run(name, path):
        capsys.readouterr()
        code = exit_code(every_command.words_for(name, path.parent / "inputs", path.parent / "out"))
        err = capsys.readouterr().err
        assert code in DOCUMENTED, f"{name}: {code}"
        assert code != 1, f"{name}: {err}"
        assert "Traceback" not in err
        if code == 4 and name != "db check":
            assert re.search("db check|not an SQLite database|is empty", err), f"{name}: {err}"
        return code, err

    return run


@pytest.fixture
def survives(copied, ends_well):
    """Damages a copy, runs a command on it, and checks how it ends."""

    def run(name, damage):
        path = copied()
        damage.do(path)
        return ends_well(name, path)

    return run


def test_a_sound_store_is_sound_and_every_command_runs_on_it(copied, capsys):
    for name in QUICK:
        path = copied()
        words = every_command.words_for(name, path.parent / "inputs", path.parent / "out")
        assert exit_code(words) in (0, 2, 8, 11), name
        assert "Traceback" not in capsys.readouterr().err
    assert check_database(copied()).problems == ()


@pytest.mark.parametrize("name", store_damage.EVERY)
def test_the_check_names_the_damage(copied, name):
    damage = store_damage.EVERY[name]
    path = copied()
    damage.do(path)
    try:
        problems = check_database(path).problems
    except KndbError as error:
        problems = (str(error),)
    if damage.said:
        assert any(re.search(damage.said, problem) for problem in problems), problems
    else:
        assert problems == ()
    assert all("\n" not in problem for problem in problems)


@pytest.mark.fault
@pytest.mark.parametrize("damage", store_damage.EVERY)
def test_no_command_that_reads_crashes(copied, ends_well, damage):
    """In `make test` each kind of damage meets a third of the commands, and each command a third of the damages."""
    path = copied()
    store_damage.EVERY[damage].do(path)
    turn = list(store_damage.EVERY).index(damage)
    some = READING if FACTOR > 1 else READING[turn % 3 :: 3]
    for name in some if damage in store_damage.VALUES else SOME:
        ends_well(name, path)


@pytest.mark.parametrize("damage", FOR_ALL)
def test_no_command_at_all_crashes(survives, damage):
    for name in every_command.NAMES:
        if name not in READING and name not in ("edit bench", "edit sweep"):
            survives(name, store_damage.EVERY[damage])


@pytest.mark.parametrize("name", ["query facts", "edit list", "model list", "query runs", "ingest", "edit apply"])
def test_a_missing_table_is_said_at_once(survives, name):
    code, err = survives(name, store_damage.SCHEMA["a missing table"])
    assert code == 4
    assert "table score is missing; see all with: kndb db check" in err


def test_what_was_lost_is_not_said_to_have_never_been(survives):
    code, err = survives("query shared", store_damage.VALUES["a model that is gone"])
    assert code == 4
    assert re.search("is damaged, so this can't be done .there is no refinement yet.: table .* refers to .* model", err)


def test_python_names_the_damage_too(copied):
    path = copied()
    store_damage.VALUES["JSON of another shape"].do(path)
    with (
        open_database(path) as database,
        pytest.raises(StoreDamagedError, match=r"a row of run\.settings holds .* must be a JSON object.*check"),
    ):
        database.query.runs()


def test_a_trigger_is_kept_out_of_every_transaction(copied):
    path = copied()
    store_damage.SCHEMA["a foreign trigger"].do(path)
    with pytest.raises(StoreDamagedError, match="trigger spy is not kndb's"):
        open_database(path)


# --- any value in any column ------------------------------------------------------------------------

COLUMNS = [
    (table.name, column.name) for table in Table.metadata.sorted_tables for column in table.columns if column.name
]
ANY_VALUE = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    st.binary(max_size=4),
    st.sampled_from(
        ["{}", "[]", "null", "5", '{"neurons": {}}', '{"edited": 1}', "[[]]", "NaN", "[null]", '{"1": "x"}']
    ),
)
"""What SQLite takes in any column."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(COLUMNS), ANY_VALUE, st.sampled_from(READING))
def test_no_value_of_any_column_makes_a_command_crash(survives, column, value, name):
    def do(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as driver:
            driver.execute("PRAGMA foreign_keys=OFF")
            driver.execute("PRAGMA ignore_check_constraints=ON")
            rows = f"(SELECT min(rowid) FROM {column[0]})" if _has_rowid(driver, column[0]) else "rowid"
            where = f" WHERE rowid = {rows}" if rows != "rowid" else ""
            try:
                driver.execute(f'UPDATE OR REPLACE "{column[0]}" SET "{column[1]}" = ?{where}', (value,))
            except sqlite3.IntegrityError:
                return  # no NULL there; no text for a row's number

    survives(name, store_damage.Damage(do, ""))


def _has_rowid(driver, table):
    return "WITHOUT ROWID" not in driver.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
