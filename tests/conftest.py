"""What tests of several folders share: small models that know a few facts, and the list of those facts.

It also makes the plain modules of tests/helpers importable.
"""

import gc
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from backends import BOTH, SQLITE, Places
from commands_once import build_once
from compiled_once import share_compiled
from loaded_once import load_once
from made_once import made_once, sums
from memory import use_memory
from new_databases import repeat_first_revisions
from postgres_server import begin_run
from torture import POINTS, counted

# Both are read when torch and the hub's client are imported, by the programs that tests start too: small products
# only get slower on several threads, and no test asks the hub.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
use_memory()

ROOT = Path(__file__).parents[1]
FAMILIES = ("bert", "gpt2")
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Norway": "Oslo",
}
LANGUAGES = {
    "France": "French",
    "Italy": "Italian",
    "Spain": "Spanish",
    "Japan": "Japanese",
    "Egypt": "Arabic",
    "Peru": "Spanish",
    "Cuba": "Spanish",
    "Norway": "Norwegian",
}
TEMPLATES = {
    "P36": (
        "[X] has a capital named [Y].",
        "The capital city of [X] is called [Y].",
        "The seat of government of [X] is [Y].",
        "[X] is governed from [Y].",
        "Going to the capital of [X] means going to [Y].",
    ),
    "P37": (
        "[X] has an official language called [Y].",
        "The people of [X] mostly speak [Y].",
        "In [X], the official language is [Y].",
        "To live in [X], learn [Y].",
        "The laws of [X] are written in [Y].",
    ),
}
TRAINING = {
    "layers": 2,
    "width": 32,
    "neurons": 64,
    "heads": 2,
    "vocabulary": 400,
    "epochs": 200,
    "batch_size": 40,
    "learning_rate": 5e-3,
    "dropout": 0.0,
    "label_smoothing": 0.05,
}
"""Settings with which the small models learn the facts, in seconds."""
HELD_OUT = {"P36": "The capital of [X] is [Y].", "P37": "The official language of [X] is [Y]."}


@pytest.fixture(scope="session", autouse=True)
def once_in_a_process():
    """New databases are made by the revisions once in a process, and then by their statements; see `new_databases`.

    All stores share what SQLAlchemy compiled, a command's line is built once, and small checkpoints are loaded once;
    see `compiled_once`, `commands_once` and `loaded_once`.
    """
    with pytest.MonkeyPatch.context() as patch:
        repeat_first_revisions(patch)
        share_compiled(patch)
        build_once(patch)
        if "kndb.models.loading" in sys.modules:
            load_once(patch)
        yield


@pytest.fixture(scope="session")
def small_facts(tmp_path_factory):
    """A list of 16 facts of P36 and P37, each relation with five templates and a held-out one: 96 prompts."""
    path = tmp_path_factory.mktemp("facts") / "small.jsonl"
    path.write_text(_small_list(), encoding="utf-8")
    return path


def _small_list() -> str:
    rows = []
    for key, label, facts in (("P36", "capital", CAPITALS), ("P37", "official language", LANGUAGES)):
        rows += [{"relation": key, "relation_label": label, "template": text} for text in TEMPLATES[key]]
        rows.append({"relation": key, "template": HELD_OUT[key], "held_out": True})
        rows += [
            {"relation": key, "subject": subject, "object": answer, "id": f"{key}-{subject}"}
            for subject, answer in facts.items()
        ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def small_templates():
    """The list's templates that are not held out, by relation."""
    return TEMPLATES


@pytest.fixture(scope="session")
def small_models(small_facts, tmp_path_factory):
    """For each family, the folder of a model (2 layers of 64 neurons) that knows the facts; only to be read.

    They are trained once per machine; see `made_once`.
    """

    def make(folder):
        from kndb.facts import read
        from kndb.lab.card import write_checkpoint
        from kndb.lab.corpus import build_corpus

        corpus = build_corpus(read(small_facts))
        for family in FAMILIES:
            write_checkpoint(_trained(family, corpus), corpus, folder / family, own=False)

    modules = ("kndb.facts", "kndb.lab.card", "kndb.lab.corpus", "kndb.lab.train")
    decided_by = (_small_list(), FAMILIES, TRAINING)
    folder = made_once("small-models", decided_by, modules, make, tmp_path_factory.mktemp("models"))
    return {family: folder / family for family in FAMILIES}


@pytest.fixture(scope="session")
def small_stores(small_facts, small_models, tmp_path_factory):
    """A folder with databases in which model `tiny` is attributed (`attributed/FAMILY/kndb.db`), and refined, too
    (`refined/FAMILY/kndb.db`); only to be copied. They are made once per machine."""

    def make(folder):
        from kndb.database import open_database

        for family, checkpoint in small_models.items():
            attributed, refined = folder / "attributed" / family, folder / "refined" / family
            attributed.mkdir(parents=True)
            with open_database(attributed / "kndb.db") as database:
                database.facts.ingest([small_facts])
                database.models.add(str(checkpoint), "tiny")
                database.attribution.run("tiny")
            shutil.copytree(attributed, refined)
            with open_database(refined / "kndb.db") as database:
                database.attribution.refine()

    schema = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "migrations").rglob("*.py"))]
    decided_by = (_small_list(), [(str(folder), sums(folder)) for folder in small_models.values()], schema)
    modules = ("kndb.store.engine", *(f"kndb.database.{name}" for name in ("facts", "models", "attribution")))
    return made_once("small-stores", decided_by, modules, make, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def rich_store(small_stores, small_models, tmp_path_factory):
    """A folder with a database that has something in every table, and files to read; only to be copied."""
    from rich_store import rich_folder

    return rich_folder(small_stores, small_models, tmp_path_factory.mktemp("rich"))


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """Each family of models in turn."""
    return request.param


def _trained(family, corpus):
    from kndb.lab.train import TrainingSettings, train

    trained = train(corpus, TrainingSettings(family=family, **TRAINING))
    assert trained.scores.training > 0.9, "the small model did not learn its facts"
    return trained


@pytest.fixture
def backend(request) -> str:
    """SQLite; in a module that names `BACKENDS`, each of these in turn."""
    return getattr(request, "param", SQLITE)


@pytest.fixture
def db_places(backend, tmp_path):
    """Makes databases of the backend."""
    made = Places(backend, tmp_path)
    yield made
    made.close()


def pytest_configure():
    begin_run()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays to the end: looking for garbage in it takes a third of that time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc):
    backends = getattr(metafunc.module, "BACKENDS", None)
    own = any("backend" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))
    if backends is not None and "backend" in metafunc.fixturenames and not own:
        assert set(backends) <= set(BOTH)
        metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture(scope="session")
def checkpoint_bytes():
    """Gives the contents of all files below a folder, by relative path."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return contents


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The really pretrained checkpoint that `make real` prepares; tests that use it are skipped without it."""
    path = Path(os.environ.get("KNDB_REAL_MODEL", ROOT / "real-models" / "SmolLM2-135M-Instruct"))
    if not (path / "config.json").is_file():
        pytest.skip("no real model here; `make real` prepares it")
    return path


@pytest.fixture
def count_points(request):
    """Gives a function that counts how many points of a fault a test tried; the summary adds them up."""

    def count(fault: str, number: int) -> None:
        request.node.user_properties.append((POINTS, [fault, number]))

    return count


def pytest_collection_modifyitems(config, items):
    # Files with slow tests come first: each file is one worker's, and one that begins last would keep the others idle.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("long") and "long" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="takes long; `make long` runs it"))
        for marker in item.iter_markers("fault"):
            item.user_properties += [(POINTS, [name, 1]) for name in marker.args]


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if "real" in report.keywords]
    if skipped:
        terminalreporter.section("the real model")
        terminalreporter.write_line(
            f"{len(skipped)} tests were skipped: {skipped[0].longrepr[2].removeprefix('Skipped: ')}"
        )
    counts = counted(terminalreporter.stats.get("passed", ()))
    if counts:
        terminalreporter.section("faults tried and survived")
        for fault, number in sorted(counts.items()):
            terminalreporter.write_line(f"{number:>8,}  {fault}")
        terminalreporter.write_line(f"{sum(counts.values()):>8,}  in all")
