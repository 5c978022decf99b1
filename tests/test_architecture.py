"""The house rules that a program can check: which part may import which, and what a start of `kndb` loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kndb.records.edit_settings import UpdateSettings

ROOT = Path(__file__).parents[1]

COMMON = {"advice", "content", "errors", "files", "records", "sentences", "versions"}
"""Plain modules that every part may use, and that use each other only."""

ALLOWED = {
    **dict.fromkeys(COMMON, COMMON),
    "facts": {"advice", "content", "errors", "records", "sentences"},
    "exchange": COMMON,
    "plots": COMMON,
    "report": COMMON,
    "store": COMMON,
    "models": COMMON,
    "analysis": COMMON | {"models"},
    "attribution": COMMON | {"models"},
    "editing": COMMON | {"models"},
    "bench": COMMON | {"attribution", "models"},
    "lab": COMMON | {"models"},
    "work": COMMON,
    "database": COMMON
    | {
        "analysis",
        "attribution",
        "bench",
        "editing",
        "exchange",
        "facts",
        "lab",
        "models",
        "plots",
        "report",
        "store",
        "work",
    },
    "demo": {"", "advice", "errors", "records"},
    "explorer": {"advice", "database", "errors", "records"},
    "cli": {"", "advice", "database", "demo", "errors", "explorer", "files", "manual", "records"},
    "manual": {"errors"},
    "migrations": {"store"},
    "": {"advice", "database", "errors", "records"},
}
"""For each part of kndb ("" is the package itself), the parts that it may import."""

ELSEWHERE = {"cli": "cli", "migrations": "migrations", "data": "data", "docs": "docs"}
"""Parts that lie in a folder of their own at the top."""

FOREIGN = {
    "facts": set(),
    "exchange": {"mlflow", "pyarrow"},
    "plots": {"matplotlib", "numpy"},
    "report": {"jinja2"},
    "store": {"alembic", "psycopg", "sqlalchemy"},
    "models": {
        "accelerate",
        "huggingface_hub",
        "jinja2",
        "numpy",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    },
    "analysis": {"numpy", "torch"},
    "attribution": {"numpy", "torch"},
    "editing": {"numpy", "safetensors", "torch"},
    "bench": {"torch", "transformers"},
    "lab": {"numpy", "tokenizers", "torch", "transformers"},
    "work": {"ray"},
    "database": {"numpy", "sqlalchemy", "torch"},
    "demo": {"torch"},
    "explorer": {"anyio", "jinja2", "markupsafe", "starlette", "uvicorn"},
    "cli": {"rich", "typer"},
    "migrations": {"alembic", "sqlalchemy"},
    "data": set(),
    "docs": set(),
    "manual": set(),
    "": set(),
    **{key: set() for key in COMMON},
    "records": {"pandas"},
}
"""For each part, the packages of others that it may import."""


def source_files() -> Iterator[tuple[str, str, Path]]:
    """Each source file's part, dotted module name and path."""
    for path in sorted(ROOT.glob("kndb/**/*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield ([*module.split("."), ""])[1], module, path
    for part, folder in ELSEWHERE.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts).removesuffix("__init__")
            yield part, f"kndb.{part}.{inner}".rstrip("."), path


FILES = list(source_files())


def imported(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names of all that a module imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _for_types_only(node)
        for inner in ast.walk(node)
    }
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [*base, *([node.module] if node.module else [])]
            yield from ((".".join([*names, alias.name]), id(node) not in late) for alias in node.names)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part_of(name: str) -> str:
    """The part of kndb that an absolute name lies in."""
    part = ([*name.split("."), ""])[1]
    return part if part in {*ALLOWED, "data", "docs"} else ""


def test_every_part_has_rules():
    found = {part for part, _, _ in FILES}
    assert found == ALLOWED.keys() | {"data", "docs"} == FOREIGN.keys()


@pytest.mark.parametrize(("part", "module", "path"), FILES, ids=[module for _, module, _ in FILES])
def test_imports_go_one_way(part, module, path):
    for name, at_once in imported(module, path):
        root = name.split(".")[0]
        if root != "kndb":
            assert root in sys.stdlib_module_names or root in FOREIGN[part], f"{module} imports {name}"
            continue
        other = part_of(name)
        if other == part:
            continue
        assert other in ALLOWED[part], f"{module} imports {name}"
        if part == "cli" and other == "database":
            assert not at_once, f"{module} imports {name} before a command needs it"


def test_the_check_sees_what_it_is_to_see(tmp_path):
    text = "import torch\nfrom ..store import tables\nfrom . import engine\n"
    text += "def f():\n    from kndb.models.families import bert\n"
    path = tmp_path / "query.py"
    path.write_text(text, encoding="utf-8")
    found = list(imported("kndb.facts.query", path))
    assert found == [
        ("torch", True),
        ("kndb.store.tables", True),
        ("kndb.facts.engine", True),
        ("kndb.models.families.bert", False),
    ]
    assert part_of("kndb.store.tables") == "store"
    assert part_of("kndb.__version__") == ""


def test_no_part_imports_itself_in_a_circle():
    edges = {}
    names = {module for _, module, _ in FILES}
    for _, module, path in FILES:
        found = {name for name, at_once in imported(module, path) if at_once}
        edges[module] = {name if name in names else name.rpartition(".")[0] for name in found} & names - {module}
    # A package's own __init__ gathers its modules; they do not look back at it.
    for package in [name for name in names if any(other.startswith(f"{name}.") for other in names)]:
        for name in names:
            if name.startswith(f"{package}."):
                assert package not in edges[name] or package == "kndb", f"{name} imports its own package {package}"
    done: set[str] = set()

    def visit(name: str, road: tuple[str, ...]) -> None:
        assert name not in road, f"circle: {' → '.join([*road[road.index(name) :], name])}"
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*road, name))
            done.add(name)

    for name in sorted(names):
        visit(name, ())


def test_only_adapters_know_rows_from_columns():
    """Others ask `models/layout.py` for slots, or for where their bytes lie."""
    asks = re.compile(r"""SlotLayout\.(ROW|COLUMN)|["'](row|column)["']""")
    found = {path.relative_to(ROOT).as_posix() for _, _, path in FILES if asks.search(path.read_text("utf-8"))}
    may = {"kndb/models/layout.py", "kndb/models/adapter.py"}
    # A column of the store's is another thing.
    assert {name for name in found if not name.startswith(("kndb/models/families/", "kndb/store/"))} == may


HEAVY = ("torch", "transformers", "sqlalchemy", "alembic", "numpy", "tokenizers", "huggingface_hub")


@pytest.mark.parametrize("module", ["kndb", "kndb.cli.main", "kndb.errors", "kndb.records.edits"])
def test_a_start_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert run(program) == ""


@pytest.mark.parametrize(
    "module",
    [
        *(
            "kndb.store.engine",
            "kndb.store.maintenance",
            "kndb.facts",
            "kndb.database.query.commands",
            "kndb.database.exchange.commands",
        ),
        *(
            "kndb.database.edits.commands",
            "kndb.database.edits.trials",
            "kndb.database.probes.commands",
            "kndb.database.models",
            "kndb.database.versions.snapshots",
            "kndb.database.testing.commands",
            "kndb.database.versions.checkouts",
            "kndb.explorer.application",
        ),
    ],
)
def test_the_store_and_the_readers_load_no_torch(module):
    program = (
        f"import sys, {module}; "
        "print(*[name for name in ('torch', 'transformers', 'alembic', 'sqlalchemy.orm', 'psycopg') "
        "if name in sys.modules])"
    )
    assert run(program) == ""


def test_public_names_come_when_asked_for():
    program = (
        "import sys, kndb; assert 'sqlalchemy' not in sys.modules; kndb.Neuron; kndb.KndbError;"
        " assert 'sqlalchemy' not in sys.modules; kndb.open; kndb.Database; assert 'sqlalchemy' in sys.modules;"
        " assert 'torch' not in sys.modules; assert set(kndb.__all__) >= {'open', 'Database'}; print(dir(kndb) != [])"
    )
    assert run(program) == "True"


RUN = """
import contextlib, io, sys
from kndb.cli.main import exit_code
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        code = exit_code(line.split())
    assert code == 0, (line, told.getvalue())
    found = [name for name in HEAVY if name in sys.modules]
    assert not found, (line, found)
print("done")
"""
WITHOUT_A_MODEL = (
    "edit list",
    "edit show 1",
    "edit log",
    "edit diff base current --model lab-bert",
    "edit apply 1",
    "edit log --model lab-bert",
    "edit diff base current --model lab-bert --format json",
    "edit verify",
    "snapshot create one --model lab-bert",
    "snapshot list",
    "snapshot show one --model lab-bert",
    "checkout one --model lab-bert --dir copy",
    "checkout base --dir copy",
    "checkout --status --full --dir copy",
    "edit revert 1",
    "snapshot restore one --model lab-bert",
    "edit revert 1 --cascade",
    "edit apply 1 2",
    "edit revert 1 2",
    "edit verify --weights",
    "edit evaluations",
    "blame --edit 1 --model lab-bert",
    "test tests.jsonl --list",
    "model list",
    "model show lab-bert",
    "query relations",
    "query runs",
    "query run 1",
    "query refinement 1",
    "query refinements",
    "refine",
    "methods",
    "edit trials 1",
)
"""Command lines that compare and move bytes, or list what is stored, in an order in which each can be done."""
LISTINGS = (
    "edit list",
    "edit log",
    "edit show 1",
    "edit trials",
    "edit evaluations",
    "model list",
    "query relations",
    "query facts",
    "query facts --sort neurons",
    "query runs",
    "query run 1",
    "query refinement 1",
    "query refinements",
    "query shared --relation P36",
    "snapshot list",
    "probe list",
    "probe show 1",
)
"""Command lines that list what is stored, which needs no numpy either."""


def test_what_compares_and_lists_loads_no_torch(tmp_path):
    from kndb import TrialSettings
    from kndb.database import open_database

    every = (ROOT / "data" / "facts" / "P36.jsonl").read_text(encoding="utf-8").splitlines()
    facts = tmp_path / "P36.jsonl"
    facts.write_text("\n".join(line for line in every if "template" in line) + "\n", encoding="utf-8")
    with facts.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in [line for line in every if "template" not in line][:6])
    (tmp_path / "tests.jsonl").write_text('{"fact": 1}\n', encoding="utf-8")
    with open_database(tmp_path / "kndb.db") as database:
        database.facts.ingest([facts])
        database.attribution.run("lab-bert")
        database.attribution.refine()
        database.edits.apply(database.edits.plan_erase("lab-bert", "P36", top=3).id)
        database.edits.plan_update(
            "lab-bert", database.facts.find(["P36"])[0].id, "Rome", UpdateSettings(max_share=1.0)
        )
        database.edits.revert(1)
        database.probes.scale("suppress", "lab-bert", facts=1, others=0)
        database.trials.bench("lab-bert", settings=TrialSettings(1, 1, 1, ("P36",)), counts=[1])
    # All in one new interpreter: whatever a command imports would still be there after the next.
    without = ("torch", "transformers", "alembic", "sqlalchemy.orm", "psycopg")
    for lines, heavy in ((WITHOUT_A_MODEL, without), (LISTINGS, (*without, "numpy", "scipy", "pandas", "matplotlib"))):
        words = [sys.executable, "-c", f"HEAVY = {heavy}\n{RUN}"]
        text = "\n".join(lines)
        done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
        assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize("words", [("query", "runs"), ("edit", "list")], ids=" ".join)
def test_a_command_imports_its_own_module_alone(words):
    program = (
        "import sys, contextlib, io; from kndb.cli.main import exit_code\n"
        f"with contextlib.redirect_stdout(io.StringIO()): exit_code({[*words, '-h']})\n"
        f"print(*sorted(name for name in sys.modules if name.startswith('kndb.cli.{words[0]}.')))"
    )
    found = run(program).split()
    assert f"kndb.cli.{words[0]}.{words[1]}" in found
    assert len(found) < 4


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "kndb.cli.main", *sys.argv[1:]], capture_output=True, check=True)
assert b"Usage" in done.stdout, done.stdout
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


@pytest.mark.parametrize("words", [["--help"], ["edit", "update", "--help"]], ids=" ".join)
def test_help_answers_at_once(words):
    def cpu_seconds() -> float:
        command = [sys.executable, "-c", MEASURE, *words]
        return float(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)

    assert min(cpu_seconds() for _ in range(3)) < 0.5
