"""mLAMA and mParaRel: languages never meet."""

from __future__ import annotations

import pytest

from kndb import facts
from kndb.cli.main import exit_code
from kndb.database import open_database
from kndb.errors import InputError
from kndb.records.facts import FactRecord, TemplateRecord

GERMAN = {"sub_uri": "Q34", "obj_uri": "Q1754", "sub_label": "Schweden", "obj_label": "Stockholm", "lineid": 3}
JAPANESE = {
    "sub_uri": "Q34",
    "obj_uri": "Q1754",
    "sub_label": "スウェーデン",
    "obj_label": "ストックホルム",
    "lineid": 3,
}
CHINESE = {"pattern": "[X]的首都是[Y]", "checked-by-human": True}
SHAPES = {
    "mlama": {
        "de/templates.jsonl": [{"relation": "P36", "template": "Die Hauptstadt von [X] ist [Y]."}],
        "de/P36.jsonl": [GERMAN],
        "ja/P36.jsonl": [JAPANESE],
        "zh/templates.jsonl": [{"relation": "P36", "template": "[X]的首都是[Y]"}],
        "zh/P36.jsonl": [],
    },
    "mpararel": {
        "data/mpararel_reviewed/patterns/de/P36.jsonl": [{"pattern": "Die Hauptstadt von [X] ist [Y]."}],
        "data/mpararel_reviewed/patterns/zh/P36.jsonl": [CHINESE],
        "data/mpararel_reviewed/tuples/de/P36.jsonl": [GERMAN],
        "data/mpararel_reviewed/tuples/ja/P36.jsonl": [JAPANESE],
    },
    "one folder": {
        "de/P36.jsonl": [{"pattern": "Die Hauptstadt von [X] ist [Y]."}],
        "de/P36_facts.jsonl": [GERMAN],
        "ja/P36_facts.jsonl": [JAPANESE],
        "zh/P36.jsonl": [CHINESE],
    },
}


@pytest.fixture(params=SHAPES)
def lists(request, write, tmp_path):
    for name, content in SHAPES[request.param].items():
        write(f"lists/{name}", content)
    return tmp_path / "lists"


def all_of(files):
    return (
        {template for file in files for template in file.templates},
        {fact for file in files for fact in file.facts},
        {key for file in files for key in file.relations},
    )


def test_a_language_is_part_of_the_relation(lists):
    templates, found, relations = all_of(facts.read(lists))
    assert templates == {
        TemplateRecord("P36@de", "Die Hauptstadt von [X] ist [Y]."),
        TemplateRecord("P36@zh", "[X]的首都是[Y]"),
    }
    assert found == {
        FactRecord("P36@de", "Schweden", "Stockholm", "P36@de-3"),
        FactRecord("P36@ja", "スウェーデン", "ストックホルム", "P36@ja-3"),
    }
    assert relations == {"P36@de", "P36@ja", "P36@zh"}


def test_no_language_meets_another_in_the_store(lists, tmp_path):
    with open_database(tmp_path / "kndb.db") as database:
        report = database.facts.ingest([lists])
        assert (report.facts_added, report.prompts_added) == (2, 1)
        database.facts.ingest([lists], languages=["ja", "zh"])
        with database.store.reading() as connection:
            texts = connection.exec_driver_sql("SELECT text FROM prompt").scalars().all()
    assert texts == ["Die Hauptstadt von Schweden ist [Y]."]


@pytest.mark.parametrize("languages", [["de"], ["zh", "ja"]])
def test_only_some_languages(lists, languages):
    every = all_of(facts.read(lists))
    _, _, relations = found = all_of(facts.read(lists, languages=languages))
    assert relations == {f"P36@{language}" for language in languages}
    wanted = {item for item in every[0] | every[1] if item.relation in relations}
    assert found[0] | found[1] == wanted


def test_a_broken_language_that_is_not_asked_for(lists, write):
    path = next(path for path in sorted(lists.rglob("*.jsonl")) if "ja" in path.parts)
    path.write_text("{\n")
    assert all_of(facts.read(lists, languages=["de"]))[2] == {"P36@de"}
    with pytest.raises(InputError, match=r"jsonl:1: not valid JSON"):
        facts.read(lists)


def test_a_relation_stands_for_itself_in_each_language(lists):
    assert all_of(facts.read(lists, relations=["P36"])) == all_of(facts.read(lists))
    assert all_of(facts.read(lists, relations=["P36@de"]))[2] == {"P36@de"}
    with pytest.raises(InputError, match=r"does not have this relation; the nearest there: P36@"):
        facts.read(lists, relations=["P37"])


def test_a_language_that_is_not_there(lists):
    with pytest.raises(InputError, match=r"languages=\['fr'\]: .*lists does not have this language; it has de, ja, zh"):
        facts.read(lists, languages=["de", "fr"])


def test_the_folder_of_one_language(write, tmp_path):
    for name, content in SHAPES["mlama"].items():
        write(name, content)
    assert all_of(facts.read(tmp_path / "de"))[2] == {"P36@de"}


def test_several_copies(write, tmp_path):
    for copy in ("mpararel", "mpararel_reviewed"):
        write(f"{copy}/patterns/de/P36.jsonl", [CHINESE])
        write(f"{copy}/tuples/de/P36.jsonl", [GERMAN])
    with pytest.raises(InputError, match="languages' folders lie in several places"):
        facts.read(tmp_path, "mpararel")
    assert len(facts.read(tmp_path / "mpararel")) == 2


def test_a_half_that_cannot_be_read_is_not_passed_over(write, tmp_path):
    write("tuples/de/P36.jsonl", [GERMAN])
    write("patterns/de/P36.jsonl", "{\n")
    with pytest.raises(InputError, match=r"patterns/de/P36\.jsonl:1: not valid JSON"):
        facts.read(tmp_path)


def test_own_lists_in_a_folder_called_like_a_language(write, tmp_path):
    write("it/templates.jsonl", [{"relation": "P36", "template": "[X]: [Y]"}])
    write("it/facts.jsonl", [{"relation": "P36", "subject": "Peru", "object": "Lima"}])
    assert all_of(facts.read(tmp_path / "it"))[2] == {"P36"}


def test_a_template_without_a_relation(write, tmp_path):
    write("de/P36.jsonl", [GERMAN])
    write("de/templates.jsonl", [{"relation": "P36", "template": "[X]: [Y]"}, {"relation": "P36"}])
    with pytest.raises(InputError, match=r"templates\.jsonl:2: a template must have 'relation' and 'template'"):
        facts.read(tmp_path)


@pytest.mark.parametrize("code", ["de", "ceb", "zh-hans", "zh_Hant", "be-tarask", "simple"])
def test_codes_of_languages(write, tmp_path, code):
    write(f"lists/{code}/P36.jsonl", [GERMAN])
    assert all_of(facts.read(tmp_path / "lists"))[2] == {f"P36@{code}"}


def test_the_option(lists, tmp_path, capsys):
    arguments = ["ingest", str(lists), "--db", str(tmp_path / "kndb.db"), "--language"]
    assert exit_code([*arguments, "fr"]) == 3
    assert "Error: --language fr: " in capsys.readouterr().err
    assert exit_code([*arguments, "ja", "--language", "zh", "--relation", "P36"]) == 0
    with open_database(tmp_path / "kndb.db") as database:
        assert [relation.key for relation in database.facts.relations()] == ["P36@ja", "P36@zh"]
