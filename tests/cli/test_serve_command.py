"""`kndb serve`: a real server that answers and is stopped, what it refuses, and its export."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from kndb.cli.main import exit_code
from kndb.database import open_database


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "kndb.db"
    with open_database(path):
        pass
    return path


def started(store, *options):
    """A server, and the address that it printed."""
    words = [sys.executable, "-m", "kndb.cli.main", "serve", "--port", "0", *options, "--db", str(store)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    found = re.fullmatch(r"Open (http://\S+)\n", line)
    if found is None:
        server.kill()
        pytest.fail(f"{line!r} {server.communicate()[1]}")
    return server, found[1]


def test_a_server_answers_on_this_machine_until_it_is_interrupted(store):
    server, address = started(store)
    try:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200
            assert "What this store holds" in answer.read().decode()
            assert "server" not in {name.lower() for name in answer.headers}
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=60)
        assert refused.value.code == 405
        refused.value.close()
        request = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as misled:
            urllib.request.urlopen(request, timeout=60)
        assert misled.value.code == 421
        misled.value.close()
    finally:
        server.send_signal(signal.SIGINT)
        _, told = server.communicate(timeout=60)
    assert server.returncode == 0, told
    assert "Only this machine reaches it; it only reads." in told
    assert "Traceback" not in told


def test_what_can_not_be_served_is_said_before_anything_is(store, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert exit_code(["serve", "--port", str(port), "--db", str(store)]) == 2
    assert f"--port {port}: 127.0.0.1 can't be listened on there" in capsys.readouterr().err
    for words, code, said in (
        (["--port", "99999"], 2, "--port must be from 0 to 65535"),
        (["--token", "short"], 2, "--token must be at least 16"),
        (["--allow-host", "http://x"], 2, "--allow-host must be a host's name"),
        (["--force"], 2, "are of --export"),
    ):
        assert exit_code(["serve", *words, "--db", str(store)]) == code
        assert said in capsys.readouterr().err
    assert exit_code(["serve", "--db", str(store.parent / "none.db")]) == 4


def test_an_export_says_how_many_pages_it_wrote(store, capsys, tmp_path):
    assert exit_code(["serve", "--export", str(tmp_path / "site"), "--db", str(store)]) == 0
    assert (tmp_path / "site" / "index.html").is_file()
    assert re.search(r"pages +\d+", capsys.readouterr().out)
    assert exit_code(["serve", "--export", str(tmp_path / "site"), "--db", str(store)]) == 10
    assert "--force" in capsys.readouterr().err
    assert exit_code(["serve", "--export", str(tmp_path / "site"), "--force", "--db", str(store)]) == 0


def test_other_addresses_and_edits_need_a_token():
    from kndb.explorer.server import Server, ServeSettings

    for settings, needed in (
        (ServeSettings(port=0), False),
        (ServeSettings(port=0, allow_edits=True), True),
        (ServeSettings(port=0, host="0.0.0.0"), True),
        (ServeSettings(port=0, allow_hosts=("kndb.example",)), True),
        (ServeSettings(port=0, token="of-my-own-choosing"), True),
    ):
        with Server(None, settings, str) as server:
            assert (server.rules.token is not None) is needed
            assert ("?token=" in server.address) is needed
            assert server.rules.any_address is (settings.host == "0.0.0.0")
    tokens = set()
    for _ in range(3):
        with Server(None, ServeSettings(port=0, allow_edits=True), str) as server:
            tokens.add(server.rules.token)
    assert len(tokens) == 3
    assert all(len(token) >= 32 for token in tokens)
