"""Words with which each command of the program can be called on a rich database; a new one need not be named here.

Arguments and required options get a value by their names; a command that needs more has it in `MORE`. A new one whose
names are not known here fails where the words are made.
"""

from __future__ import annotations

from pathlib import Path

from command_tree import COMMANDS

VALUES = {
    "model": "tiny",
    "name": "tiny",
    "text": "The capital city of France is called [MASK].",
    "relation": "P36",
    "refinement_a": "1",
    "refinement_b": "1",
    "number": "1",
    "fact": "1",
    "probe": "1",
    "edit": "1",
    "edits": "1",
    "query": "SELECT count(*) FROM score",
    "a": "base",
    "b": "current",
}
"""Values of required arguments and options, by their names."""
BY_COMMAND = {
    "query collateral": {"target": "1"},
    "query neuron": {"name": "L0.N1"},
    "ingest": {"paths": "{inputs}/facts.jsonl"},
    "model add": {"source": "{inputs}/checkpoint"},
    "edit apply": {"edits": "2"},
    "edit revert": {"edits": "1"},
    "edit merge": {"edits": "1-2"},
    "edit capture": {"source": "{inputs}/checkpoint"},
    "edit pull": {"file": "{inputs}/edits.kndb"},
    "edit export": {"out": "{out}/adapter"},
    "edit import": {"path": "{inputs}/adapter"},
    "snapshot create": {"name": "another"},
    "snapshot show": {"name": "one"},
    "snapshot delete": {"name": "one"},
    "snapshot restore": {"name": "one"},
    "snapshot export": {"name": "one", "out": "{out}/exported"},
    "checkout": {"folder": "{out}/copy"},
    "edit bisect": {"tests": "{inputs}/tests.jsonl"},
    "report": {"out": "{out}/report"},
    "edit push": {"out": "{out}/pushed.kndb"},
    "export neurons": {"to": "{out}/neurons.csv"},
    "export scores": {"to": "{out}/scores.jsonl"},
    "export facts": {"to": "{out}/facts.jsonl"},
    "import neurons": {"paths": "{inputs}/neurons.csv"},
    "import scores": {"path": "{inputs}/scores.jsonl"},
    "import facts": {"paths": "{inputs}/facts.parquet"},
    "probe activation": {"texts": "{inputs}/texts.jsonl"},
    "db backup": {"target": "{out}/backup.db"},
    "db copy": {"source": "kndb.db", "target": "{out}/copied.db"},
    "plot": {"out": "{out}/figure.svg"},
}
MORE = {
    "checkout": "base",
    "query shared": "--relation P36",
    "query facts": "--subject France",
    "probe suppress": "--relation P36 --facts 2",
    "probe amplify": "--relation P36 --facts 2",
    "edit update": "--fact 3 --to Rome --max-share 1",
    "edit optimize": "--fact 3 --to Rome --max-share 1 --steps 2",
    "edit memit": "--fact 3 --to Rome --layers 0 --rounds 1 --target-steps 1",
    "edit alphaedit": "--fact 3 --to Rome --layers 0 --threshold 100 --target-steps 1",
    "edit emmet": "--fact 3 --to Rome --layers 0 --target-steps 1",
    "edit finetune": "--fact 3 --to Rome --layers 0 --steps 1",
    "edit rome": "--fact 3 --to Rome --layers 0 --target-steps 1",
    "edit eval": "--sample 2",
    "edit bench": "--facts 2 --intra 2 --inter 2 --max-share 1 --sizes 1",
    "test": "inputs/tests.jsonl --model tiny",
    "blame": "L0.N1 --edit 1",
    "edit sweep": "--facts 2 --intra 2 --inter 2 --max-share 1 --lambda-new 8",
    "edit trials": "1",
    "edit statistics": "--model tiny --layers 0",
    "snapshot list": "--model tiny",
    "serve": "--export {out}/site",
}
"""Options beyond those that are required, as typed."""
ASIDE = frozenset({"demo", "docs", "methods", "model convert", "lab train", "bench attribution", "bench localisation"})
"""Commands that open no database of the user's."""
CHANGING = frozenset(
    {"test", "ingest", "attribute", "refine", "checkout", "model add", "db init", "db upgrade", "db backup", "db copy"}
    | {f"probe {name}" for name in ("suppress", "amplify", "activation")}
    | {f"import {name}" for name in ("neurons", "scores", "facts")}
    | {f"edit {name}" for name in ("update", "optimize", "memit", "alphaedit", "emmet", "finetune", "rome", "erase")}
    | {f"edit {name}" for name in ("capture", "import", "pull", "statistics", "eval", "bench", "sweep", "bisect")}
    | {f"edit {name}" for name in ("apply", "revert", "export", "merge", "cases")}
    | {f"snapshot {name}" for name in ("create", "delete", "restore", "export")}
)
"""Commands that write to the database, or compute with a model."""
NAMES = tuple(name.removeprefix("kndb ") for name in COMMANDS if name.removeprefix("kndb ") not in ASIDE)
"""All commands that open a database."""


def words_for(name: str, inputs: Path, out: Path) -> list[str]:
    """The words of a command, the database left out.

    Args:
        name: the command's words after `kndb`.
        inputs: the folder of files to read, which `write_inputs` made.
        out: an empty folder for what it writes.
    """
    own = {**BY_COMMAND.get(name.split()[0], {}), **BY_COMMAND.get(name, {})}
    words = name.split()
    for parameter in COMMANDS[f"kndb {name}"].params:
        if not parameter.required:
            continue
        value = own.get(parameter.name) or VALUES[parameter.name]
        text = value.format(inputs=inputs, out=out)
        words += [text] if parameter.param_type_name == "argument" else [parameter.opts[0], text]
    return words + MORE.get(name, "").format(inputs=inputs, out=out).split()
