"""What a text advises, said as a shell needs it: options as they are typed, calls as the commands that do the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kndb.advice import Call, Option, Placeholder, rendered
from kndb.records.locations import without_password

_database: list[str] = []
"""The database that the command line named, if it named one: commands that are advised name it too."""
_objects: list[str] = []
"""The folder of edit objects that it named, likewise."""


@dataclass(frozen=True)
class Command:
    """The command that does what a method of `Database` does.

    Attributes:
        words: the command's words after `kndb`; {kind} stands for the parameter `kind`.
        arguments: the method's parameters that are arguments of the command, in the command's order.
        options: how the command calls parameters whose option has another name than theirs.
        opens: whether the command has --db.
    """

    words: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    opens: bool = True


_SINGULAR = {
    "relations": "relation",
    "subjects": "subject",
    "fact_ids": "fact",
    "settings": "setting",
    "languages": "language",
    "versions": "version",
}
"""Options that take one value each, by the parameter that takes several."""
_OF_LISTS = {**_SINGULAR, "facts": "fact", "prompts": "prompt"}
"""The same where a list is given; with a number, these are options of their own."""
COMMANDS: Mapping[str, Command] = {
    "attribution.refine": Command("refine"),
    "attribution.run": Command("attribute", (), {"fact_ids": "fact"}),
    "checkouts.checkout": Command("checkout", ("version",), {"folder": "dir"}),
    "checkouts.status": Command("checkout --status", (), {"folder": "dir"}),
    "edits.all": Command("edit list"),
    "edits.apply": Command("edit apply", ("edit",)),
    "edits.apply_all": Command("edit apply", ("edits",)),
    "edits.cases": Command("edit cases"),
    "edits.diff": Command("edit diff", ("a", "b")),
    "edits.draft_adapter": Command("edit import", ("source",)),
    "edits.draft_capture": Command("edit capture", (), {"source": "from"}),
    "edits.delete": Command("edit delete", ("edits",)),
    "edits.delete_statistics": Command("edit statistics --delete"),
    "edits.evaluate": Command("edit eval", ("edit",)),
    "edits.export_adapter": Command("edit export", ("edits",)),
    "edits.get": Command("edit show", ("edit",)),
    "edits.log": Command("edit log"),
    "edits.merge": Command("edit merge", ("edits",)),
    "edits.plan_erase": Command("edit erase"),
    "edits.plan_optimize": Command("edit optimize"),
    "edits.plan_together": Command("edit optimize --together", (), {"targets": "facts"}),
    "edits.plan_update": Command("edit update"),
    "edits.pull": Command("edit pull", ("path",)),
    "edits.push": Command("edit push", ("edits",), {"path": "out"}),
    "edits.rebase": Command("edit revert --rebase", ("edit",)),
    "edits.revert": Command("edit revert", ("edit",)),
    "edits.revert_all": Command("edit revert", ("edits",)),
    "edits.revert_cascade": Command("edit revert --cascade", ("edit",)),
    "edits.statistics": Command("edit statistics"),
    "edits.targets": Command("edit optimize --model NAME", (), {"path": "facts"}),
    "exchange.import_facts": Command("import facts", ("paths",)),
    "exchange.import_neurons": Command("import neurons", ("paths",)),
    "exchange.import_scores": Command("import scores", ("path",)),
    "facts.find": Command("query facts"),
    "facts.ingest": Command("ingest", ("paths",)),
    "facts.relations": Command("query relations"),
    "kndb.attribution_methods": Command("methods", opens=False),
    "kndb.page_text": Command("docs", ("name",), opens=False),
    "kndb.copy_database": Command("db copy", ("source", "target"), opens=False),
    "kndb.open": Command("db init", (), {"location": "db"}, opens=False),
    "kndb.upgrade_database": Command("db upgrade", (), {"location": "db"}, opens=False),
    "maintenance.backup": Command("db backup", ("target",)),
    "maintenance.check": Command("db check"),
    "maintenance.info": Command("db info"),
    "models.add": Command("model add", ("source",)),
    "models.all": Command("model list"),
    "models.convert": Command("model convert", ("source",), opens=False),
    "models.ask": Command("ask", ("text",), {"name": "model"}),
    "models.get": Command("model show", ("name",)),
    "models.tokens": Command("model show", ("name",), {"text": "tokens"}),
    "probes.activation": Command("probe activation"),
    "probes.all": Command("probe list"),
    "probes.get": Command("probe show", ("probe_id",)),
    "probes.scale": Command("probe", ("kind",)),
    "plots.activation": Command("plot activation", (), {"path": "out"}),
    "plots.amplify": Command("plot amplify", (), {"path": "out"}),
    "plots.suppress": Command("plot suppress", (), {"path": "out"}),
    "query.collateral": Command("query collateral", ("target",)),
    "query.compare": Command("query compare", ("refinement_a", "refinement_b")),
    "query.counts": Command("query counts"),
    "query.fact": Command("query fact", ("fact_id",)),
    "query.layers": Command("query layers"),
    "query.neuron": Command("query neuron", ("neuron",)),
    "query.overlap": Command("query overlap"),
    "query.refinement": Command("query refinement", ("choice",)),
    "query.refinements": Command("query refinements"),
    "query.run": Command("query run", ("run",)),
    "query.runs": Command("query runs"),
    "query.shared": Command("query shared"),
    "query.sql": Command("query sql", ("query",)),
    "snapshots.create": Command("snapshot create", ("name",)),
    "snapshots.all": Command("snapshot list"),
    "snapshots.delete": Command("snapshot delete", ("name",)),
    "snapshots.export": Command("snapshot export", ("name",)),
    "snapshots.restore": Command("snapshot restore", ("name",)),
    "tests.bisect": Command("edit bisect", (), {"tests": "test", "good": "from", "bad": "to"}),
    "tests.run": Command("test", ("tests",), {"versions": "version"}),
    "tests.walk": Command("edit bisect --all", (), {"tests": "test", "good": "from", "bad": "to"}),
    "trials.all": Command("edit trials"),
    "trials.bench": Command("edit bench"),
    "trials.sweep": Command("edit sweep"),
}
"""The commands by the methods that texts advise."""


def remember_database(location: str | None) -> None:
    """Keeps what --db named, for the commands that are advised; None where the default was taken."""
    _database[:] = [] if location is None else [location]


def database_named() -> str | None:
    """What --db named; None where the default was taken."""
    return _database[0] if _database else None


def remember_objects(folder: str | None) -> None:
    """Keeps what --objects named, likewise."""
    _objects[:] = [] if folder is None else [folder]


@contextmanager
def nameless() -> Iterator[None]:
    """Leaves database and folder out of the commands that are advised in a block."""
    named = [*_database], [*_objects]
    _database.clear()
    _objects.clear()
    try:
        yield
    finally:
        _database[:], _objects[:] = named


def objects_named() -> str | None:
    """What --objects named; None where it was not given."""
    return _objects[0] if _objects else None


def for_shell(text: str) -> str:
    """A text with its options and calls as a shell needs them."""
    return rendered(text, _in_shell)


def _in_shell(mark: Option | Call) -> str:
    if isinstance(mark, Option):
        return " ".join(_option(mark.name, mark.value)) if mark.given else f"--{_hyphens(_singular(mark.name))}"
    command = COMMANDS.get(mark.method)
    if command is None:  # No text of kndb's own: tests hold that each has its command.
        return mark.method
    by_name = dict(mark.keywords)
    arguments = [*mark.arguments, *(by_name.pop(name) for name in command.arguments if name in by_name)]
    words = ["kndb", *command.words.split(), *(_word(one) for value in arguments for one in _several(value))]
    for name, value in by_name.items():
        words += _option(command.options.get(name, name), value)
    if command.opens and _database:
        words += ["--db", shlex.quote(without_password(_database[0]))]
    if command.opens and _objects:
        words += ["--objects", shlex.quote(_objects[0])]
    return " ".join(words)


def _option(name: str, value: Any) -> list[str]:
    """An option with its value: repeated for each of a list, alone where it is a switch."""
    spelled = f"--{_hyphens(_OF_LISTS.get(name, name) if isinstance(value, list) else _singular(name))}"
    if value is True:
        return [spelled]
    if value is False:
        return [spelled.replace("--", "--no-", 1)]
    return [word for one in _several(value) for word in (spelled, _word(one))]


def _singular(name: str) -> str:
    return _SINGULAR.get(name, name)


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _word(value: Any) -> str:
    return value.name if isinstance(value, Placeholder) else shlex.quote(str(value))
