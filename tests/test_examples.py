"""Every example of the documentation runs as printed: a page's in the page's order, in a folder of its own.

What a page may say about its examples is in tests/helpers/page_examples.py. Whether commands that do not run parse is
held by tests/test_documentation.py.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from command_tree import COMMANDS
from page_examples import Block, ExampleError, Page, blocks, same, steps, store_of

from kndb.cli.main import exit_code

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN = [page for page in PAGES if any(block.runs for block in blocks(page.read_text(encoding="utf-8")))]
LONG = ("docs/session.md",)
"""Pages whose examples take a minute: they plan for a list of facts, and edit, test and bisect what comes of it."""
READY = "lab-bert, P176 attributed"
"""The one store that pages start from: what attributes P176 on a page then finds it done, and takes no time."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def ready_store(tmp_path_factory) -> Path:
    """A folder with a store of kndb's facts, P176 attributed on lab-bert; only to be copied."""
    folder = tmp_path_factory.mktemp("ready")
    for words in (
        ["ingest", str(ROOT / "data" / "facts")],
        ["attribute", "--model", "lab-bert", "--relation", "P176"],
    ):
        assert exit_code([*words, "--db", str(folder / "kndb.db")]) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder as a clone is, for what pages need of it; it is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("KNDB_DB", "KNDB_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KNDB_AUTHOR", "ada")
    return tmp_path


def _as_case(page: Path):
    name = str(page.relative_to(ROOT))
    return pytest.param(page, id=name, marks=[pytest.mark.long] if name in LONG else [])


@pytest.mark.parametrize("page", [_as_case(page) for page in RUN])
def test_the_examples_of_a_page_run_as_printed(page, place, request, monkeypatch):
    text = page.read_text(encoding="utf-8")
    store = store_of(text)
    assert store in (None, READY)
    if store:
        shutil.copytree(request.getfixturevalue("ready_store"), place, dirs_exist_ok=True)
    # What a page exports is undone after it.
    monkeypatch.setenv("KNDB_DB", "kndb.db")
    assert Page(page.name).run(text) > 0


def test_most_examples_run():
    """Only what takes minutes or files of others is parsed only, and each such block says why."""
    found = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
    wanted = [block for block in found if block.language in ("console", "python", "pycon")]
    others = [block.marks["example"] for block in wanted if "example" in block.marks]
    assert len(others) < len(wanted) / 5
    assert [reason for reason in others if not re.match(r"real$|parsed only: \S+ \S+", reason)] == []


def test_the_examples_of_the_help_are_on_the_page_of_commands():
    """So they run too, in its order."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = {step.command for block in blocks(page) if block.language == "console" for step in steps(block)}
    examples = {re.search(r"Example: (kndb .*)", command.help)[1].strip() for command in COMMANDS.values()}
    assert examples - shown == set()


class TestTheRunnerItself:
    """A wrong example is found."""

    def test_blocks_and_marks(self):
        text = (
            "<!-- example: real -->\n<!-- file: a.csv -->\n\n```csv\nx\n```\n\nWords.\n\n```console\n$ kndb docs\n```\n"
        )
        first, second = blocks(text)
        assert first.marks == {"example": "real", "file": "a.csv"}
        assert (second.line, second.runs, first.runs) == (10, True, False)

    def test_steps(self):
        block = Block(1, "console", "$ kndb a \\\n   b  # why\nsaid\n(exit code 2)\n$ kndb c\n")
        first, second = steps(block)
        assert (first.command, first.shown, first.code) == ("kndb a b", ("said",), 2)
        assert (second.command, second.shown, second.code) == ("kndb c", (), 0)

    def test_outputs(self):
        assert same("p 0.2215 vf41e9e528187a712", "p  0.2216  v0000000000000000")
        assert not same("p 0.2215", "p 0.3215")
        assert not same("va000000000000000 va000000000000000", "vb000000000000000 vc000000000000000")
        assert same("first … last", "first one two last")
        assert same("first …", "first")
        assert not same("first", "first second")

    @pytest.mark.parametrize(
        "example",
        [
            "```console\n$ kndb docs no-such-page\n```\n",
            "```console\n$ kndb --version\nkndb 0.0.0\n```\n",
            "```console\n$ kndb --version | grep nothing\n```\n",
            "```python\nassert False\n```\n",
            "```pycon\n>>> print(1)\n2\n```\n",
        ],
    )
    def test_what_goes_wrong_is_found(self, example, place):
        with pytest.raises(ExampleError):
            Page("page").run(example)

    def test_what_goes_right_passes(self, place):
        file = "<!-- file: a.txt -->\n```text\nb\n```\n"
        commands = "\n```console\n$ cat a.txt\nb\n$ kndb db init && cat no 2>&1\n…\n(exit code 1)\n```\n"
        text = file + commands
        assert Page("page").run(text + "\n```pycon\n>>> x = 1\n>>> print(x)\n1\n```\n") == 3
