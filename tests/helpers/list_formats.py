"""Fact lists of every format, to be changed: the files of each, sound records for them, and what reads them plainly."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import plain_lists as plain
from hypothesis import strategies as st

WORDS = st.sampled_from(
    [
        "Peru",
        "Lima",
        "New York",
        'a "b"',
        "x,y;z",
        "東京",
        "الجزائر",
        "{}",
        " pad ",
        "[MASK]",
        "[",
        "]",
        "O'Neil",
        "🇸🇪",
        "A\u2028B",
    ]
)
SUBJECTS = st.builds("{} {}".format, WORDS, st.integers(0, 3))
RELATIONS = st.sampled_from(["P1", "P36", "capital of", "P1(x)"])
IDS = st.one_of(st.integers(0, 9), st.sampled_from(["u-1", "u-2", "Q7"]))
TEMPLATES = st.sampled_from(["[X] is [Y].", "[Y] of [X]", "The capital of [X]\n[Y]", "{} [X] [Y]"])
SENTENCES = st.sampled_from(["It is [Y].", "[Y]!", "So {} [Y]"])
MASKED = st.sampled_from(["It is [MASK].", "[MASK]!", "So {} [MASK]"])


@dataclass(frozen=True)
class ListFile:
    """One file of a list.

    Attributes:
        name: below the list's folder.
        records: a sound record.
        kind: lines, items, table, questions or pairs: how the records lie in it.
        read: what reads a record plainly.
        columns: of a table.
        delimiter: of a table.
    """

    name: str
    records: st.SearchStrategy
    kind: str
    read: Callable
    columns: tuple[str, ...] = ()
    delimiter: str = ","

    def written(self, records):
        """The file's bytes with these records; a record may be a text already."""
        if self.kind == "lines":
            return "".join(_text(record) + "\n" for record in records).encode(errors="replace")
        if self.kind == "items":
            return f"[{', '.join(_text(record) for record in records)}]".encode(errors="replace")
        if self.kind == "pairs":
            return f"{{{', '.join(f'{json.dumps(key)}: {_text(value)}' for key, value in records)}}}".encode(
                errors="replace"
            )
        if self.kind == "questions":
            return "".join(f"{key}, {question}\n" for key, question in records).encode(errors="replace")
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([record.get(name, "") for name in self.columns] for record in records)
        return out.getvalue().encode("utf-8", "replace")

    def plainly(self, data):
        """Facts, templates and unsound records of the file's bytes; None if they can't be compared."""
        if self.kind == "lines":
            return plain.lines(data, self.read)
        if self.kind == "questions":
            return plain.questions(data, self.read)
        if self.kind == "table":
            return plain.table(data, self.read, self.delimiter)
        return plain.items(data, self.read)


def _text(record):
    return record if isinstance(record, str) else json.dumps(record)


def _record(needed, optional=None):
    return st.fixed_dictionaries(needed, optional=optional or {})


def _cells(needed):
    return st.fixed_dictionaries(needed)


OWN = st.one_of(
    _record({"relation": RELATIONS, "subject": SUBJECTS, "object": WORDS}, {"id": IDS, "relation_label": WORDS}),
    _record({"relation": RELATIONS, "template": TEMPLATES}, {"held_out": st.booleans()}),
    _record({"relation": RELATIONS, "subject": SUBJECTS, "object": WORDS, "prompt": TEMPLATES}),
    _record(
        {"relation": RELATIONS, "object": WORDS, "id": st.integers(), "sentences": st.lists(SENTENCES, min_size=1)}
    ),
)
OWN_ROWS = _cells(
    {
        "relation": RELATIONS,
        "subject": st.one_of(SUBJECTS, SUBJECTS, st.just("")),
        "object": WORDS,
        "id": st.sampled_from(["", "1", "u"]),
        "template": st.sampled_from(["", "", "[X] is [Y].", "[Y] of [X]"]),
        "held_out": st.sampled_from(["", "true", "0"]),
        "sentences": st.sampled_from(["", "", '["It is [Y]."]', "[]"]),
    }
)
OWN_COLUMNS = ("relation", "subject", "object", "id", "template", "held_out", "sentences", "further")
LABELS = {"sub_label": SUBJECTS, "obj_label": WORDS}
PATTERN = _record({"pattern": TEMPLATES, "lemma": WORDS})
BARE_PATTERN = _record({"pattern": TEMPLATES, "checked-by-human": st.booleans()})
LANGUAGE_FACT = _record({**LABELS, "sub_uri": IDS, "obj_uri": IDS}, {"lineid": st.integers(0, 50), "uuid": IDS})
POPQA = _cells(
    {
        "id": st.integers(0, 10**6).map(str),
        "subj": SUBJECTS,
        "prop": RELATIONS,
        "obj": WORDS,
        "further": WORDS,
        "question": st.sampled_from(["What is Peru 1?", "What of Lima 2 and Lima 2?", "Whose?"]),
        "possible_answers": st.lists(WORDS, max_size=3).map(json.dumps),
    }
)
COUNTERFACT = _record(
    {
        "case_id": IDS,
        "requested_rewrite": _record(
            {
                "prompt": st.sampled_from(["The capital of {} is", "{} has"]),
                "relation_id": RELATIONS,
                "subject": SUBJECTS,
                "target_true": _record({"str": WORDS}),
                "target_new": _record({"str": WORDS}),
            }
        ),
    },
    {"paraphrase_prompts": st.lists(WORDS, max_size=3)},
)
BAG = st.builds(
    lambda texts, answer, relation: [[text, answer, relation] for text in texts],
    st.lists(MASKED, min_size=1, max_size=3),
    WORDS,
    RELATIONS,
)

LISTS = {
    "jsonl": [ListFile("facts.jsonl", OWN, "lines", plain.own)],
    "json": [ListFile("facts.json", OWN, "items", plain.own)],
    "csv": [ListFile("facts.csv", OWN_ROWS, "table", plain.own_row, OWN_COLUMNS)],
    "semicolons": [ListFile("facts.csv", OWN_ROWS, "table", plain.own_row, OWN_COLUMNS, ";")],
    "tabs": [ListFile("facts.tsv", OWN_ROWS, "table", plain.own_row, OWN_COLUMNS, "\t")],
    "pararel": [
        ListFile("graphs_json/P1.jsonl", PATTERN, "lines", plain.pararel_pattern),
        ListFile("trex_lms_vocab/P1.jsonl", _record({**LABELS, "uuid": IDS}), "lines", plain.pararel_fact),
    ],
    "lama": [
        ListFile(
            "relations.jsonl",
            _record({"relation": RELATIONS, "template": TEMPLATES, "label": WORDS, "type": WORDS}),
            "lines",
            plain.lama_relation,
        ),
        ListFile("P1.jsonl", _record({**LABELS, "predicate_id": RELATIONS, "uuid": IDS}), "lines", plain.lama_fact),
    ],
    "lama-sentences": [
        ListFile(
            "test.jsonl",
            _record(
                {"pred": RELATIONS, "obj_label": WORDS, "masked_sentences": st.lists(MASKED, min_size=1, max_size=2)},
                {"sub_label": SUBJECTS, "sub": st.one_of(SUBJECTS, st.just("/m/0x")), "uuid": IDS},
            ).filter(lambda record: "uuid" in record or "sub_label" in record),
            "lines",
            plain.lama_sentence,
        )
    ],
    "bear": [
        ListFile(
            "metadata_relations.json",
            st.tuples(
                RELATIONS, _record({"templates": st.lists(TEMPLATES, min_size=1), "answer_space_ids": st.just([])})
            ),
            "pairs",
            plain.bear_relation,
        ),
        ListFile("P1.jsonl", _record({**LABELS, "sub_id": IDS, "answer_idx": st.integers()}), "lines", plain.bear_fact),
    ],
    "kamel": [
        ListFile(
            "question-templates.csv",
            st.tuples(st.sampled_from(["P1", "P2"]), st.sampled_from(["What is [S]?", '"Who, then, is [S]?"'])),
            "questions",
            plain.kamel_question,
        ),
        ListFile(
            "P1/dev.jsonl",
            _record(
                {"index": st.lists(st.integers()), "sub_label": SUBJECTS, "obj_label": st.lists(WORDS, min_size=1)}
            ),
            "lines",
            plain.kamel_fact,
        ),
    ],
    "mpararel": [
        ListFile("patterns/de/P1.jsonl", BARE_PATTERN, "lines", plain.language_record),
        ListFile("tuples/de/P1.jsonl", LANGUAGE_FACT, "lines", plain.language_record),
    ],
    "mlama": [
        ListFile("de/P1.jsonl", LANGUAGE_FACT, "lines", plain.language_record),
        ListFile(
            "de/templates.jsonl",
            _record({"relation": RELATIONS, "template": TEMPLATES}),
            "lines",
            plain.language_template,
        ),
    ],
    "popqa": [
        ListFile(
            "popqa.tsv",
            POPQA,
            "table",
            plain.popqa_row,
            ("id", "subj", "prop", "obj", "further", "question", "possible_answers"),
            "\t",
        )
    ],
    "counterfact": [ListFile("facts.json", COUNTERFACT, "items", plain.counterfact)],
    "bags": [ListFile("facts.json", BAG, "items", plain.bag)],
}
"""The files of each format, in the order in which they are read."""

FORMAT_OF = {"semicolons": "csv", "tabs": "csv"}
"""What the format of a list is called, where it isn't called like the list."""
