"""CounterFact: a list of records, each a true fact with a false one to put in its place, and prompts.

Read are the true fact, its rewrite prompt (also as a template of the relation) and its paraphrases. The false
target and the neighbourhood, attribute and generation prompts are left out.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..records.facts import BLANK, SUBJECT_SLOT, FactFile, FactRecord
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .formats import Format
from .lines import read_document
from .prompts import fill

_HOLE = "{}"
_EXPECTED = "a JSON list of CounterFact records with case_id, requested_rewrite, paraphrase_prompts"
_EASYEDIT = ("prompt", "target_new", "ground_truth")


def is_easyedit(record: Record) -> bool:
    """Tells whether a record is one of EasyEdit's flat CounterFact."""
    return "requested_rewrite" not in record and all(name in record for name in _EASYEDIT)


def easyedit_error(path: Path) -> InputError:
    """Returns the error that says EasyEdit's flat CounterFact is another format."""
    return InputError(
        f"{path}: this is EasyEdit's flat CounterFact (fields {', '.join(_EASYEDIT)}), which names no relation; give "
        f"{_EXPECTED}, as ROME publishes it"
    )


def read_file(path: Path) -> FactFile:
    """Reads one CounterFact file.

    Args:
        path: the file.

    Returns:
        A fact and a template per record; the line of a rejected record is its 1-based number.

    Raises:
        InputError: if the file is no JSON list, or is EasyEdit's flat CounterFact.
    """
    records = read_document(path, _EXPECTED)
    if not isinstance(records, list):
        raise InputError(f"{path}: it must be {_EXPECTED} (got {checks.kind(records)})")
    if records and isinstance(records[0], dict) and is_easyedit(records[0]):
        raise easyedit_error(path)
    collector = Collector(path)
    for number, record in enumerate(records, 1):
        with collector.rejecting(path, number):
            _add(record, collector)
    return collector.finish()


def _add(record: object, collector: Collector) -> None:
    if not isinstance(record, dict):
        raise RecordError(f"each record must be an object of CounterFact (got {checks.kind(record)})")
    case = checks.identifier(record, "case_id")
    if case is None:
        raise RecordError("'case_id' is missing; it must be a number")
    rewrite = checks.nested(record, "requested_rewrite")
    relation = checks.text(rewrite, "relation_id")
    subject = checks.subject(rewrite, "subject")
    answer = checks.text(checks.nested(rewrite, "target_true"), "str")
    template = _template(rewrite)
    prompts = [fill(template, subject), *_paraphrases(record)]
    external_id = f"counterfact-{case}"
    collector.fact(FactRecord(relation, subject, answer, external_id, tuple(dict.fromkeys(prompts))))
    collector.template(relation, template)


def _template(rewrite: Record) -> str:
    prompt = checks.text(rewrite, "prompt")
    checks.no_slots(prompt, "prompt")
    checks.once(prompt, _HOLE, "prompt")
    return f"{prompt.replace(_HOLE, SUBJECT_SLOT)} {BLANK}"


def _paraphrases(record: Record) -> list[str]:
    prompts = checks.texts(record, "paraphrase_prompts")
    for prompt in prompts:
        checks.no_slots(prompt, "paraphrase")
    return [f"{prompt} {BLANK}" for prompt in prompts]


FORMAT = Format("counterfact", lambda path: [read_file(path)], lambda _, fields: "requested_rewrite" in fields)
