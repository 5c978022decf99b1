"""What a project has beside its code: pages, glossary, notebooks, versions; and that they agree with each other."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from command_tree import COMMANDS

import kndb
from kndb.cli.main import exit_code
from kndb.errors import NotFoundError
from kndb.manual import PAGES, page_text
from kndb.store.tables import Table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class TestPages:
    """One list of pages, `kndb.manual.PAGES`: the files, the site and the command have the same."""

    def test_each_page_is_there_and_each_file_is_listed(self):
        assert {path.stem for path in DOCS.glob("*.md")} == PAGES.keys() - {"data"}
        for name, about in PAGES.items():
            assert page_text(name).startswith("# "), name
            assert len(name) + 2 + len(about) <= 80, name

    def test_the_site_has_each_page(self):
        text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        named = re.findall(r"\b([a-z-]+)\.md$", text, flags=re.MULTILINE)
        assert sorted(named) == sorted({*PAGES, "index", "changelog", "contributing", "reference"})

    def test_the_site_asks_nobody(self):
        theme = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["theme"]
        assert theme["font"] is False

    def test_the_command_lists_and_prints(self, capsys):
        assert exit_code(["docs", "--format", "json"]) == 0
        assert [row["page"] for row in json.loads(capsys.readouterr().out)] == list(PAGES)
        assert exit_code(["docs", "queries"]) == 0
        assert capsys.readouterr().out == (DOCS / "queries.md").read_text(encoding="utf-8")

    def test_a_page_that_is_not_there(self, capsys):
        with pytest.raises(NotFoundError, match=r"no page 'glosary'; did you mean 'glossary'"):
            page_text("glosary")
        assert exit_code(["docs", "../README"]) == NotFoundError.exit_code
        assert "The pages: demo, session" in capsys.readouterr().err

    def test_a_terminal_gets_a_pager(self, monkeypatch):
        shown = []
        monkeypatch.setattr("pydoc.pager", shown.append)
        monkeypatch.setattr("kndb.cli.docs.sys.stdout", Terminal())
        assert exit_code(["docs", "glossary"]) == 0
        assert shown == [page_text("glossary")]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


TERMS = dict(re.findall(r"^### (.+)\n\n((?:(?!###).+\n|\n)+)", page_text("glossary"), flags=re.MULTILINE))
EMPHASIS = {
    "all",
    "compared",
    "gpt-oss",
    "gradient",
    "in all",
    "not compared",
    "skipped",
    "the table above",
    "unedited",
    "values",
}
"""What pages print in bold and do not define."""


class TestGlossary:
    """Every name is defined, once, where one looks for it."""

    def test_terms_are_in_order_and_defined_once(self):
        names = re.findall(r"^### (.+)$", page_text("glossary"), flags=re.MULTILINE)
        assert names == sorted(set(names), key=lambda name: name.replace("-", " "))
        assert len(names) > 60
        assert set(names) == set(TERMS)
        assert [name for name, text in TERMS.items() if len(text.split()) < 4] == []

    def test_every_word_that_a_page_defines_is_a_term(self):
        """Pages print a word in bold where they say what it is; long ones and sentences are emphasis."""
        found = {
            word
            for name in PAGES
            for word in re.findall(r"\*\*([a-z][a-z -]+)\*\*", page_text(name))
            if len(word.split()) < 4 and name != "stability"
        }
        assert {"value slots", "prompt", "refined set"} <= found
        singular = {word.removesuffix("s") for word in found - EMPHASIS}
        assert singular - {name.removesuffix("s") for name in TERMS} == set()

    def test_every_table_is_named(self):
        text = page_text("glossary")
        tables = {table.name for table in Table.metadata.sorted_tables}
        assert len(tables) > 20
        assert [name for name in tables if f"`{name}`" not in text] == []

    def test_every_group_of_commands_is_named(self):
        """A group's own noun, or a command of it, is in the glossary; plumbing has no words of its own."""
        text = page_text("glossary")
        tops = {name.split()[1] for name in COMMANDS} - {"demo", "docs", "db", "export", "import", "plot", "lab", "ask"}
        assert [top for top in tops if f"kndb {top}" not in text and f"### {top}\n" not in text] == []

    def test_every_edit_command_that_plans_or_tries_is_named(self):
        text = page_text("glossary")
        for verb in ("update", "optimize", "erase", "capture", "bench", "sweep", "apply", "revert"):
            assert f"kndb edit {verb}" in COMMANDS
            assert f"kndb edit {verb}" in text


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture
def runner(monkeypatch):
    """The module that runs notebooks."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import notebooks

    yield notebooks
    sys.modules.pop("notebooks", None)


class TestNotebooks:
    """They run, from public names alone, and are committed with what they show."""

    def test_there_are_two(self):
        assert [path.stem for path in NOTEBOOKS] == ["edit-and-share", "find-and-read"]

    @pytest.mark.slow
    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_a_notebook_runs(self, path, runner, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("KNDB_DB", raising=False)
        notebook = json.loads(path.read_text(encoding="utf-8"))
        stored = [kinds(cell) for cell in notebook["cells"]]
        assert [kinds(cell) for cell in runner.executed(notebook, path.name)["cells"]] == stored

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_a_notebook_uses_public_names(self, path):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert not re.search(r"from kndb|import kndb\.|\._[a-z]", code)
        assert set(re.findall(r"\bkndb\.([A-Za-z]\w*)", code)) - {"db"} <= set(kndb.__all__)
        ids = [cell["id"] for cell in cells]
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_a_notebook_names_no_place_of_the_machine_that_ran_it(self, path):
        assert not re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text(encoding="utf-8"))

    def test_outputs_are_those_of_jupyter(self, runner):
        class Shown:
            def __repr__(self) -> str:
                return "a\nb"

            def _repr_html_(self) -> str:
                return "<b>a</b>"

            def _repr_png_(self) -> bytes:
                return b"\x89PNG"

        printed, shown = runner.run("print('x')\nvalue", {"value": Shown()}, 3)
        assert printed == {"name": "stdout", "output_type": "stream", "text": ["x\n"]}
        assert shown["execution_count"] == 3
        assert shown["data"] == {"text/plain": ["a\n", "b"], "text/html": ["<b>a</b>"], "image/png": "iVBORw=="}
        assert runner.run("value = 1", {}, 1) == runner.run("None", {}, 1) == runner.run("1;", {}, 1) == []

    def test_a_cell_that_fails_is_named(self, runner):
        cell = {"cell_type": "code", "source": ["1 / 0"], "outputs": [], "execution_count": None}
        with pytest.raises(runner.CellError, match=r"a\.ipynb, cell 1: ZeroDivisionError"):
            runner.executed({"cells": [cell]}, "a.ipynb")


def kinds(cell):
    """Which outputs a cell has, and in which forms."""
    return [(output["output_type"], sorted(output.get("data", ()))) for output in cell.get("outputs", ())]


class TestVersions:
    """The version is the same wherever it stands."""

    def test_versions_agree(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        project = dict(re.findall(r'^(\w+) = "(.+)"$', text, re.MULTILINE))
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
        changes = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert project["version"] == kndb.__version__ == citation["version"]
        assert changes[0] == "Unreleased"
        assert kndb.__version__ in changes[1]
        assert citation["license"] == project["license"]

    def test_changes_are_of_the_kinds_that_there_are(self):
        kinds = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

    def test_hooks_need_no_network(self):
        hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
        assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
        for hook in hooks["repos"][0]["hooks"]:
            assert hook["entry"].startswith(".venv/bin/")
            assert all((ROOT / word).exists() for word in hook["entry"].split() if word.startswith("tests/"))


def test_what_pages_ask_make_for_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    asked = {
        word
        for page in pages
        for words in re.findall(
            r"(?:^\$? ?|`)make ([a-z-]+(?: [a-z-]+)*)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        for word in words.split()
    }
    assert {"demo", "test", "docs"} <= asked
    assert asked - targets == set()
