"""The project's own lists, as JSON lines and as CSV."""

from __future__ import annotations

import json

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.records.facts import FactRecord, TemplateRecord

FACT = {"relation": "P36", "subject": "Peru", "object": "Lima"}
TEMPLATE = {"relation": "P36", "template": "The capital of [X] is [Y]."}


def test_facts_and_templates_of_one_file(write):
    path = write(
        "facts.jsonl",
        [
            {
                "relation": "P36",
                "relation_label": "capital",
                "template": "The capital of [X] is [Y].",
                "held_out": True,
            },
            {"relation": "P36", "prompt": "[X] has the capital [Y] ."},
            {"relation": "P36", "subject": " Peru ", "object": "Lima\t", "id": "Q419"},
            {
                "relation": "P30",
                "relation_label": "continent",
                "subject": "Peru",
                "object": "America",
                "id": 7,
            },
        ],
    )
    (file,) = facts.read(path)
    assert file.source == str(path)
    assert file.relations == {"P36": "capital", "P30": "continent"}
    assert file.templates == (
        TemplateRecord("P36", "The capital of [X] is [Y].", held_out=True),
        TemplateRecord("P36", "[X] has the capital [Y] ."),
    )
    assert file.facts == (
        FactRecord("P36", "Peru", "Lima", "Q419"),
        FactRecord("P30", "Peru", "America", "7"),
    )
    assert file.rejected == ()


def test_a_line_can_be_fact_and_template(write):
    lines = [
        dict(FACT, prompt="[X]: [Y]"),
        {**FACT, "subject": "Chad", "prompt": "[X]: [Y]", "object": "N'Djamena"},
    ]
    (file,) = facts.read(write("facts.jsonl", lines))
    assert file.templates == (TemplateRecord("P36", "[X]: [Y]"),)
    assert [fact.subject for fact in file.facts] == ["Peru", "Chad"]


def test_repeated_facts_and_several_objects_stay(write):
    lines = [FACT, FACT, dict(FACT, object="Cuzco")]
    (file,) = facts.read(write("facts.jsonl", lines))
    assert [fact.object for fact in file.facts] == ["Lima", "Lima", "Cuzco"]


@pytest.mark.parametrize(
    "label",
    ['say "x", then y', "{} {0} {x}", "a [bracket]", "القاهرة", "北京", "naïve, 'quoted'", "a\tb", "%s \\1"],
)
def test_labels_keep_their_inner_text(write, label):
    (file,) = facts.read(write("facts.jsonl", [dict(FACT, subject=label, object=label), TEMPLATE]))
    assert file.facts == (FactRecord("P36", label, label),)
    assert facts.fill(file.templates[0].text, label) == f"The capital of {label} is [Y]."


def test_null_counts_as_missing(write):
    lines = [
        dict(FACT, template=None, held_out=None, id=None, relation_label=None),
        dict(TEMPLATE, subject=None, object=None),
    ]
    (file,) = facts.read(write("facts.jsonl", lines))
    assert (len(file.facts), len(file.templates)) == (1, 1)


BAD = [
    ({"subject": "Peru", "object": "Lima"}, "found the fields subject, object; expected a field 'relation'"),
    ({"relation": "P36", "subject": "Peru"}, "found the fields relation, subject; expected a field 'object'"),
    ({"relation": "P36", "object": "Lima"}, "found the fields relation, object; expected a field 'subject'"),
    (
        dict(TEMPLATE, subject="Peru"),
        "found the fields relation, template, subject; expected a field 'object'",
    ),
    ({"relation": "P36"}, "found the fields relation; expected a field 'subject'"),
    ({}, "found no fields; expected a field 'relation'"),
    (dict(FACT, relation=""), "found an empty 'relation'; expected text"),
    (dict(FACT, subject=" \u00a0"), "found an empty 'subject'; expected text"),
    (dict(FACT, object=""), "found an empty 'object'; expected text"),
    (dict(FACT, subject=12), "found a number in 'subject'; expected text"),
    (dict(FACT, object=["Lima"]), "found a list in 'object'; expected text"),
    (dict(FACT, object=True), "found true in 'object'; expected text"),
    (dict(FACT, relation={"id": "P36"}), "found an object in 'relation'; expected text"),
    (dict(FACT, id=[1]), "found a list in 'id'; expected text"),
    (dict(FACT, relation_label=3), "found a number in 'relation_label'; expected text"),
    (dict(FACT, subject="[X] of Peru"), "found [X] in 'subject'; expected a subject without [X] and [Y]"),
    (dict(FACT, subject="Peru [Y]"), "found [Y] in 'subject'; expected a subject without [X] and [Y]"),
    (
        dict(FACT, subject="\ud800"),
        "found a NUL or half a surrogate pair in 'subject'; expected storable text",
    ),
    (dict(FACT, object="a\0b"), "found a NUL or half a surrogate pair in 'object'; expected storable text"),
    (
        dict(TEMPLATE, template="[X] has a capital."),
        "found no [Y] in the template '[X] has a capital.'; expected",
    ),
    (
        dict(TEMPLATE, template="[X]: [Y], [Y]"),
        "found 2 [Y] in the template '[X]: [Y], [Y]'; expected exactly one",
    ),
    (dict(TEMPLATE, template="The capital is [Y]."), "found no [X] in the template"),
    (dict(TEMPLATE, template="[X] [X] [Y]"), "found 2 [X] in the template"),
    (dict(TEMPLATE, template=""), "found an empty 'template'; expected text"),
    (dict(TEMPLATE, template=5), "found a number in 'template'; expected text"),
    (dict(TEMPLATE, prompt="[X] is [Y]"), "found a 'template' and another 'prompt'; expected one"),
    (dict(TEMPLATE, held_out="yes"), "found text in 'held_out'; expected true or false"),
    (dict(FACT, held_out=True), "found 'held_out' true without a template; expected it with a template only"),
    (["P36", "Peru", "Lima"], "found a list; expected one JSON object"),
    ("text", "found text; expected one JSON object"),
    (None, "found null; expected one JSON object"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_stops_or_is_left_out_with_its_reason(write, bad, reason):
    text = "\n".join(json.dumps(item) for item in (FACT, bad, TEMPLATE))
    path = write("facts.jsonl", text)
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert str(caught.value).startswith(f"{path}:2: {reason}")
    assert "skip_invalid=True" in str(caught.value)
    (file,) = facts.read(path, skip_invalid=True)
    assert [(line.file, line.line) for line in file.rejected] == [(str(path), 2)]
    assert file.rejected[0].reason.startswith(reason)
    assert file.facts == (FactRecord("P36", "Peru", "Lima"),)
    assert file.templates == (TemplateRecord("P36", TEMPLATE["template"]),)
    assert file.relations == {"P36": None}


def test_json_that_python_cannot_hold_is_rejected(write):
    deep = '{"relation": ' + "[" * 100_000 + "]" * 100_000 + "}"
    path = write("facts.jsonl", deep + "\n" + json.dumps(FACT) + "\n")
    (file,) = facts.read(path, "jsonl", skip_invalid=True)
    assert "found JSON that can't be read" in file.rejected[0].reason
    assert len(file.facts) == 1


def test_facts_beside_a_file_of_templates(write, tmp_path):
    write("lists/facts.jsonl", [FACT])
    write("lists/templates.jsonl", [TEMPLATE])
    write("lists/more.csv", "relation,subject,object\nP36,Chad,N'Djamena\n")
    write("lists/README.md", "not a list")
    write("lists/.hidden.jsonl", "not a list")
    files = facts.read(tmp_path / "lists")
    assert [file.source.rsplit("/", 1)[-1] for file in files] == [
        "facts.jsonl",
        "more.csv",
        "templates.jsonl",
    ]
    assert [(len(file.facts), len(file.templates)) for file in files] == [(1, 0), (1, 0), (0, 1)]
    assert len(facts.read(tmp_path / "lists", "jsonl")) == 2
    assert len(facts.read(tmp_path / "lists", "csv")) == 1


def test_csv(write):
    path = write(
        "facts.csv",
        "\ufeffid, relation ,subject,object,relation_label,template,held_out,note\r\n"
        'Q1,P36,"Korea, South","Seoul ""서울""",capital,,,x\r\n'
        "\r\n"
        ",P36,{},[a],,The capital of [X] is [Y].,false,\r\n"
        ',P36,,,,"[X], capital: [Y]",True,\r\n',
    )
    (file,) = facts.read(path)
    assert file.rejected == ()
    assert file.relations == {"P36": "capital"}
    assert file.facts == (
        FactRecord("P36", "Korea, South", 'Seoul "서울"', "Q1"),
        FactRecord("P36", "{}", "[a]"),
    )
    assert file.templates == (
        TemplateRecord("P36", "The capital of [X] is [Y]."),
        TemplateRecord("P36", "[X], capital: [Y]", held_out=True),
    )


def test_csv_of_templates_alone(write):
    (file,) = facts.read(write("templates.csv", "relation,prompt\nP36,[X]: [Y]\n"))
    assert file.templates == (TemplateRecord("P36", "[X]: [Y]"),)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("P36,Peru", "found 2 fields; expected 3, as in the header"),
        ("P36,Peru,Lima,more", "found 4 fields; expected 3, as in the header"),
        ("P36,,Lima", "found an empty 'subject'; expected text"),
        (",Peru,Lima", "found an empty 'relation'; expected text"),
        ("P36,[Y],Lima", "found [Y] in 'subject'"),
        ('P36,"Peru" x,Lima', "found a broken record ("),
        ('P36,"Peru,Lima', "found a broken record ("),
    ],
)
def test_csv_rejects_a_bad_record_and_reads_on(write, bad, reason):
    path = write("facts.csv", f'relation,subject,object\nP36,"Two\nlines",x\n{bad}\nP36,Chad,"N\'Djamena"\n')
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert str(caught.value).startswith(f"{path}:4: {reason}")
    (file,) = facts.read(path, skip_invalid=True)
    assert [line.line for line in file.rejected] == [4]
    assert [fact.subject for fact in file.facts] == ["Two\nlines", "Chad"]


def test_csv_with_a_bad_flag(write):
    path = write("facts.csv", "relation,template,held_out\nP36,[X]: [Y],perhaps\n")
    with pytest.raises(InputError, match=r":2: found 'perhaps' in 'held_out'; expected true or false"):
        facts.read(path)


def test_csv_with_invalid_utf8_inside_a_quoted_field(write):
    path = write("facts.csv", b'relation,subject,object\nP36,"a\n\xff",b\nP36,Peru,Lima\n')
    (file,) = facts.read(path, skip_invalid=True)
    assert [line.line for line in file.rejected] == [2, 3]
    assert [fact.subject for fact in file.facts] == ["Peru"]


@pytest.mark.parametrize(
    "header", ["rel,subj,obj", "relation;subject;object", "relation,subject,subject,object", "P36,Peru,Lima"]
)
def test_csv_without_a_usable_header_cannot_be_skipped_over(write, header):
    path = write("facts.csv", f"{header}\nP36,Peru,Lima\n")
    with pytest.raises(InputError, match=r":1: found the columns .*; expected a header with relation, subject"):
        facts.read(path, skip_invalid=True)


def test_csv_with_crlf_inside_a_quoted_field(write):
    (file,) = facts.read(write("facts.csv", 'relation,subject,object\r\nP36,"Two\r\nlines",x\r\n'))
    assert file.facts[0].subject == "Two\nlines"


@pytest.mark.parametrize("flags", [(True, False), (False, True), (True, None)])
def test_a_template_held_out_anywhere_is_held_out(write, flags):
    lines = [dict(TEMPLATE, held_out=flag) for flag in flags]
    (file,) = facts.read(write("templates.jsonl", lines))
    assert file.templates == (TemplateRecord("P36", TEMPLATE["template"], held_out=True),)


# --- sentences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"sentences": "Rome is in [Y]."}, "expected a list of texts"),
        ({"sentences": ["Rome is in Italy."]}, r"found no \[Y\]"),
        ({"sentences": ["[X] is in [Y]."]}, r"found \[X\] in the sentence"),
        ({"sentences": [3]}, "expected text"),
        ({"subject": None, "sentences": ["Rome is in [Y]."]}, "expected a field 'subject'"),
        ({"subject": None, "id": "rome"}, "expected a field 'subject'"),
    ],
)
def test_sentences_that_can_not_be_used(write, record, reason):
    path = write("a.jsonl", [{"relation": "P17", "subject": "Rome", "object": "Italy", **record}])
    with pytest.raises(InputError, match=reason):
        facts.read(path)


def test_sentences_belong_to_their_fact(write):
    lines = [
        {"relation": "P17", "subject": "Rome", "object": "Italy", "sentences": ["Rome is in [Y].", "Rome is in [Y]."]},
        {"relation": "P17", "object": "Italy", "id": "bag", "sentences": ["[Y]'s Rome"], "template": "[X] is in [Y]."},
    ]
    text = (
        "relation,subject,object,id,sentences,template\n"
        'P17,Rome,Italy,,"[""Rome is in [Y].""]",\n'
        'P17,,Italy,bag,"[""[Y]\'s Rome""]",[X] is in [Y].\n'
    )
    for path in (write("a.jsonl", lines), write("a.csv", text)):
        (file,) = facts.read(path)
        assert [(fact.subject, fact.object, fact.external_id, fact.prompts) for fact in file.facts] == [
            ("Rome", "Italy", None, ("Rome is in [Y].",)),
            (None, "Italy", "bag", ("[Y]'s Rome",)),
        ]
        assert [template.text for template in file.templates] == ["[X] is in [Y]."]
    with pytest.raises(InputError, match="expected a JSON list"):
        facts.read(write("b.csv", "relation,subject,object,sentences\nP17,Rome,Italy,Rome is in [Y].\n"))
