"""Runs the commands that a page shows, and puts what they print now into the page.

    python benchmarks/transcript.py README.md

A transcript is a block of code after the line `<!-- transcript -->`, in which commands begin with `$ `. They run one
after the other in an empty folder that has this project's `data` and the real model in it. Where the page shows output
below a command, it is replaced by what the command prints on stdout; where it shows none, none is put there. A command
that fails stops it all, and the page stays as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fetch_real_model import DEFAULT, VARIABLE

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(?<=<!-- transcript -->\n```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Runs a page's transcripts and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    options.page.write_text(MARKED.sub(lambda found: again(found[0]), text), encoding="utf-8")


def again(transcript: str) -> str:
    """A transcript with what its commands print now.

    Raises:
        subprocess.CalledProcessError: if a command fails.
    """
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(ROOT / "data")
        (Path(folder) / "real-models").mkdir()
        (Path(folder) / "real-models" / DEFAULT.name).symlink_to(Path(os.environ.get(VARIABLE) or DEFAULT).resolve())
        for command, shown in commands(transcript):
            output = _run(command, folder)
            lines += [f"$ {command}", *(output.splitlines() if shown else [])]
    return "".join(f"{line}\n" for line in lines)


def commands(transcript: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a transcript, with the lines shown below it."""
    command, shown = None, []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command, shown
            command, shown = line.removeprefix("$ "), []
        else:
            shown.append(line)
    if command is not None:
        yield command, shown


def _run(command: str, folder: str) -> str:
    print(f"$ {command}", file=sys.stderr)
    programs = str(Path(sys.executable).parent)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KNDB_")}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
