"""Joining clusters: what is refused, what is said where there is none, and who cleans up after a killed process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kndb.cli.main import exit_code
from kndb.errors import UsageError, WorkError
from kndb.records.work import WorkEngine
from kndb.work.cluster import joined


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "spark"}, r"engine must be local or ray \(got 'spark'\)"),
        ({"workers": 2}, "workers is for workers, which need engine='ray'"),
        ({"address": "auto"}, "address is for workers"),
        ({"gpus_per_worker": 1}, "gpus_per_worker is for workers"),
        ({"name": "ray", "workers": 0}, r"workers must be at least 1 \(got 0\)"),
        ({"name": "ray", "threads": 0}, r"threads must be at least 1 \(got 0\)"),
        ({"name": "ray", "gpus_per_worker": 1.5}, r"whole number, or a share from 0 to 1 \(got 1.5\)"),
        ({"name": "ray", "gpus_per_worker": -1}, r"got -1"),
        ({"name": "ray", "gpus_per_worker": float("nan")}, "got nan"),
        ({"name": "ray", "address": "ray://head:10001"}, r"HOST:PORT of the cluster's head"),
        ({"name": "ray", "address": "head"}, "HOST:PORT"),
        ({"name": "ray", "address": "head:70000"}, "HOST:PORT"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        WorkEngine(**settings)


@pytest.mark.parametrize("command", ["attribute", "probe suppress", "edit bench"])
def test_the_command_line_names_the_option(command, capsys):
    words = [*command.split(), "--model", "lab-bert", "--workers", "2"]
    assert exit_code(words) == UsageError.exit_code
    assert "--workers is for workers, which need --engine ray" in capsys.readouterr().err


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(
            UsageError, match=r"needs Ray, which is not installed; install it with: pip install 'kndb\[ray\]'"
        ),
        joined(WorkEngine("ray")),
    ):
        pass


def test_an_address_where_nothing_answers_is_refused_at_once():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    said, engine = rf"no Ray cluster answers at localhost:{port}", WorkEngine("ray", address=f"localhost:{port}")
    with pytest.raises(WorkError, match=said), joined(engine):
        pass


def test_what_answers_and_is_no_cluster_is_refused_at_once(monkeypatch):
    import ray

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr("kndb.work.cluster.CONNECTING", 0.05)
        monkeypatch.setenv("RAY_ADDRESS", address)
        said = rf"no Ray cluster answers at {address} \(timed out\)"
        with pytest.raises(WorkError, match=said), joined(WorkEngine("ray")):
            pass


KILLED = """
import os, signal, subprocess, sys
from kndb.work.guard import guarded_folder
with guarded_folder(sys.argv[1], "guarded-") as guard:
    (guard.folder / "log").write_text("x")
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    guard.watch()
    with (guard.folder / "log").open("w") as log:
        later = subprocess.Popen(["sleep", "1000"], stderr=log, start_new_session=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    for one in (child, later):
        one.kill()
        one.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the guard finds processes in /proc")
@pytest.mark.parametrize("end", ["kill", "leave"])
def test_a_process_that_is_killed_leaves_no_folder_and_no_program(end, tmp_path):
    program = [sys.executable, "-c", KILLED, str(tmp_path), end]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as running:
        # The child has the pipe too: its end comes when both are gone.
        running.stdout.read()
    assert running.returncode == (-signal.SIGKILL if end == "kill" else 0)
    while end == "kill" and list(tmp_path.iterdir()):
        os.sched_yield()
    assert list(tmp_path.iterdir()) == []
