"""The commands that there are, and those that help texts and documents speak of, are the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from command_tree import COMMANDS, TREE

import kndb
from kndb.errors import KndbError
from kndb.manual import PAGES as PAGE_NAMES

ROOT = Path(__file__).parents[1]
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
EVERYWHERE = {"--help", "--objects", "--safe-csv"}
"""Options that every command has, or every one that has --format: documented once."""


def options(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "option"]


def long_names(command: Any) -> set[str]:
    names = {name for option in options(command) for name in (*option.opts, *option.secondary_opts)}
    return {name for name in names if name.startswith("--")} - EVERYWHERE


def sections() -> dict[str, str]:
    """What the page says of each command, by the command's words."""
    parts = re.split(r"^### +`?(kndb [a-z -]+?)`? *$", COMMANDS_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: re.split(r"^## ", text, flags=re.MULTILINE)[0]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def parse(line: str) -> None:
    """Takes a command line apart as the real one would, and runs nothing."""
    words = shlex.split(line)
    assert words[0] == "kndb"
    command, rest, context = TREE, words[1:], None
    while hasattr(command, "commands"):
        if rest[0].startswith("-"):
            command.make_context("kndb", rest, resilient_parsing=True)
            return
        assert rest[0] in command.commands, f"no command {rest[0]!r} in: {line}"
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context(line, rest, parent=context)
    assert context.command is command


def lines_of_code(text: str) -> list[str]:
    """The kndb commands in a text's code blocks, with continued lines joined, and what follows `&&` or `|` apart."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    joined = [re.sub(r"\\\n\s*", " ", block) for block in blocks]
    found = []
    for line in (line.strip().removeprefix("$ ") for block in joined for line in block.splitlines()):
        for part in re.split(r" (?:&&|\||;) ", line):
            command = part.strip()
            if re.match(r"(?:\.venv/bin/)?kndb [a-z-]", command):
                command = re.sub(r"\s+#\s.*$", "", command.removeprefix(".venv/bin/"))
                found.append(re.sub(r"\s+2?>\s?\S+$", "", command))
    return found


def test_there_are_commands():
    assert {"kndb ingest", "kndb edit apply", "kndb db check", "kndb demo"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_and_shows(name):
    command = COMMANDS[name]
    assert command.help
    examples = re.findall(r"^ *Example: (kndb .*)$", command.help, flags=re.MULTILINE)
    assert len(examples) == 1
    assert examples[0].startswith(name)
    parse(examples[0])
    for option in options(command):
        assert option.help, f"{name} does not explain {option.opts}"
    for parameter in command.params:
        assert parameter.param_type_name in ("option", "argument")
        assert parameter.help, f"{name} does not explain {parameter.name}"


def test_a_wrong_example_is_found():
    for line in ("kndb edit applied 1", "kndb ask --model lab-bert --tops 3 text", "kndb query neurons"):
        with pytest.raises((Exception, SystemExit)) as error:
            parse(line)
        assert not isinstance(error.value, (KndbError, KeyError))


def test_the_page_has_a_section_for_each_command():
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_every_option_and_shows_an_example(name):
    text = sections()[name]
    written = {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"--[a-z][a-z-]*", quoted)}
    assert long_names(COMMANDS[name]) - written == set()
    assert written - long_names(COMMANDS[name]) - mentioned_elsewhere(text) == set()
    examples = lines_of_code(text)
    assert any(example.startswith(name) for example in examples), f"no example of {name}"


def mentioned_elsewhere(text: str) -> set[str]:
    """Options that a section names as those of another command: `kndb refine --allow-incomplete`."""
    calls = [quoted for quoted in re.findall(r"`([^`\n]+)`", text) if quoted.startswith("kndb ")]
    return {word for call in calls for word in re.findall(r"--[a-z][a-z-]*", call)}


PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_a_document_exists(page):
    for line in lines_of_code(page.read_text(encoding="utf-8")):
        parse(line)


def test_some_documents_show_commands():
    assert sum(len(lines_of_code(page.read_text(encoding="utf-8"))) for page in PAGES) > len(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_begins_with_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25]
    assert any("make demo" in line for line in lines)
    assert any("make test" in line for line in lines)


def test_the_commands_that_messages_name_exist():
    """Errors and notes tell users what to run: `kndb edit list`, `kndb attribute --model NAME`."""
    found = set()
    for path in [*ROOT.glob("kndb/**/*.py"), *ROOT.glob("cli/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        found |= {(match[1], path.name) for match in re.finditer(r"\bkndb ((?:[a-z-]+ ?)+)", text)}
    groups = {"bench", "model", "query", "edit", "snapshot", "db", "lab", "plot", "import", "export", "probe"}
    known = {tuple(name.split()[1:]) for name in COMMANDS}
    missing = []
    for words, file in found:
        first = words.split()[:2]
        if first[0] in groups and len(first) == 2 and tuple(first) not in known:
            missing.append((words, file))
    assert missing == []
    assert len(found) > 20
    pages = {words.split()[1] for words, _ in found if re.match(r"docs [a-z]", words)}
    assert {"commands", "schema"} <= pages
    assert pages - set(PAGE_NAMES) == set()


def test_messages_name_pages_by_name():
    """`kndb docs schema` works where kndb is installed; docs/schema.md is a file that it does not have there."""
    paths = [*ROOT.glob("kndb/**/*.py"), *ROOT.glob("cli/**/*.py")]
    named = [path.name for path in paths if re.search(r"docs/[a-z-]+\.md", path.read_text(encoding="utf-8"))]
    assert named == []


PATHS = re.compile(r"`((?:kndb|cli|tests|benchmarks|migrations|data|docs)/[\w./-]*)`")


def test_the_house_is_described():
    """The page for contributors names files, and each folder of kndb."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = PATHS.findall(text)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []
    folders = {path.parent.name for path in (ROOT / "kndb").glob("*/__init__.py")}
    assert [name for name in folders if f"{name}/" not in text] == []


def test_the_page_for_python_names_public_things_only():
    """No private path; what it names of `kndb` is there, in `kndb.__all__`."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert "from kndb." not in text
    named = set(re.findall(r"\bkndb\.([A-Za-z]\w*)", text)) - {"db"}
    assert named - set(kndb.__all__) == set()
    assert all(hasattr(kndb, name) for name in kndb.__all__)


def test_the_page_for_python_lists_the_methods_of_every_namespace(tmp_path):
    """All but those that other parts of kndb need and nobody is promised (docs/stability.md)."""
    rows: dict[str, str] = {}
    space = ""
    for line in (ROOT / "docs" / "python.md").read_text(encoding="utf-8").splitlines():
        found = re.match(r"\| `db\.(\w+)` \|", line)
        space = found[1] if found else space if line.startswith("| |") else ""
        rows[space] = rows.get(space, "") + line
    own = {"facts.state", "facts.store_files", "models.source", "models.verify_checkpoint", "query.model_of"}
    own |= {"plots.check", "reports.collect"}
    missing = set()
    with kndb.open(tmp_path / "kndb.db") as database:
        for name in [name for name in dir(database) if not name.startswith("_")]:
            methods = getattr(database, name)
            if type(methods).__module__.startswith("kndb.database."):
                every = [one for one in dir(methods) if not one.startswith("_") and callable(getattr(methods, one))]
                missing |= {f"{name}.{one}" for one in every if not re.search(rf"[`.]{one}\b", rows.get(name, ""))}
    assert missing == own
