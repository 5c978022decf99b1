"""examples/cluster/: the files parse, and the commands in them exist, with such options."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kndb.cli.main import command_line

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"
SCRIPTS = ("eight_gpus.sh", "attribute.sbatch")


def commands(program: str, text: str) -> list[list[str]]:
    """The command lines of a program in a text, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(rf"^(?:\s*|entrypoint: |.*--overlap\s+)({program} (?!health).*)$", joined, re.MULTILINE)
    return [shlex.split(line.removesuffix("&").replace("entrypoint: ", "")) for line in found]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse(name):
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)


def test_the_job_for_kuberay_is_whole():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        environment = {one["name"] for one in container["env"]}
        assert environment >= {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "KNDB_DB", "KNDB_OBJECTS"}
        assert {one["name"] for one in container["volumeMounts"]} == {
            one["name"] for one in group["template"]["spec"]["volumes"]
        }
    gpus = sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    assert f"--workers {gpus} " in job["spec"]["entrypoint"]


def test_all_commands_in_them_exist():
    from typer.main import get_command

    seen = 0
    for path in FOLDER.iterdir():
        text = re.sub(r"^#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for words in commands("kndb", text.replace("  entrypoint: ", "")):
            seen += 1
            plain = ["8" if word.startswith(("$WORK", "$work")) else word for word in words[1:]]
            plain = ["10.0.0.1:6379" if word == "$head_ip:$port" else word for word in plain]
            # Help is asked for last: whatever stands before it is looked at.
            told = CliRunner().invoke(get_command(command_line()), [*plain, "--help"])
            assert told.exit_code == 0, (path, words, told.output)
            known = set(re.findall(r"--[a-z-]+", told.output))
            assert {word for word in words if word.startswith("--")} <= known, (path, words)
    assert seen == 6


def test_options_of_ray_in_the_slurm_job_exist():
    text = (FOLDER / "attribute.sbatch").read_text(encoding="utf-8")
    (help_text,) = {
        subprocess.run(
            ["ray", "start", "--help"], capture_output=True, text=True, check=True, env=_environment()
        ).stdout
    }
    lines = commands("ray", text)
    assert len(lines) == 2
    for words in lines:
        for word in words[2:]:
            assert not word.startswith("--") or word.partition("=")[0] in help_text, word


def _environment() -> dict[str, str]:
    import os
    import sys

    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
