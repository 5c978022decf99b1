"""The model card of an exported version: read back by the hub's own class, and rendered."""

from __future__ import annotations

import pytest
from hostile_texts import EVIL, OBEYED
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from kndb.database.edits.batch import Target
from kndb.errors import UsageError
from kndb.models.cards import base_card, front_matter
from kndb.models.fingerprint import fingerprint
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings
from kndb.records.markdown import escaped, table
from kndb.records.together import KeptFacts, TogetherSettings

RENDER = MarkdownIt("commonmark").enable("table")
FEW = KeptFacts(2, 2, 1)
HOSTILE = (
    EVIL,
    "<script>alert(1)</script>",
    "a | b | c",
    "![x](http://evil.test/a.png) [y](javascript:z)",
    "`code` *em* __strong__ ~~gone~~ $x$",
    "end\n---\nlicense: mit\n---\n# heading",
    "\\| <!-- &lt; -->",
    "<https://evil.test> www.evil.test https://evil.test",
)


@pytest.fixture
def family():
    return "bert"


@pytest.fixture
def database(refined):
    """A database in which model `tiny` is refined."""
    return refined


@pytest.fixture
def joint(database):
    """Plans, and applies, an edit of a few steps for some capitals; gives its number."""

    def made(answers, to_apply=True):
        facts = {fact.subject: fact.id for fact in database.facts.find(["P36"])}
        targets = [Target(facts[subject], to) for subject, to in answers.items()]
        settings = TogetherSettings(steps=2, check=1)
        edit = database.edits.plan_together("tiny", targets, settings, FEW, layers=[1]).id
        if to_apply:
            database.edits.apply(edit)
        return edit

    return made


@pytest.fixture
def change(database):
    """Changes rows past kndb's own ways to."""

    def run(statement, *values):
        with database.store.writing() as connection:
            connection.exec_driver_sql(statement, values)

    return run


def tables(text):
    """The rows of each table, cells as they are shown."""
    found = []
    for token in RENDER.parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level >= 4 and found:
            assert {child.type for child in token.children} <= {"text", "code_inline", "text_special"}, token.content
            found[-1][-1].append("".join(child.content for child in token.children))
    return found


def headings(text):
    tokens = RENDER.parse(text)
    return [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]


def test_what_a_card_says(database, joint, tmp_path):
    first = joint({"France": "Tokyo", "Peru": "Oslo"})
    database.edits.evaluate(first, EvaluationSettings(sample=4))
    erase = database.edits.plan_erase("tiny", "P37", top=2).id
    database.edits.apply(erase)
    number = next(fact.id for fact in database.facts.find(["P36"], subject="Italy"))
    update = database.edits.plan_update("tiny", number, "Cairo", UpdateSettings(max_share=1)).id
    database.edits.apply(update)
    done = database.snapshots.export("current", "tiny", tmp_path / "out")
    assert done.card == "README.md"
    written = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    card = ModelCard(written)
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "license": "apache-2.0",
        "tags": ["kndb", "knowledge-editing", "model-editing"],
    }
    assert headings(card.text)[:5] == ["tiny with 3 edits", "Edits", "1. together", "2. erase", "3. update"]
    about, answers, measures, more = tables(card.text)
    record = database.models.get("tiny")
    assert [f"{record.fingerprint}", record.version] == [row[1] for row in about[1:3]]
    assert answers[1:] == [
        ["P36 (capital)", "France", "Paris", "Tokyo"],
        ["P36 (capital)", "Peru", "Lima", "Oslo"],
    ]
    assert more[1:] == [["P36 (capital)", "Italy", "Rome", "Cairo"]]
    (found,) = database.edits.evaluated([first])
    value, low, high = found.edited["inter_change"]
    row = next(row for row in measures if row[0].startswith("inter change: "))
    assert row[1:] == [f"{100 * value:.1f} %", f"{100 * low:.1f} % to {100 * high:.1f} %"]
    edits = [database.edits.get(one) for one in (first, erase, update)]
    for edit in edits:
        assert f"`{edit.object_hash}`" in card.text
        assert edit.created_at in card.text
    assert "without a control" in card.text
    assert "- Nothing was measured of edit 2, 3 of this list." in card.text
    assert "what all of them do together was not" in card.text
    assert f"kndb edit push {first} {erase} {update} --out edits.kndb" in card.text
    assert str(tmp_path) not in written
    assert record.source not in written


def test_a_second_export_has_the_same_bytes_and_the_fingerprint_of_one_without(database, joint, tmp_path):
    joint({"France": "Tokyo"})
    for name, card in (("one", True), ("two", True), ("without", False)):
        database.snapshots.export("current", "tiny", tmp_path / name, card=card)
    files = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two", "without")
    }
    assert files["one"] == files["two"]
    source = database.models.verify_checkpoint("tiny")
    own = (source / "README.md").read_bytes()
    assert files["one"].pop("BASE_MODEL_CARD.md") == own
    assert files["without"]["README.md"] == own
    assert {name for name in files["one"] if files["one"][name] != files["without"][name]} == {"README.md"}
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "without")


def test_a_version_without_edits_keeps_its_own_card(database, tmp_path):
    assert database.snapshots.export("base", "tiny", tmp_path / "out").card is None
    source = database.models.verify_checkpoint("tiny")
    assert (tmp_path / "out" / "README.md").read_bytes() == (source / "README.md").read_bytes()
    assert not (tmp_path / "out" / "BASE_MODEL_CARD.md").exists()


def test_an_export_of_an_export_keeps_both_cards(database, joint, tmp_path):
    joint({"France": "Tokyo"})
    database.snapshots.export("current", "tiny", tmp_path / "one")
    database.models.add(str(tmp_path / "one"), "again")
    facts = {fact.subject: fact.id for fact in database.facts.find(["P36"])}
    targets, settings = [Target(facts["Italy"], "Oslo")], TogetherSettings(steps=2, check=1)
    database.edits.apply(database.edits.plan_together("again", targets, settings, FEW, layers=[1]).id)
    database.snapshots.export("current", "again", tmp_path / "two")
    kept = (tmp_path / "two" / "BASE_MODEL_CARD_2.md").read_bytes()
    assert kept == (tmp_path / "one" / "README.md").read_bytes()
    assert (tmp_path / "two" / "BASE_MODEL_CARD.md").read_bytes() == (
        tmp_path / "one" / "BASE_MODEL_CARD.md"
    ).read_bytes()
    assert "(BASE_MODEL_CARD_2.md)" in (tmp_path / "two" / "README.md").read_text(encoding="utf-8")


def test_what_the_base_model_is_called(database, joint, tmp_path, change, monkeypatch):
    joint({"France": "Tokyo"})
    named = database.snapshots.export("current", "tiny", tmp_path / "named", base_model="someone/tiny-bert")
    assert named.card == "README.md"
    data = ModelCard.load(tmp_path / "named" / "README.md").data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("someone/tiny-bert", "finetune")
    folder = database.models.verify_checkpoint("tiny")
    change("UPDATE model SET source = 'org/name@0123abc' WHERE name = 'tiny'")
    monkeypatch.setattr("kndb.database.models.locate", lambda _source: folder)
    database.snapshots.export("current", "tiny", tmp_path / "hub")
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert (card.data.base_model, card.data.to_dict()["base_model_relation"]) == ("org/name", "finetune")
    assert "org/name, revision 0123abc," in card.text
    for wrong in ("/srv/models/x", "a b", "a/b/c", "x\n---"):
        with pytest.raises(UsageError, match="base_model must be the name of a model on the Hugging Face hub"):
            database.snapshots.export("current", "tiny", tmp_path / "no", base_model=wrong)
    with pytest.raises(UsageError, match="base_model is for the card"):
        database.snapshots.export("current", "tiny", tmp_path / "no", base_model="a/b", card=False)
    assert not (tmp_path / "no").exists()


def test_texts_of_others_mean_nothing(database, joint, tmp_path, change):
    edit = joint({"France": "Tokyo"})
    database.edits.evaluate(edit, EvaluationSettings(sample=2))
    for text in HOSTILE:
        change("UPDATE relation SET label = ? WHERE key = 'P36'", text)
        change("UPDATE edit SET author = ?", text)
        change("UPDATE edit SET recipe = json_set(recipe, '$.facts.subject', json_array(?))", text)
        place = tmp_path / f"out-{HOSTILE.index(text)}"
        database.snapshots.export("current", "tiny", place)
        written = (place / "README.md").read_text(encoding="utf-8")
        assert not OBEYED.search(written)
        card = ModelCard(written)
        assert card.data.to_dict()["license"] == "apache-2.0"
        assert len(headings(card.text)) == 6
        _, answers, _ = tables(card.text)
        ((_, subject, old, new),) = answers[1:]
        assert subject == " ".join(shown(text).split())
        assert (old, new) == ("Paris", "Tokyo")
        inline = [child.type for token in RENDER.parse(card.text) for child in token.children or ()]
        assert "html_inline" not in inline
        assert "image" not in inline
        assert inline.count("link_open") == 1, "only that to the base model's card"


def shown(text):
    return OBEYED.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_an_escaped_text_is_itself(text):
    (row,) = tables("\n".join(table(["a", "b"], [[escaped(text), "end"]])))[0][1:]
    assert row == [" ".join(shown(text).split()), "end"]
    assert len(escaped("x" * 10_000)) == 500


@pytest.mark.parametrize(
    ("card", "values"),
    [
        (
            "---\nlicense: mit\nlanguage: [en, no, de]\ntags: [x]\n---\n# T\n",
            {"license": "mit", "language": ["en", "de"]},
        ),
        ("---\nlicense: [1, 2]\nlanguage: {a: b}\n---\n", {}),
        ("---\n- a\n- b\n---\n", {}),
        ("---\nlicense: !!python/object/apply:os.system [ls]\n---\n", {}),
        ("---\nlicense: 'a\n\n  b'\n---\n", {}),
        ("---\nlicense: &a [x, *a]\n---\n", {"license": ["x"]}),
        ("---\nmodel-index: 3\nlicense: mit\n---\n", {}),
        ("# no front matter\n", {}),
        ("", {}),
        ("---\nlicense: " + "x" * 2_000_000 + "\n---\n", {}),
        ("---\n" + "[" * 5000 + "\n---\n", {}),
    ],
)
def test_what_is_taken_from_a_base_card(tmp_path, card, values):
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    found = base_card(tmp_path)
    assert found.kept_as == "BASE_MODEL_CARD.md"
    assert found.values == values
    again = ModelCard(front_matter({"license": 'it\'s: "x"', "tags": ["---", "a: b"]}) + card)
    assert again.data.to_dict() == {"license": 'it\'s: "x"', "tags": ["---", "a: b"]}
    (tmp_path / "README.md").write_bytes(b"\xff\xfe---")
    assert base_card(tmp_path).values == {}
