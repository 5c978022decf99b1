"""How records show themselves: lines, tables, frames. Nothing that a text holds gets out of its place."""

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from html.parser import HTMLParser
from importlib import import_module

import pytest

import kndb
from kndb.errors import UsageError
from kndb.records.attribution import KnowledgeNeuron, Refinement, RelationRefinement, Run, SharedNeuron
from kndb.records.display import LINES, TABLE_ROWS, Record, Rows
from kndb.records.edits import Edit
from kndb.records.facts import Fact
from kndb.records.models import Answer, Neuron
from kndb.records.queries import FactFindings, NearFact, Overlap, PromptFindings, RelationOverlap, Votes

HOSTILE = "<script>alert(1)</script> & \"'\x1b[31m\u202e\n"
FRANCE = Fact(957, "P36", "France", "Paris", prompts=10)
RUN = Run(3, "smollm2", "v1", "integrated-gradients", {"floor": 0.1}, "complete", "2026-01-01", None, 3118)
PARTS = ("attribution", "edits", "facts", "maintenance", "models", "probes", "queries", "versions")


class Cells(HTMLParser):
    """The texts of a table's cells, row by row, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self._open = [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data


def test_lines_name_what_identifies_a_record():
    assert repr(FRANCE) == "Fact(957, P36, 'France' → 'Paris')"
    assert repr(Fact(1, "P36", None, "Paris")) == "Fact(1, P36, (not named) → 'Paris')"
    assert repr(Neuron(2, 418)) == "Neuron(L2.N418)"
    assert repr(RUN) == "Run(3, smollm2, integrated-gradients, 3,118 prompts)"
    assert repr(SharedNeuron(2, 418, 21, 0.404, {"P176": 21})) == "SharedNeuron(L2.N418, 21 facts, 40.4 %)"
    assert repr(KnowledgeNeuron(1, 2, 3, None, None)) == "KnowledgeNeuron(L2.N3, fact 1)"
    assert repr(Answer("Paris", 0.60481)) == "Answer('Paris', 0.6048)"


def records_of(part):
    module = import_module(f"kndb.records.{part}")
    return [kind for kind in vars(module).values() if is_dataclass(kind) and issubclass(kind, Record)]


def made_of(kind, text):
    """A record whose texts are all this one, its numbers 1, its lists empty."""
    values = {}
    for field in fields(kind):
        written = str(field.type)
        if written == "Fact":
            value = Fact(1, text, text, text)
        elif written == "Edit":
            value = made_of(Edit, text)
        elif written.startswith("str"):
            value = text
        elif written.startswith(("Mapping", "StoredSettings")):
            value = {text: 1}
        elif written.startswith("tuple"):
            value = ()
        else:
            value = 1
        values[field.name] = value
    return kind(**values)


@pytest.mark.parametrize("kind", [kind for part in PARTS for kind in records_of(part)], ids=lambda kind: kind.__name__)
def test_every_record_has_one_short_line_and_escaped_html(kind):
    line = repr(made_of(kind, HOSTILE))
    assert line.startswith(f"{kind.__name__}(")
    assert line.isprintable(), "no line ends, control characters or reversals"
    assert len(repr(made_of(kind, "a" * 12))) < 240
    html = made_of(kind, HOSTILE)._repr_html_()
    assert "script" not in Cells(html).tags
    assert "\x1b" not in html


def test_a_subclass_with_its_own_repr_keeps_it():
    @dataclass(frozen=True)
    class Own(Record):
        number: int

        def __repr__(self):
            return "mine"

    assert repr(Own(3)) == "mine"


def test_rows_are_a_list():
    rows = Rows([FRANCE, FRANCE], Fact)
    assert rows == [FRANCE, FRANCE]
    assert isinstance(rows, list)
    assert isinstance(rows[:1], Rows)
    assert rows[0] is FRANCE
    assert type(rows[5:].to_frame().columns.tolist()) is list
    for other in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows)), copy.copy(rows)):
        assert other == rows
        assert repr(other) == repr(rows)


def test_the_repr_of_rows_is_short():
    rows = Rows(Fact(number, "P36", "a", "b") for number in range(1234))
    lines = repr(rows).splitlines()
    assert len(lines) == LINES + 1
    assert lines[0] == "[Fact(0, P36, 'a' → 'b'),"
    assert lines[-1] == f" … {1234 - LINES:,} more]"
    assert repr(Rows([FRANCE])) == f"[{FRANCE!r}]"
    assert repr(Rows()) == "[]"


def test_html_of_rows():
    rows = Rows([SharedNeuron(2, number, 21, 0.25, {"P176": 21}) for number in range(50)])
    html = rows._repr_html_()
    head, first, *rest = Cells(html).rows
    assert head == ["neuron", "facts", "share", "relations"]
    assert first == ["L2.N0", "21", "0.25", "P176 21"]
    assert len(rest) == TABLE_ROWS - 1
    assert f"{TABLE_ROWS} of 50 rows" in html
    assert Cells(Rows([Answer(HOSTILE, 0.5)])._repr_html_()).rows[1][0] == HOSTILE.replace("\x1b", "\\x1b").replace(
        "\u202e", "\\u202e"
    ).replace("\n", "\\n")
    assert "rows" in Rows()._repr_html_()


def findings():
    prompts = (PromptFindings(1, HOSTILE, False, 0.5, "Paris", 0.5, True, 3, 1e-4, 2, False, None),)
    votes = (Votes(2, 418, 7, 4.2, kept=True, mean_score=0.3),)
    return FactFindings(FRANCE, 0.7, 0.5, 1, prompts, votes, (NearFact(2, "P36", "Italy", "Rome", 1, 0.25),))


def test_html_of_a_record_folds_its_lists():
    html = findings()._repr_html_()
    assert html.count("<details>") == 3
    assert "votes (1)" in html
    assert ["L2.N418", "7", "4.2", "yes", "0.3"] in Cells(html).rows
    assert "script" not in Cells(html).tags


def test_frames():
    pytest.importorskip("pandas")
    frame = Rows([FRANCE, Fact(958, "P36", "Germany", "Berlin")]).to_frame()
    assert list(frame.columns) == [field.name for field in fields(Fact)]
    assert frame["object"].tolist() == ["Paris", "Berlin"]
    assert frame["id"].tolist() == [957, 958]
    assert list(Rows([], Fact).to_frame().columns) == list(frame.columns)
    assert Rows([]).to_frame().shape == (0, 0)
    assert FRANCE.to_frame().equals(Rows([FRANCE]).to_frame())
    assert findings().to_frame("votes")["neuron"].tolist() == [418]
    refinement = Refinement(1, 3, {"share": 0.7}, "", (RelationRefinement("P36", 0.7, 1, 5, 4, 3.5),))
    assert refinement.to_frame()["settings"].tolist() == [{"share": 0.7}]
    overlap = Overlap(("P36",), (RelationOverlap("P36", "P36", 3, 1.5, 1, 2.0, 2, 1.25),), ())
    assert overlap.to_frame("cells")["mean"].tolist() == [1.5]
    with pytest.raises(UsageError, match="its parts are relations, cells, summary"):
        overlap.to_frame("rows")


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        FRANCE.to_frame()


def test_importing_and_showing_records_loads_neither_pandas_nor_torch():
    code = (
        "import sys, kndb; from kndb.records.models import Answer; rows = kndb.Rows([Answer('a', 0.5)]); "
        "repr(rows), rows._repr_html_(); assert not {'pandas', 'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_methods_of_a_database_give_rows(tmp_path):
    with kndb.open(tmp_path / "kndb.db") as db:
        db.facts.ingest([kndb.own_facts()], relations=["P36"])
        found = db.facts.find(["P36"], subject="France")
        assert isinstance(found, Rows)
        assert re.fullmatch(r"\[Fact\(\d+, P36, 'France' → 'Paris'\)\]", repr(found))
        empty = (db.models.all(), db.query.runs(), db.query.refinements(), db.edits.all(), db.edits.log(),
                 db.probes.all(), db.trials.all(), db.snapshots.all(),
                 db.edits.evaluations(), db.edits.evaluated())  # fmt: skip
        for rows in empty:
            assert isinstance(rows, Rows)
            assert rows == []
