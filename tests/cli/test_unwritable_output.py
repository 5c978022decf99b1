"""Output that can't be written: one line on stderr and a documented exit code; no half file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kndb.cli.main import BROKEN_PIPE, exit_code
from kndb.database import open_database
from kndb.errors import OutputError

FORMS = ("table", "json", "csv")
UNWRITABLE = OutputError.exit_code
WORDS = "Größe 東京"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def shell(place):
    """Runs a command line of a shell in which `kndb` is this program: exit code, stdout and stderr."""
    with open_database(place / "kndb.db") as database, database.store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation VALUES (1, 'P36', ?)", (WORDS,))
        rows = [(number, f"subject {number}") for number in range(1, 3001)]
        connection.exec_driver_sql("INSERT INTO fact VALUES (?, 1, ?, 'o', NULL, 's')", rows)

    def run(line, **environment):
        program = f'kndb() {{ "{sys.executable}" -m kndb.cli.main "$@"; }}; {line}'
        return subprocess.run(
            ["bash", "-c", program],
            capture_output=True,
            text=True,
            encoding=environment.get("PYTHONIOENCODING", "utf-8"),
            timeout=300,
            check=False,
            env={**os.environ, **environment},
        )

    return run


@needs_full
@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_one_line(shell, form):
    done = shell(f"kndb query facts --format {form} > /dev/full")
    assert done.returncode == UNWRITABLE
    assert done.stderr == "Error: stdout can't be written: No space left on device; the answer is not complete\n"


@needs_full
@pytest.mark.parametrize("line", ["--help", "query --help", "query facts --help", "--version", "docs commands"])
def test_help_and_pages_on_a_full_disk(shell, line):
    done = shell(f"kndb {line} > /dev/full")
    assert done.returncode == UNWRITABLE
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_closed_stdout_is_one_line(shell, form):
    done = shell(f"kndb query facts --format {form} >&-")
    assert done.returncode == UNWRITABLE
    assert done.stderr == "Error: stdout can't be written: stdout is closed; the answer is not complete\n"


@pytest.mark.parametrize("form", FORMS)
def test_a_reader_who_leaves_ends_it_quietly(shell, form):
    done = shell(f"kndb query facts --format {form} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


def test_a_closed_or_full_stderr_changes_nothing(shell):
    plain = shell("kndb query facts --subject nobody")
    assert plain.returncode == 0
    assert "no fact" in plain.stderr
    closed = shell("kndb query facts --subject nobody 2>&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, plain.stdout, "")
    assert shell("kndb query facts --limit 0 2>&-").returncode == 2
    assert shell("kndb query nothing 2>&-").returncode == 2
    if FULL.exists():
        full = shell("kndb query facts --subject nobody 2>/dev/full")
        assert (full.returncode, full.stdout) == (0, plain.stdout)
        assert shell("kndb query facts --limit 0 2>/dev/full").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_the_characters(shell, encoding):
    environment = {"PYTHONIOENCODING": encoding}
    table = shell("kndb query relations", **environment)
    assert (table.returncode, table.stderr) == (0, "")
    assert WORDS.encode(encoding, "backslashreplace").decode(encoding) in table.stdout
    found = shell("kndb query relations --format json", **environment)
    assert json.loads(found.stdout)[0]["label"] == WORDS
    csv = shell("kndb query relations --format csv", **environment)
    assert csv.returncode == UNWRITABLE
    assert csv.stderr.count("\n") == 1
    assert "has no character" in csv.stderr
    assert "PYTHONIOENCODING=utf-8" in csv.stderr


@pytest.mark.parametrize("form", FORMS)
def test_the_c_locale_changes_nothing(shell, form):
    line = f"kndb query relations --format {form}"
    assert shell(line, LC_ALL="C").stdout == shell(line, LC_ALL="C.UTF-8").stdout


# --- files ------------------------------------------------------------------------------------------

WRITERS = {
    "plot layers": "plot layers --out {out}/a.svg",
    "plot fact": "plot fact 1 --out {out}/a.png",
    "edit trials": "edit trials 1 --plot {out}/a.pdf",
    "report": "report --model tiny --out {out}/page",
    "export neurons": "export neurons --to {out}/a.csv",
    "export scores": "export scores --to {out}/a.jsonl",
    "export facts": "export facts --to {out}/a.csv",
    "export facts as Parquet": "export facts --to {out}/a.parquet",
    "edit push": "edit push 1 --out {out}/a.kndb",
    "snapshot export": "snapshot export one --model tiny --out {out}/checkpoint",
}


@pytest.fixture
def rich(rich_store, place):
    """The rich database and an empty folder `out` in the current folder."""
    import shutil

    shutil.copytree(rich_store, place, dirs_exist_ok=True, symlinks=True)
    (place / "out").mkdir()
    return place


@pytest.mark.parametrize("name", WRITERS)
def test_no_half_file_stays_where_the_disk_is_full(rich, capsys, monkeypatch, name):
    """The flush to the disk fails: what was written by then is not what stays."""

    def full(descriptor):
        if str(rich / "out") in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")

    words = WRITERS[name].format(out=rich / "out").split()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert exit_code(words) == UNWRITABLE
    err = capsys.readouterr().err
    assert "can't be written: No space left on device" in err
    assert "Traceback" not in err
    assert [path for path in (rich / "out").rglob("*") if not path.is_dir()] == []
    assert exit_code(words) == 0
    assert [path for path in (rich / "out").rglob("*") if not path.is_dir()] != []


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_can_not_be_written(rich, capsys, name):
    (rich / "out").rmdir()
    (rich / "out").write_text("a file, not a folder")
    assert exit_code(WRITERS[name].format(out=rich / "out").split()) in (2, UNWRITABLE)
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("Error: ")
    assert (rich / "out").read_text() == "a file, not a folder"


@pytest.mark.parametrize("name", ["edit push", "plot layers"])
def test_a_pipe_is_not_replaced_by_a_file(rich, capsys, name):
    target = rich / "out" / ("a.kndb" if name == "edit push" else "a.svg")
    os.mkfifo(target)
    words = WRITERS[name].format(out=rich / "out").split() + (["--force"] if name == "edit push" else [])
    assert exit_code(words) == UNWRITABLE
    assert "it is there, and no file" in capsys.readouterr().err
    assert target.is_fifo()
