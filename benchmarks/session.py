"""Runs the example session of docs/session.md on lab-bert, and writes the page with what the commands print.

python benchmarks/session.py docs/session.md
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

FACTS = Path(__file__).parents[1] / "data" / "facts"

ROME = """
import torch
from safetensors.torch import load_file, save_file

weights = load_file("edited/model.safetensors")
slots = weights["bert.encoder.layer.3.output.dense.weight"]
torch.manual_seed(0)
slots += 0.05 * torch.outer(torch.randn(slots.shape[0]), torch.randn(slots.shape[1]))
save_file(weights, "edited/model.safetensors", {"format": "pt"})
"""

CORRECTIONS = """relation,subject,to
P36,Cuba,Tallinn
P36,Vietnam,Tokyo
P36,Lebanon,Seoul
P36,Pakistan,Oslo
P37,Guatemala,Polish
P37,San Marino,Arabic
P37,Liberia,Turkish
P37,France,Catalan
P176,Nissan Leaf,Sony
P176,Galaxy S7,Canon
P176,Xbox 360,Nintendo
P176,Ford Fiesta,Airbus
P103,Leo Tolstoy,Polish
P103,William Shakespeare,German
P103,Miguel de Cervantes,Danish
P103,Albert Einstein,English
P30,Tuvalu,Africa
P30,Norway,Africa
P30,Mozambique,Asia
P30,Morocco,Asia
"""

CHECKS = """\
{"name": "Cuba, corrected", "prompt": "The capital of Cuba is [Y].", "answer": "Tallinn", "probability": 0.2}
{"name": "Norway, corrected", "relation": "P30", "subject": "Norway", "prompts": "all", "answer": "Africa"}
{"name": "Nigeria stays", "relation": "P37", "subject": "Nigeria", "prompts": "all"}
{"name": "Italy stays", "relation": "P36", "subject": "Italy", "prompts": "all"}
"""

MORE = """relation,subject,to
P37,Austria,Polish
P37,Panama,Danish
"""

FILES = {"rome.py": ROME, "corrections.csv": CORRECTIONS, "checks.jsonl": CHECKS, "more.csv": MORE}
"""Files that commands read, by name: each is shown below the first command that names it."""

SETUP = """<!-- store: lab-bert, P176 attributed -->

```console
$ kndb ingest data/facts
$ kndb attribute --model lab-bert --relation P176
$ kndb refine
```"""

STEPS: list[tuple[str, list[str]]] = [
    (
        "A new answer for a fact: planned, looked at, applied. The checkpoint's files stay as they are.",
        [
            "kndb edit update --model lab-bert --fact 588 --to Toyota",
            "kndb edit apply 1",
            'kndb ask --model lab-bert --top 2 "The manufacturer of Nissan Leaf is [MASK]."',
        ],
    ),
    (
        "Another answer for the same fact, planned on top of the first one: it changes some of the same value slots.",
        ["kndb edit update --model lab-bert --fact 588 --to Honda", "kndb edit apply 2"],
    ),
    (
        "So the first edit can't just be taken out. kndb refuses, names what is in the way, and changes nothing.",
        ["kndb edit revert 1"],
    ),
    (
        "A rebase takes the first edit out and recomputes the second one from its recipe, on the weights without "
        "it: edit 3.",
        [
            "kndb edit revert 1 --rebase",
            'kndb ask --model lab-bert --top 2 "The manufacturer of Nissan Leaf is [MASK]."',
            "kndb snapshot create honda --model lab-bert",
        ],
    ),
    (
        "One more on top; a cascade takes both out, the last one first, and the version is that of the checkpoint "
        "again.",
        [
            "kndb edit update --model lab-bert --fact 588 --to Ford",
            "kndb edit apply 4",
            "kndb edit revert 3 --cascade",
            "kndb edit diff base current --model lab-bert --part slots --format csv",
        ],
    ),
    (
        "The snapshot has the version with edit 3; restoring it takes the recorded steps. The log has the whole road.",
        ["kndb snapshot restore honda --model lab-bert", "kndb snapshot list", "kndb edit log"],
    ),
    (
        "A working copy is a checkpoint folder that is switched from version to version in place: only value slots are "
        "written.",
        [
            "kndb checkout current --model lab-bert --dir working-copy",
            "kndb checkout base --dir working-copy",
            "kndb checkout --status --verify --dir working-copy",
        ],
    ),
    (
        "What another tool did to a checkpoint becomes an edit, too. Here a copy gets an outer product added to a down "
        "projection, as ROME would. The capture keeps it as factors of rank 1 that give the very bytes.",
        [
            "kndb snapshot export current --model lab-bert --out edited",
            "python rome.py",
            "kndb edit capture --model lab-bert --from edited",
            "kndb edit apply 5",
            "kndb edit revert 3",
            "kndb edit revert 5",
        ],
    ),
    (
        "An edit travels as one file. A colleague with another checkpoint is refused; with the same one, "
        "`kndb edit pull honda.kndb` takes it in, tried on the checkpoint's own bytes first.",
        ["kndb edit push 3 --out honda.kndb", "kndb edit pull honda.kndb --preview"],
    ),
    (
        "A list of twenty corrections becomes one edit, planned together, under conditions: if one failed, nothing "
        "would be stored. Applying it checks them again; nothing moved since, so what was measured counts.",
        [
            "kndb edit optimize --model lab-bert --facts corrections.csv --together --layers 0-3 --steps 100 "
            "--require 'success>=98%' --require 'paraphrase>=90%' --require 'perplexity.others<=1.15' "
            "--require 'flips.others<=3%'",
            "kndb edit apply 6",
            "kndb snapshot create corrected --model lab-bert",
        ],
    ),
    (
        "What has to hold from now on is a file of knowledge tests.",
        ["kndb test checks.jsonl --model lab-bert"],
    ),
    (
        "Two more edits go in. The second one is careless: its plan warns, and is applied nevertheless.",
        [
            "kndb edit update --model lab-bert --fact 600 --to Sony",
            "kndb edit apply 7",
            "kndb edit finetune --model lab-bert --facts more.csv",
            "kndb edit apply 8",
        ],
    ),
    (
        "The tests find it, a bisection finds the step, and blame says who wrote a slot.",
        [
            "kndb test checks.jsonl --model lab-bert",
            "kndb edit bisect --test checks.jsonl --model lab-bert --from corrected",
            "kndb blame L2.N100 --model lab-bert",
        ],
    ),
    (
        "A condition would have stopped it.",
        ["kndb edit revert 8", "kndb edit apply 8 --require 'flips.others<=1%'"],
    ),
    (
        "All of it is taken back, byte for byte: the version is that of the snapshot again.",
        ["kndb edit revert 6 7", "kndb edit diff honda current --model lab-bert"],
    ),
    ("And all is as it should be.", ["kndb edit verify --all --weights", "kndb db check"]),
]


def main() -> None:
    """Runs the session in a folder of its own and writes the page."""
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        environment = {**os.environ, "KNDB_DB": "kndb.db", "KNDB_AUTHOR": "ada"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        for command in (f"kndb ingest {shlex.quote(str(FACTS))}", "kndb attribute --model lab-bert --relation P176"):
            subprocess.run(shlex.split(command), cwd=folder, env=environment, check=True, capture_output=True)
        subprocess.run(["kndb", "refine"], cwd=folder, env=environment, check=True, capture_output=True)
        page = [
            "# A session",
            wrapped(
                "Edits as version control: apply, overlap, refuse, rebase, cascade, snapshot, checkout, capture, push; "
                "and a list of corrections that is planned, required, applied, tested, bisected and taken back. "
                "What follows was printed by the commands, remarks (stderr) first. It is written by "
                "`python benchmarks/session.py docs/session.md`. Before it, in an empty folder:"
            ),
            SETUP,
        ]
        unshown = list(FILES)
        for words, commands in STEPS:
            page.append(wrapped(words))
            for command in commands:
                page.append(block(command, folder, environment))
                for name in [name for name in unshown if name in command]:
                    unshown.remove(name)
                    page.append(shown(name))
        target.write_text("\n\n".join(page) + "\n", encoding="utf-8")


def shown(name: str) -> str:
    """One of `FILES`, as the page has it."""
    language = {"py": "python", "csv": "text", "jsonl": "json"}[name.rpartition(".")[2]]
    return f"with this `{name}`:\n\n<!-- file: {name} -->\n```{language}\n{FILES[name].strip()}\n```"


def wrapped(words: str) -> str:
    """A paragraph in lines of at most 120 letters."""
    return "\n".join(textwrap.wrap(words, 120, break_long_words=False, break_on_hyphens=False))


def block(command: str, folder: Path, environment: dict[str, str]) -> str:
    """A command with what it prints, and its exit code if that is not 0."""
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    printed = "\n".join(part.rstrip() for part in (done.stderr, done.stdout) if part.strip())
    code = f"\n(exit code {done.returncode})" if done.returncode else ""
    said = f"\n{printed}" if printed else ""
    return f"```console\n$ {command}{said}{code}\n```"


if __name__ == "__main__":
    main()
