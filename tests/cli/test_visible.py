"""What a terminal would obey does not reach it."""

import json

import pytest

from kndb.cli import output
from kndb.cli.visible import harmless, harmless_json, visible
from kndb.database import open_database

EVIL = "a\x1b[31mred\x9b0m\u202eright\u2066\n\tb\x7f\r"


def test_each_character_is_written_out():
    assert visible(EVIL) == "a\\x1b[31mred\\x9b0m\\u202eright\\u2066\\n\\tb\\x7f\\x0d"
    assert harmless("two\nlines\tand a tab") == "two\nlines\tand a tab"
    assert visible("Größe 東京 naïve") == "Größe 東京 naïve"


def test_json_means_the_same():
    text = json.dumps({"a": EVIL}, ensure_ascii=False)
    assert json.loads(harmless_json(text)) == {"a": EVIL}
    assert not set(harmless_json(text)) & set("\x1b\x9b\u202e\u2066\x7f")


@pytest.mark.parametrize("form", output.OutputFormat)
def test_no_answer_has_them_but_exact_csv_for_a_pipe(capsys, form):
    output.print_rows([{"name": EVIL}], ["name"], form)
    output.print_record({"name": EVIL}, form)
    output.note(EVIL)
    out, err = capsys.readouterr()
    assert "\x1b" not in err
    assert "\u202e" not in err
    if form is output.OutputFormat.CSV:
        assert EVIL in out
    else:
        assert not set(out) & set("\x1b\x9b\u202e\u2066\x7f")


def test_csv_on_a_terminal_has_none_either(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.print_rows([{"name": EVIL}], ["name"], output.OutputFormat.CSV)
    assert not set(capsys.readouterr().out) & set("\x1b\x9b\u202e\u2066\x7f")


def test_a_colleagues_fact_is_shown_harmlessly(kndb, place):
    line = json.dumps({"relation": "P1", "subject": "x\x1b]0;owned\x07y", "object": "o\u202etxt"})
    (place / "theirs.jsonl").write_text(line, encoding="utf-8")
    kndb("ingest", "theirs.jsonl")
    with open_database("kndb.db") as database:
        assert database.facts.find()[0].subject == "x\x1b]0;owned\x07y"
    shown = kndb("query", "facts").out
    assert "x\\x1b]0;owned\\x07y" in shown
    assert "\x1b" not in shown
    assert kndb("query", "facts", "--format", "json").json[0]["subject"] == "x\x1b]0;owned\x07y"
    # What people search for is echoed in an error as they typed it, harmlessly too.
    assert "\x1b" not in kndb("attribute", "--model", "lab-bert", "--subject", "\x1b[2J", code=5).err
