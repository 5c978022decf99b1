"""No text of a file, a colleague or the command line reaches a terminal, a figure or a page as more than text."""

import json
import os
import pty
import shutil
import sys

import every_command
import pytest
from hostile_texts import EVIL, OBEYED, fill_with

from kndb.cli.main import exit_code

BENCHES = ("edit bench", "edit sweep", "edit optimize")
ONE_PART = ("query fact", "query neuron", "probe show", "edit diff", "query compare")
"""Commands that print several tables: as CSV they need a --part."""


@pytest.fixture(scope="module")
def filled(rich_store, tmp_path_factory):
    """A folder with a rich database full of such texts; only to be copied."""
    folder = tmp_path_factory.mktemp("hostile") / "store"
    shutil.copytree(rich_store, folder, symlinks=True)
    fill_with(folder / "kndb.db")
    return folder


@pytest.fixture
def hostile(filled, place):
    shutil.copytree(filled, place, dirs_exist_ok=True, symlinks=True)
    (place / "out").mkdir()
    return place


def obeyed(text):
    return set(map(ascii, OBEYED.findall(text)))


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_no_command_prints_them(hostile, capsys, form):
    for name in every_command.NAMES:
        if name in BENCHES or (form == "csv" and name in ONE_PART):
            continue
        shutil.rmtree(hostile / "out")
        (hostile / "out").mkdir()
        exit_code([*every_command.words_for(name, hostile / "inputs", hostile / "out"), "--format", form])
        out, err = capsys.readouterr()
        assert obeyed(err) == set(), name
        assert "Traceback" not in err
        # CSV that no terminal shows is exact.
        assert form == "csv" or obeyed(out) == set(), name
        if form == "json" and out:
            json.loads(out)


@pytest.mark.parametrize("name", ["report", "plot overlap", "plot counts", "plot fact", "plot layers"])
def test_no_figure_and_no_page_holds_them(hostile, name):
    assert exit_code(every_command.words_for(name, hostile / "inputs", hostile / "out")) == 0
    (made,) = (path for path in (hostile / "out").rglob("*") if path.is_file())
    text = made.read_text(encoding="utf-8")
    # A left-to-right mark of kndb's own keeps a line's direction, whatever the names in it.
    assert obeyed(text) <= {ascii("\u200e")}
    assert "\\x1b[31mX" in text or name == "plot layers"


ECHOED = [
    ("query", "facts", "--limit", EVIL),
    ("query", "facts", f"--{EVIL}"),
    ("query", "facts", f"-{EVIL}"),
    ("query", "facts", "--format", EVIL),
    ("query", "facts", "--sort", EVIL),
    ("query", "facts", "--subject", EVIL),
    ("query", "facts", "--relation", EVIL),
    ("query", "facts", "--subject", "\udcff"),
    ("query", "facts", EVIL),
    ("query", "shared", EVIL),
    ("query", "neurons", EVIL),
    ("query", "sql", EVIL),
    ("query", EVIL),
    (EVIL,),
    ("--db", EVIL, "query", "facts"),
    ("-v", "query", "facts", "--subject", EVIL),
    ("ingest", EVIL),
    ("model", "add", EVIL),
    ("model", "show", EVIL),
    ("plot", "layers", "--out", EVIL),
    ("export", "facts", "--to", f"{EVIL}.csv"),
    ("import", "facts", EVIL),
    ("docs", EVIL),
    ("edit", "apply", EVIL),
    ("edit", "update", "--model", "tiny", "--fact", "1", "--to", EVIL),
    ("snapshot", "create", EVIL, "--model", "tiny"),
    ("snapshot", "show", EVIL, "--model", "tiny"),
    ("ask", "--model", EVIL, "x [MASK]"),
]


@pytest.mark.parametrize("words", ECHOED, ids=range(len(ECHOED)))
def test_what_was_typed_is_echoed_harmlessly(hostile, capsys, words):
    exit_code(list(words))
    out, err = capsys.readouterr()
    assert obeyed(out) | obeyed(err) == set()
    assert "Traceback" not in err


@pytest.mark.parametrize("names", ["key.jsonl", f"{EVIL.strip()}.jsonl"])
def test_a_list_with_such_texts_in_every_field(hostile, capsys, names):
    row = {
        "relation": f"P9{EVIL}",
        "relation_label": EVIL + "x",
        "subject": f"s{EVIL}t",
        "object": f"o{EVIL}p",
        "id": f"i{EVIL}d",
    }
    lines = [row, {"relation": f"P9{EVIL}", "template": f"[X] {EVIL} is [Y]."}, {"relation": EVIL, "subject": EVIL}]
    (hostile / names).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert exit_code(["ingest", names, "--db", "new.db"]) == 3
    assert exit_code(["ingest", names, "--db", "new.db", "--skip-invalid"]) == 0
    for words in (["query", "facts"], ["query", "relations"], ["query", "facts", "--wide"], ["db", "info"]):
        assert exit_code([*words, "--db", "new.db"]) == 0
    out, err = capsys.readouterr()
    assert obeyed(out) | obeyed(err) == set()
    assert "\\x1b[31mX" in out


@pytest.mark.parametrize("words", ["query facts", "query facts --format csv", "query relations", "edit list --wide"])
def test_nothing_of_them_reaches_a_real_terminal(hostile, words):
    shown = _on_a_terminal([sys.executable, "-m", "kndb.cli.main", *words.split()])
    assert "\\x1b" in shown
    bold = ("\x1b[1m", "\x1b[0m")
    for mark in bold:
        shown = shown.replace(mark, "")
    assert obeyed(shown) <= {ascii("\r")}


def _on_a_terminal(words):
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(words[0], words)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    os.waitpid(child, 0)
    return shown.decode("utf-8")
