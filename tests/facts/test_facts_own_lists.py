"""The project's own lists, as JSON lines and as CSV."""

from __future__ import annotations

import json

import pytest

from kndb import facts
from kndb.errors import InputError
from kndb.facts.delimiters import sniff
from kndb.facts.own import FIELDS
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
    ({"subject": "Peru", "object": "Lima"}, "the field 'relation' is missing (given: subject, object)"),
    ({"relation": "P36", "subject": "Peru"}, "the field 'object' is missing (given: relation, subject)"),
    ({"relation": "P36", "object": "Lima"}, "the field 'subject' is missing (given: relation, object)"),
    (
        dict(TEMPLATE, subject="Peru"),
        "the field 'object' is missing (given: relation, template, subject)",
    ),
    ({"relation": "P36"}, "the field 'subject' is missing (given: relation)"),
    ({}, "the field 'relation' is missing (given: no fields)"),
    (dict(FACT, relation=""), "'relation' is empty; it must be text"),
    (dict(FACT, subject=" \u00a0"), "'subject' is empty; it must be text"),
    (dict(FACT, object=""), "'object' is empty; it must be text"),
    (dict(FACT, subject=12), "'subject' must be text (got a number)"),
    (dict(FACT, object=["Lima"]), "'object' must be text (got a list)"),
    (dict(FACT, object=True), "'object' must be text (got true)"),
    (dict(FACT, relation={"id": "P36"}), "'relation' must be text (got an object)"),
    (dict(FACT, id=[1]), "'id' must be text (got a list)"),
    (dict(FACT, relation_label=3), "'relation_label' must be text (got a number)"),
    (dict(FACT, subject="[X] of Peru"), "'subject' has [X] in it; a subject can't have"),
    (dict(FACT, subject="Peru [Y]"), "'subject' has [Y] in it; a subject can't have"),
    (
        dict(FACT, subject="\ud800"),
        "'subject' has a NUL or half a surrogate pair, which can't be stored",
    ),
    (dict(FACT, object="a\0b"), "'object' has a NUL or half a surrogate pair, which can't be stored"),
    (
        dict(TEMPLATE, template="[X] has a capital."),
        "the template '[X] has a capital.' has no [Y]; it must have exactly one",
    ),
    (
        dict(TEMPLATE, template="[X]: [Y], [Y]"),
        "the template '[X]: [Y], [Y]' has 2 [Y]; it must have exactly one",
    ),
    (dict(TEMPLATE, template="The capital is [Y]."), "the template 'The capital is [Y].' has no [X]"),
    (dict(TEMPLATE, template="[X] [X] [Y]"), "the template '[X] [X] [Y]' has 2 [X]"),
    (dict(TEMPLATE, template=""), "'template' is empty; it must be text"),
    (dict(TEMPLATE, template=5), "'template' must be text (got a number)"),
    (dict(TEMPLATE, prompt="[X] is [Y]"), "'template' and 'prompt' mean the same, and they differ here"),
    (dict(TEMPLATE, held_out="yes"), "'held_out' must be true or false (got text)"),
    (dict(FACT, held_out=True), "'held_out' can be true only with a template, and there is none"),
    (["P36", "Peru", "Lima"], "the line must be one JSON object (got a list)"),
    ("text", "the line must be one JSON object (got text)"),
    (None, "the line must be one JSON object (got null)"),
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
    assert "JSON that can't be read" in file.rejected[0].reason
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
        ("P36,Peru", "it has 2 fields, and the header has 3"),
        ("P36,Peru,Lima,more", "it has 4 fields, and the header has 3"),
        ("P36,,Lima", "'subject' is empty; it must be text"),
        (",Peru,Lima", "'relation' is empty; it must be text"),
        ("P36,[Y],Lima", "'subject' has [Y] in it"),
        ('P36,"Peru" x,Lima', "not valid CSV ("),
        ('P36,"Peru,Lima', "not valid CSV ("),
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
    with pytest.raises(InputError, match=r":2: 'held_out' must be true or false \(got 'perhaps'\)"):
        facts.read(path)


def test_csv_with_invalid_utf8_inside_a_quoted_field(write):
    path = write("facts.csv", b'relation,subject,object\nP36,"a\n\xff",b\nP36,Peru,Lima\n')
    (file,) = facts.read(path, skip_invalid=True)
    assert [line.line for line in file.rejected] == [2, 3]
    assert [fact.subject for fact in file.facts] == ["Peru"]


@pytest.mark.parametrize(
    "header", ["rel,subj,obj", "relation|subject|object", "relation,subject,subject,object", "P36,Peru,Lima"]
)
def test_csv_without_a_usable_header_cannot_be_skipped_over(write, header):
    path = write("facts.csv", f"{header}\nP36,Peru,Lima\n")
    with pytest.raises(InputError, match=r":1: the header must have relation, subject.* \(got "):
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
        ({"sentences": "Rome is in [Y]."}, "must be a list of texts"),
        ({"sentences": ["Rome is in Italy."]}, r"has no \[Y\]"),
        ({"sentences": ["[X] is in [Y]."]}, r"the sentence .* has \[X\] in it"),
        ({"sentences": [3]}, "must be text"),
        ({"subject": None, "sentences": ["Rome is in [Y]."]}, "the field 'subject' is missing"),
        ({"subject": None, "id": "rome"}, "the field 'subject' is missing"),
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
    with pytest.raises(InputError, match="must be a JSON list"):
        facts.read(write("b.csv", "relation,subject,object,sentences\nP17,Rome,Italy,Rome is in [Y].\n"))


# --- tables of other delimiters, JSON lists -------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["facts.csv", "facts.tsv", "facts"])
def test_the_header_says_what_separates_the_cells(write, name, delimiter):
    """As a spreadsheet writes it: with a mark and CR LF; a cell may hold what separates others elsewhere."""
    rows = [["relation", "subject", "object", "template"], ["P36", "Peru", "a,b;c\td", "[X] has, so; [Y]"]]
    text = "\ufeff" + "".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    (file,) = facts.read(write(name, text))
    assert file.facts == (FactRecord("P36", "Peru", "a,b;c\td"),)
    assert file.templates == (TemplateRecord("P36", "[X] has, so; [Y]"),)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("relation;subject;object", ";"), ("relation;subject;object,template", ";"), ("relation,subject,object;x", ",")],
)
def test_the_delimiter_is_that_of_most_columns(header, delimiter):
    assert sniff(header, FIELDS) == delimiter


def test_a_folder_of_tables(write, tmp_path):
    write("a.csv", "relation;subject;object\nP36;Peru;Lima\n")
    write("b.tsv", "relation\tsubject\tobject\nP36\tCuba\tHavana\n")
    write("c.jsonl", [{"relation": "P36", "template": "[X]: [Y]"}])
    assert [fact.object for file in facts.read(tmp_path) for fact in file.facts] == ["Lima", "Havana"]


def test_a_row_of_another_delimiter_is_named(write):
    path = write("facts.csv", 'relation;subject;object\nP36,Peru,Lima\nP36;"Peru;Lima\n')
    with pytest.raises(InputError, match=r":2: it has 1 fields, and the header has 3"):
        facts.read(path)
    with pytest.raises(InputError) as caught:
        facts.read(path)
    assert "separated by semicolons and quoted" in caught.value.rejected[1].reason


def test_a_json_list(write_json):
    path = write_json("facts.json", [{**FACT, "id": 7}, TEMPLATE, {**FACT, "object": None}, 3])
    (file,) = facts.read(path, skip_invalid=True)
    assert file.facts == (FactRecord("P36", "Peru", "Lima", "7"),)
    assert file.templates == (TemplateRecord("P36", "The capital of [X] is [Y]."),)
    assert [line.line for line in file.rejected] == [3, 4]
    with pytest.raises(InputError, match=r"facts\.json:3: the field 'object' is missing"):
        facts.read(path)


def test_a_json_list_is_what_its_lines_are(write, write_json):
    records = [FACT, TEMPLATE, {**FACT, "subject": "Cuba", "object": "Havana", "sentences": ["It is [Y]."]}]
    (lines,), (items,) = facts.read(write("a.jsonl", records)), facts.read(write_json("a.json", records))
    assert (lines.facts, lines.templates, lines.relations) == (items.facts, items.templates, items.relations)


def test_whitespace_before_the_blank_is_kept(write):
    template = "<|im_start|>user\nWhat is the capital of [X]?<|im_end|>\n<|im_start|>assistant\n[Y]"
    (file,) = facts.read(write("chat.jsonl", [{"relation": "C36", "template": template}]))
    assert file.templates == (TemplateRecord("C36", template),)
