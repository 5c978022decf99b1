"""Builds wheel and sdist, installs each into an environment of its own, and runs the demo from each.

    python benchmarks/release_check.py            # or: make release-check

What is installed beside kndb is this environment's own: nothing is downloaded. An installed kndb must not be this
tree's, must know its version, its pages and its data, and its demo must end well. Wheel and sdist stay in `dist/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Builds, installs and tries; ends with an error at the first thing that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="Where wheel and sdist are written.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kndb-release-") as folder:
        built = build(options.dist.absolute(), Path(folder))
        for archive in built:
            start = time.monotonic()
            check(archive, Path(folder) / archive.name.replace(".", "-"))
            print(f"{archive.name}: installed, and its demo done ({time.monotonic() - start:.0f} s)", flush=True)
    print("Both are as they should be.")


def build(target: Path, folder: Path) -> list[Path]:
    """Builds the sdist from what git has, and the wheel from the sdist, so that neither has more than it should."""
    source = folder / "source"
    source.mkdir()
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, source / name)
    before = set(target.glob("kndb-*"))
    for path in before:
        path.unlink()
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source, folder=folder)
    found = sorted(target.glob("kndb-*.whl")) + sorted(target.glob("kndb-*.tar.gz"))
    if len(found) != 2:
        raise SystemExit(f"found {[path.name for path in found]}; expected one wheel and one sdist")
    return found


def check(archive: Path, folder: Path) -> None:
    """Installs an archive into a new environment and tries what it installed."""
    venv.create(folder, with_pip=False)
    python, kndb = folder / "bin" / "python", folder / "bin" / "kndb"
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(call(python, "-c", program, folder=folder).strip())
    # What a .pth file names is on the path, and what .pth files in there name is not: this tree's own kndb stays out.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "--python", python, "install", *options, archive, folder=folder)
    place = Path(call(python, "-c", "import kndb; print(kndb.__file__)", folder=folder).strip())
    if not place.is_relative_to(packages):
        raise SystemExit(f"found kndb in {place}; expected it in {packages}")
    version = archive.name.removesuffix(".tar.gz").split("-")[1]
    if call(kndb, "--version", folder=folder) != f"kndb {version}\n":
        raise SystemExit(f"{archive.name}: kndb --version does not say {version}")
    for page in ("commands", "glossary", "data"):
        call(kndb, "docs", page, folder=folder)
    call(kndb, "demo", folder=folder)


def call(*command: object, folder: Path) -> str:
    """Runs a program without what this environment sets for kndb and Python, and gives its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KNDB"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
