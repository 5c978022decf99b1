"""Ingesting facts, against a plain-Python account of it, and reading them back."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from backends import BOTH, SQLITE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kndb.errors import InputError, NotFoundError, RejectedLine, UsageError
from kndb.facts import blank_is_last, fill
from kndb.records.facts import (
    EvaluationPrompt,
    Fact,
    FactFile,
    FactRecord,
    NeededAnswer,
    NeededEdit,
    Prompt,
    RequestedEdit,
    TemplateRecord,
)
from kndb.store import evaluation_prompts, facts, ingest
from kndb.store.engine import Store, open_store

BACKENDS = BOTH

HERE = Path(__file__).parent


def take(store: Store, *files: FactFile):
    with store.writing() as connection:
        return facts.ingest(connection, files)


def read(store: Store, function, *arguments, **options):
    with store.reading() as connection:
        return function(connection, *arguments, **options)


def texts(store: Store, **options) -> list[str]:
    return [prompt.text for prompt in read(store, facts.prompts, **options)]


MAKER = TemplateRecord("P176", "[X] is produced by [Y].")
IPOD = FactRecord("P176", "iPod Touch", "Apple", "f1")
FUSION = FactRecord("P176", "Ford Fusion", "Ford", "f2")
PARIS = FactRecord("P36", None, "Paris", "bag-1", ("The capital of France is [Y].", "[Y] rules France."))
FILE = FactFile("a.jsonl", {"P176": "manufacturer", "P36": None}, (MAKER,), (IPOD, FUSION, PARIS))


# --- ingest -----------------------------------------------------------------------------------------


def test_ingest_reports_what_is_new(store):
    rejected = RejectedLine("a.jsonl", 7, "found no object")
    report = take(store, replace(FILE, rejected=(rejected,)))
    assert (report.facts_added, report.facts_seen, report.prompts_added) == (3, 3, 4)
    assert (report.templates_added, report.relations, report.rejected) == (1, 2, (rejected,))
    assert report.prompts_blank_last == 3
    again = take(store, FILE, FILE)
    assert (again.facts_added, again.facts_seen, again.prompts_added, again.templates_added) == (0, 6, 0, 0)
    assert again.prompts_blank_last == 3


def test_rejected_lines_of_all_files_are_reported(store):
    lines = [RejectedLine(name, 7, "found no object") for name in ("a.jsonl", "b.jsonl")]
    report = take(store, *(replace(FILE, source=line.file, rejected=(line,)) for line in lines))
    assert report.rejected == tuple(lines)


def test_ingest_of_nothing(store):
    report = take(store)
    assert (report.facts_seen, report.prompts_added, report.relations, report.prompts_blank_last) == (
        0,
        0,
        0,
        0,
    )


def test_templates_meet_facts_across_ingests(store):
    take(store, FactFile("facts", {"P176": None}, (), (IPOD,)))
    assert texts(store) == []
    assert take(store, FactFile("templates", {"P176": None}, (MAKER,), ())).prompts_added == 1
    assert take(store, FactFile("facts", {"P176": None}, (), (FUSION,))).prompts_added == 1
    assert texts(store) == ["iPod Touch is produced by [Y].", "Ford Fusion is produced by [Y]."]


def test_first_come_stays_and_missing_labels_are_filled_in(store):
    held_out = replace(MAKER, held_out=True)
    take(store, FactFile("first", {"P176": None}, (MAKER,), (IPOD,)))
    take(store, FactFile("second", {"P176": "made by"}, (held_out,), (replace(IPOD, external_id="other"),)))
    take(store, FactFile("third", {"P176": "third label"}, (), ()))
    take(store, FactFile("fourth", {"P176": None}, (), ()))
    [relation] = read(store, facts.relations)
    assert (relation.label, relation.facts, relation.templates, relation.prompts) == ("made by", 1, 1, 1)
    [fact] = read(store, facts.find_facts)
    assert fact == Fact(1, "P176", "iPod Touch", "Apple", "f1", 1)
    assert texts(store, held_out=True) == []
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT source FROM fact").scalar_one() == "first"


def test_several_objects_are_several_facts(store):
    other = replace(IPOD, object="Foxconn", external_id=None)
    take(store, replace(FILE, facts=(IPOD, other, IPOD)))
    assert [fact.object for fact in read(store, facts.find_facts)] == ["Apple", "Foxconn"]
    answers = [(prompt.text, prompt.answer) for prompt in read(store, facts.prompts)]
    assert answers == [
        ("iPod Touch is produced by [Y].", "Apple"),
        ("iPod Touch is produced by [Y].", "Foxconn"),
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_prompt_that_a_template_gives_too_belongs_to_it(store, order):
    written = FactFile("w", {"P176": None}, (), (replace(IPOD, prompts=("iPod Touch is produced by [Y].",)),))
    template = FactFile("t", {"P176": None}, (replace(MAKER, held_out=True),), ())
    for number in order:
        take(store, (written, template)[number])
    assert [prompt.held_out for prompt in read(store, facts.prompts)] == [True]


def test_fact_without_subject_keeps_its_object(store):
    take(store, FILE)
    with pytest.raises(InputError, match=r"'bag-1' of relation P36.*'Paris'.*'Lyon'"):
        take(store, FactFile("b", {"P36": "capital"}, (), (replace(PARIS, object="Lyon"),)))
    [relation] = [relation for relation in read(store, facts.relations) if relation.key == "P36"]
    assert relation.label is None


def test_facts_without_subject_get_no_template(store):
    take(store, replace(FILE, templates=(MAKER, TemplateRecord("P36", "The capital of [X] is [Y]."))))
    assert texts(store, relations=["P36"]) == list(PARIS.prompts)


# Subjects that are dear to SQL, to format strings, to JSON, or to case folding.
SUBJECTS = ["Paris", "paris", "a", "[", "{}", "{0}", "%s", "x%_y", "' OR 1=1 --", '"', "\\", "é", "e\u0301"]
SUBJECTS += ["İzmir", "\U0001d518", "مرحبا", "日本。", ":a", "?1", ".", " ", "ß"]
PARTS = st.sampled_from(["", " ", ".", "is", " of ", "!", "。", ",", ":", "a", "[", "]", "{}", "»)]"])
KEYS = st.sampled_from(["P1", "P2", "p1"])


@st.composite
def template_records(draw: st.DrawFn) -> TemplateRecord:
    slots = draw(st.permutations(["[X]", "[Y]"]))
    text = draw(PARTS) + slots[0] + draw(PARTS) + slots[1] + draw(PARTS)
    return TemplateRecord(draw(KEYS), text, draw(st.booleans()))


NEEDED = (NeededEdit("P36", "Norway", "Bergen"),)
EVALUATION = st.builds(
    EvaluationPrompt,
    st.sampled_from(["paraphrase", "locality"]),
    st.sampled_from(["loc", "Ä's"]),
    st.sampled_from(["a [Y]", "b “[Y]”"]),
    st.sampled_from([(), ("A",), ("A", "Ä")]),
    st.none() | st.sampled_from(["B", ""]),
    st.sampled_from([(), NEEDED]),
    st.sampled_from([(), (NeededAnswer("c [Y]", ("C", "D")),)]),
)


@st.composite
def fact_records(draw: st.DrawFn) -> FactRecord:
    written = st.tuples(PARTS, PARTS).map("[Y]".join)
    prompts = tuple(draw(st.lists(written, max_size=3)))
    subject = draw(st.none() | st.sampled_from(SUBJECTS))
    number = draw(st.none() | st.sampled_from(["1", "2", "3"]))
    more = tuple(draw(st.lists(EVALUATION, max_size=3))), draw(st.none() | st.just(RequestedEdit(1, {"to": "B"})))
    if subject is None:
        number = number or "0"
        return FactRecord(draw(KEYS), None, f"object {number}", number, prompts, *more)
    return FactRecord(draw(KEYS), subject, draw(st.sampled_from(["A", "B", "Ä"])), number, prompts, *more)


@st.composite
def fact_files(draw: st.DrawFn) -> FactFile:
    templates = tuple(draw(st.lists(template_records(), max_size=5)))
    records = tuple(draw(st.lists(fact_records(), max_size=8)))
    used = [record.relation for record in (*templates, *records)] + draw(st.lists(KEYS, max_size=1))
    relations = {key: draw(st.none() | st.sampled_from(["label", "other"])) for key in used}
    return FactFile(draw(st.sampled_from(["a", "b"])), relations, templates, records)


@dataclass
class Account:
    """What a store should hold, computed without one."""

    labels: dict[str, str | None] = field(default_factory=dict)
    templates: dict[tuple[str, str], bool] = field(default_factory=dict)
    facts: dict[tuple[str, str | None, str], str | None] = field(default_factory=dict)
    written: set[tuple[tuple[str, str | None, str], str]] = field(default_factory=set)
    aliases: set[tuple[str, tuple[str, str | None, str]]] = field(default_factory=set)
    evaluation: set[tuple[tuple[str, str | None, str], EvaluationPrompt]] = field(default_factory=set)

    def take(self, file: FactFile) -> None:
        for key, label in file.relations.items():
            if self.labels.get(key) is None:
                self.labels[key] = label
        for template in file.templates:
            self.templates.setdefault((template.relation, template.text), template.held_out)
        for fact in file.facts:
            # Facts without a subject have one object per identifier here, so the object may stand for it.
            name = (fact.relation, fact.subject, fact.object)
            own = self.facts.setdefault(name, fact.external_id)
            if fact.subject is not None and fact.external_id is not None and fact.external_id != own:
                self.aliases.add((fact.external_id, name))
            self.written |= {(name, text) for text in fact.prompts}
            self.evaluation |= {(name, prompt) for prompt in fact.evaluation}

    def prompts(self) -> dict[tuple[tuple[str, str | None, str], str], set[bool]]:
        """Each prompt with what the templates that give it say about `held_out`."""
        result: dict[tuple[tuple[str, str | None, str], str], set[bool]] = {}
        for name in self.facts:
            for (relation, text), held_out in self.templates.items():
                if relation == name[0] and name[1] is not None:
                    result.setdefault((name, fill(text, name[1])), set()).add(held_out)
        for prompt in self.written:
            result.setdefault(prompt, {False})
        return result


@pytest.fixture(scope="module")
def empty_database() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        open_store(Path(folder, "empty.db"), create=True).close()
        yield Path(folder, "empty.db")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(fact_files(), max_size=3), min_size=1, max_size=3))
def test_ingest_gives_what_plain_python_gives(empty_database, ingests):
    account = Account()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty_database, Path(folder, "kndb.db"))
        with open_store(Path(folder, "kndb.db"), create=False) as store:
            for files in ingests:
                check_ingest(store, account, files)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ingests=st.lists(st.lists(fact_files(), max_size=3), min_size=1, max_size=3))
def test_ingest_into_any_backend_gives_what_plain_python_gives(store, ingests):
    with store.writing() as connection:
        for table in ("evaluation_prompt", "prompt", "fact_alias", "fact", "template", "relation"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    account = Account()
    for files in ingests:
        check_ingest(store, account, files)


def check_ingest(store: Store, account: Account, files: list[FactFile]) -> None:
    old_facts, old_prompts, old_templates = len(account.facts), len(account.prompts()), len(account.templates)
    old_evaluation = len(account.evaluation)
    for file in files:
        account.take(file)
    report = take(store, *files)
    expected = account.prompts()
    named = {key for file in files for key in file.relations}
    assert report.facts_seen == sum(len(file.facts) for file in files)
    assert report.facts_added == len(account.facts) - old_facts
    assert report.templates_added == len(account.templates) - old_templates
    assert report.prompts_added == len(expected) - old_prompts
    assert report.relations == len(named)
    assert report.evaluation_prompts_added == len(account.evaluation) - old_evaluation
    assert report.new_answers == len(
        {
            (fact.relation, fact.subject, fact.object if fact.subject else fact.external_id)
            for file in files
            for fact in file.facts
            if fact.edit is not None
        }
    )
    last = [text for (name, text) in expected if name[0] in named and blank_is_last(text)]
    assert report.prompts_blank_last == len(last)
    stored = read(store, facts.find_facts)
    names = {fact.id: (fact.relation, fact.subject, fact.object) for fact in stored}
    assert {names[fact.id]: fact.external_id for fact in stored} == account.facts
    found = [(names[fact.id], one) for fact in stored for one in read(store, evaluation_prompts.of_fact, fact.id)]
    assert len(found) == len(set(found))
    assert set(found) == account.evaluation
    for fact in stored:
        kinds = [one.kind for name, one in found if name == names[fact.id]]
        assert read(store, facts.fact, fact.id).evaluation_prompts == {kind: kinds.count(kind) for kind in kinds}
    with store.reading() as connection:
        aliases = connection.exec_driver_sql("SELECT external_id, fact_id FROM fact_alias").all()
    assert {(alias, names[number]) for alias, number in aliases} == account.aliases
    prompts = read(store, facts.prompts)
    assert {(names[prompt.fact_id], prompt.text) for prompt in prompts} == set(expected)
    assert len(prompts) == len(expected)
    for prompt in prompts:
        assert prompt.held_out in expected[names[prompt.fact_id], prompt.text]
        assert prompt.answer == names[prompt.fact_id][2]
    for relation in read(store, facts.relations):
        mine = [name for name in account.facts if name[0] == relation.key]
        assert relation.label == account.labels[relation.key]
        assert relation.facts == len(mine)
        assert relation.templates == sum(key == relation.key for key, _ in account.templates)
        assert relation.prompts == sum(name[0] == relation.key for name, _ in expected)


def test_closing_marks_are_those_of_the_readers():
    marks = set(ingest._CLOSING)
    for character in map(chr, [*range(0x3100), 0xFF01, 0xFF0E, 0xFF0C, 0xFF1F, 0xFF61, 0x1F600]):
        assert (character in marks) == blank_is_last("[Y]" + character), hex(ord(character))


def test_bulk_of_prompts(store):
    """Several thousand facts: more than SQLite allows variables in some builds."""
    count = 3000
    records = tuple(FactRecord("P1", f"subject {n}", "o", f"id {n}", (f"prompt {n}: [Y]",)) for n in range(count))
    templates = tuple(TemplateRecord("P1", f"[X] {n} [Y]", held_out=n == 0) for n in range(3))
    report = take(store, FactFile("f", {"P1": None}, templates, records))
    assert report.prompts_added == 4 * count
    ids = [fact.id for fact in read(store, facts.find_facts)]
    random.Random(0).shuffle(ids)
    found = read(store, facts.prompts, fact_ids=ids[:2500], held_out=False)
    assert len(found) == 3 * 2500
    assert [prompt.id for prompt in found] == sorted(prompt.id for prompt in found)
    assert {prompt.fact_id for prompt in found} == set(ids[:2500])


def test_evaluation_prompts_go_with_their_fact(store):
    prompt = EvaluationPrompt("generation", "generation_prompts", "iPod is")
    take(store, replace(FILE, facts=(replace(IPOD, evaluation=(prompt,)), replace(PARIS, evaluation=(prompt,)))))
    assert "iPod is" not in texts(store)
    with store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM fact WHERE subject IS NULL")
        assert connection.exec_driver_sql("SELECT fact_id, text FROM evaluation_prompt").all() == [(1, "iPod is")]


# --- crashes ----------------------------------------------------------------------------------------


# --- reading ----------------------------------------------------------------------------------------


def test_find_facts(store):
    istanbul = FactRecord("P36", "İstanbul", "x%_y")
    take(store, replace(FILE, facts=(*FILE.facts, istanbul, FactRecord("P36", "ÉCOSSE", "Édimbourg"))))

    def subjects(**options) -> list[str | None]:
        return [fact.subject for fact in read(store, facts.find_facts, **options)]

    assert subjects() == ["iPod Touch", "Ford Fusion", None, "İstanbul", "ÉCOSSE"]
    assert subjects(relations=["P36"]) == [None, "İstanbul", "ÉCOSSE"]
    assert subjects(relations=["P36", "P176"], limit=2) == ["iPod Touch", "Ford Fusion"]
    assert subjects(subject="POD T") == ["iPod Touch"]
    assert subjects(subject="écosse", object_="DIMB") == ["ÉCOSSE"]
    assert subjects(object_="%_") == ["İstanbul"]
    assert subjects(object_="_") == ["İstanbul"]
    assert subjects(subject="%") == subjects(subject="nobody") == subjects(limit=0) == []


def test_fact_by_number(store):
    take(store, FILE)
    assert read(store, facts.fact, 3) == Fact(3, "P36", None, "Paris", "bag-1", 2)
    with pytest.raises(NotFoundError, match=r"number 99.*db\.facts\.find"):
        read(store, facts.fact, 99)


def test_prompts(store):
    held_out = TemplateRecord("P176", "Who made [X]? [Y]", held_out=True)
    take(store, replace(FILE, templates=(MAKER, held_out)))
    found = read(store, facts.prompts)
    assert [prompt.id for prompt in found] == sorted(prompt.id for prompt in found)
    assert Prompt(found[0].id, 3, PARIS.prompts[0], "Paris") == found[0]
    assert texts(store, fact_ids=[2, 99]) == ["Ford Fusion is produced by [Y].", "Who made Ford Fusion? [Y]"]
    assert texts(store, fact_ids=[]) == []
    assert texts(store, fact_ids=[2, 3], relations=["P36"], held_out=False) == list(PARIS.prompts)
    assert texts(store, held_out=True) == ["Who made iPod Touch? [Y]", "Who made Ford Fusion? [Y]"]
    assert len(texts(store, held_out=False)) == 4


def test_require_relations(store):
    with pytest.raises(NotFoundError, match=r"'P1'.*db\.facts\.ingest"):
        read(store, facts.require_relations, ["P1"])
    take(store, FILE)
    assert read(store, facts.require_relations, ["P36", "P176"]) == [2, 1]
    for call in (facts.require_relations, facts.find_facts):
        with pytest.raises(NotFoundError, match=r"'p167'.*nearest are P176.*db\.facts\.relations"):
            read(store, call, ["P176", "p167"])
    with pytest.raises(NotFoundError, match="none is near"):
        read(store, facts.prompts, relations=["zebra"])


def test_relations_are_found_by_label_and_in_any_case(store):
    rows = FactFile(
        "f", {"P36": "capital", "P37": "official language", "P38": "Capital of", "P39": "twin", "P40": "Twin"}, (), ()
    )
    take(store, rows)
    for name in ("P36", "p36", " p36 ", "capital", "Capital"):
        assert read(store, facts.require_relations, [name]) == [1]
    assert read(store, facts.named_relations, ["official language", "p36", "P37"]) == {"P37": 2, "P36": 1}
    with pytest.raises(NotFoundError, match="is the label of P39 and P40; name one by its key"):
        read(store, facts.require_relations, ["TWIN"])
    for name in ("P36,P37", "p36, official language"):
        with pytest.raises(NotFoundError, match=r"several are given as relations=\['P36', 'P37'\]"):
            read(store, facts.require_relations, [name])
    with pytest.raises(NotFoundError, match="the nearest are P36, P38"):
        read(store, facts.require_relations, ["capitals"])


def test_a_subject_is_no_number(store):
    advice = r"'France' is not a fact's number; find it with: db.facts.find\(subject='France'\)"
    with pytest.raises(UsageError, match=advice):
        read(store, facts.fact, "France")


@pytest.mark.parametrize("backend", [SQLITE], indirect=True)
def test_reads_use_indexes(store):
    take(store, FILE)
    with store.reading() as connection:
        query = f"{facts._PROMPTS} WHERE prompt.fact_id IN (SELECT value FROM json_each('[1]'))"
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
    assert "SCAN prompt" not in plan
    assert "SEARCH prompt USING INDEX" in plan
