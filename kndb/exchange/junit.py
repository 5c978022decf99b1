r"""Outcomes of knowledge tests as JUnit's XML, which continuous integration reads: a test suite for each version.

XML 1.0 can't hold some characters, not even escaped: of texts, these are written out, as `\x1b`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..files import writing
from ..records.knowledge_tests import ERROR, FAILED, PASSED, KnowledgeOutcome, KnowledgeRun

_UNABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """A text without the characters that XML 1.0 has not: these are written out."""
    return _UNABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def write(path: Path, runs: Sequence[KnowledgeRun]) -> None:
    """Writes runs of tests, the whole file or nothing.

    Raises:
        OutputError: if it can't be written.
    """
    root = ElementTree.Element("testsuites", _counts([outcome for run in runs for outcome in run.outcomes]))
    for run in runs:
        about = {"name": clean(f"{run.model} {run.version}"), "time": f"{run.seconds:.3f}"}
        suite = ElementTree.SubElement(root, "testsuite", about | _counts(run.outcomes))
        for outcome in run.outcomes:
            _case(suite, run, outcome)
    ElementTree.indent(root)
    with writing(path) as temporary, temporary.open("wb") as file:
        ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
        file.write(b"\n")


def _counts(outcomes: Sequence[KnowledgeOutcome]) -> dict[str, str]:
    failures, errors = (sum(one.status == status for one in outcomes) for status in (FAILED, ERROR))
    return {"tests": str(len(outcomes)), "failures": str(failures), "errors": str(errors), "skipped": "0"}


def _case(suite: ElementTree.Element, run: KnowledgeRun, outcome: KnowledgeOutcome) -> None:
    about = {"classname": clean(f"{run.model}.{run.asked_as}"), "name": clean(outcome.name), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", about)
    if outcome.status == PASSED:
        return
    kind = "failure" if outcome.status == FAILED else "error"
    found = ElementTree.SubElement(case, kind, {"message": clean(outcome.why), "type": outcome.status})
    found.text = clean("\n".join(_lines(outcome)))


def _lines(outcome: KnowledgeOutcome) -> list[str]:
    expected = [f"asks: {outcome.test.asks}", f"must answer: {outcome.test.expects}"]
    return expected + [f"{one.status}: {one.prompt}: {one.why}" for one in outcome.prompts if one.status != PASSED]
