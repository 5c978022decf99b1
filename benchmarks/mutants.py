"""Changes kndb's code in small ways, and looks which changes no test notices: `make mutants`.

mutmut makes the mutants of the files that pyproject.toml names, and runs the tests there that reach each one. There are
thousands, so a sample of each file's is tried, the same one for the same seed. Prints a line for each file, and the
mutants that survived; docs/reliability.md explains those that are left.

    python benchmarks/mutants.py [--each 30] [--seed 0] [--all] [--only kndb/versions.py]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

MUTMUT = str(Path(sys.executable).with_name("mutmut"))
PLACE = Path("mutants")
SURVIVED, NO_TESTS = 0, 33
"""mutmut's exit codes of a mutant that no test noticed, and of one that no test reached."""
FEWEST = "kndb.versions.*"
"""Some few mutants: mutmut makes those of all files before it tries any."""


def outcomes() -> dict[str, dict[str, int | None]]:
    """For each file, its mutants, and what became of those that were tried."""
    return {
        str(path.relative_to(PLACE)).removesuffix(".meta"): json.loads(path.read_text("utf-8"))["exit_code_by_key"]
        for path in sorted(PLACE.rglob("*.py.meta"))
    }


def mutmut(*words: str) -> str:
    """Runs mutmut, and gives what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    result = subprocess.run([MUTMUT, *words], env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout[-4000:] + result.stderr[-4000:])
    return result.stdout


def chosen(names: list[str], each: int, seed: int) -> list[str]:
    """A sample of a file's mutants."""
    return sorted(random.Random(seed).sample(sorted(names), min(each, len(names))))


def main() -> None:
    """Tries a sample of the mutants, and prints what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=30, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="try every mutant (hours)")
    parser.add_argument("--only", action="append", default=[], help="a file; may be repeated")
    parser.add_argument("--children", default="1", help="mutants to try at once")
    options = parser.parse_args()
    shutil.rmtree(PLACE, ignore_errors=True)
    mutmut("run", "--max-children", options.children, FEWEST)
    files = {file: names for file, names in outcomes().items() if names and (not options.only or file in options.only)}
    tried = {
        file: chosen(list(names), len(names) if options.all else options.each, options.seed)
        for file, names in files.items()
    }
    mutmut("run", "--max-children", options.children, *(name for names in tried.values() for name in names))
    after = outcomes()
    for file, names in tried.items():
        survived = [name for name in names if after[file][name] in (SURVIVED, NO_TESTS)]
        print(f"{file}: {len(names)} of {len(after[file])} mutants tried, {len(survived)} survived")
        for name in survived:
            print(f"  {name}{' (no test reaches it)' if after[file][name] == NO_TESTS else ''}")
            lines = mutmut("show", name).splitlines()
            print("".join(f"    {line}\n" for line in lines if line[:2] not in ("--", "++", "@@")))


if __name__ == "__main__":
    main()
