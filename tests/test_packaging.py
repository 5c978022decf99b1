"""The wheel: what is in it, and that it works where there is no source tree. Needs no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from page_examples import blocks, same

import kndb

ROOT = Path(__file__).parents[1]
MADE = ("build", "dist", ".*", "*.egg-info", "__pycache__", "kndb-demo", "kndb.*", "real-models")
LEFT_OUT = ("tests", "benchmarks", "examples", *MADE)
LAB_MODELS = [name for name in ("lab-bert", "lab-gpt2") if (ROOT / "data" / name / "model.safetensors").is_file()]

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KNDB"))}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources so that the tree stays clean."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source", folder=folder
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def contents(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a new environment that has kndb from the wheel, and the rest from this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, folder=folder)
    # A path file within a folder named by another one is not read: this environment's own kndb stays out of sight.
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", program, folder=folder).stdout.strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    program = "import kndb, kndb.cli, kndb.migrations, kndb.data; print(kndb.__file__, kndb.cli.__file__)"
    for file in run(python, "-c", program, folder=folder).stdout.split():
        assert Path(file).is_relative_to(packages)
    return folder / "bin"


def sources(folder: str) -> set[str]:
    return {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob("*.py")}


def test_every_module_is_in_the_wheel(contents):
    for folder, package in {"kndb": "kndb", "cli": "kndb/cli", "migrations": "kndb/migrations"}.items():
        assert {f"{package}/{name}" for name in sources(folder)} <= contents


def test_data_is_in_the_wheel(contents):
    facts = {path.name for path in (ROOT / "data" / "facts").glob("*.jsonl")}
    assert facts
    assert {f"kndb/data/facts/{name}" for name in facts} <= contents
    for name in LAB_MODELS:
        files = {path.name for path in (ROOT / "data" / name).iterdir()}
        assert {f"kndb/data/{name}/{file}" for file in files} <= contents
    assert "kndb/py.typed" in contents


def test_pages_are_in_the_wheel(contents):
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {"commands.md", "glossary.md"} <= pages
    assert {name for name in contents if name.startswith("kndb/docs/")} == {
        f"kndb/docs/{name}" for name in {"__init__.py", *pages}
    }


def test_nothing_else_is_in_the_wheel(contents):
    tops = {name.partition("/")[0] for name in contents}
    assert tops == {"kndb", f"kndb-{kndb.__version__}.dist-info"}
    assert not [name for name in contents if "__pycache__" in name or name.endswith((".pyc", ".db", ".tmp"))]
    assert not [name for name in contents if "/tests/" in name or "/test_" in name]


def test_metadata(wheel, contents):
    (metadata,) = (name for name in contents if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        described = message_from_string(archive.read(metadata).decode())
        entry_points = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert "kndb = kndb.cli.main:run" in entry_points
    assert described["Version"] == kndb.__version__
    assert described["Requires-Python"] == ">=3.10"
    assert "make demo" in described.get_payload()
    needed = [line for line in described.get_all("Requires-Dist") if "extra" not in line]
    names = {re.match(r"[\w-]+", line)[0] for line in needed}
    assert {"torch", "transformers", "sqlalchemy", "alembic", "typer"} <= names
    assert not names & {"pytest", "ruff", "mypy"}
    assert any(name.endswith("licenses/LICENSE") for name in contents)


def test_the_installed_command(installed, tmp_path):
    assert "Usage: kndb" in run(installed / "kndb", "--help", folder=tmp_path).stdout
    assert run(installed / "kndb", "--version", folder=tmp_path).stdout == f"kndb {kndb.__version__}\n"
    assert run(installed / "kndb", "docs", "glossary", folder=tmp_path).stdout.startswith("# ")
    # The migrations are found in the package.
    run(installed / "kndb", "db", "init", folder=tmp_path)
    program = "from kndb.database.lab import own_facts; print(own_facts())"
    facts = run(installed / "python", "-c", program, folder=tmp_path).stdout.strip()
    assert Path(facts).is_relative_to(installed.parent)
    report = json.loads(run(installed / "kndb", "ingest", facts, "--format", "json", folder=tmp_path).stdout)
    assert report["facts_added"] > 1000
    assert report["rejected"] == []
    assert json.loads(run(installed / "kndb", "db", "check", "--format", "json", folder=tmp_path).stdout)["sound"]
    assert {path.name for path in tmp_path.iterdir()} == {"kndb.db"}


@pytest.mark.skipif(
    "lab-bert" not in LAB_MODELS, reason="this source tree lacks data/lab-bert: make it with `make lab`"
)
@pytest.mark.long
def test_the_installed_demo(installed, tmp_path):
    story = run(installed / "kndb", "demo", folder=tmp_path, HF_HUB_OFFLINE="1").stdout
    assert "is sound" in story
    assert "the snapshot comes back, and with it every byte" in story
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    (shown,) = (block.text for block in blocks(page) if block.language == "text")
    assert same(shown, story), f"docs/demo.md shows\n{shown}\nand the demo prints\n{story}"
    assert {path.name for path in tmp_path.iterdir()} == {"kndb-demo"}
    checked = run(installed / "kndb", "db", "check", "--db", "kndb-demo/kndb.db", "--format", "json", folder=tmp_path)
    assert json.loads(checked.stdout)["sound"]
    listed = run(installed / "kndb", "model", "list", "--db", "kndb-demo/kndb.db", "--format", "json", folder=tmp_path)
    assert [model["name"] for model in json.loads(listed.stdout)] == ["lab-bert"]
