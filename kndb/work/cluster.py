"""Joining a Ray cluster, or starting one on this machine. Ray is imported here, when needed."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..advice import option
from ..errors import UsageError, WorkError
from ..records.work import WorkEngine
from .guard import Guard, guarded_folder

ADDRESS = "RAY_ADDRESS"
"""The environment variable by which Ray itself names a cluster."""
CONNECTING = 5.0
"""Seconds that the head of a cluster has to answer."""
_OWN = {"RAY_worker_niceness": "0"}
"""Of a cluster of its own: workers are not to give way to all other programs, as this process would not."""
STARTS = 3
"""How often a start of Ray on this machine is tried."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
"""Ray reports nothing to anybody, and warns of nothing; but what the environment says counts."""
_TOKEN = secrets.token_hex(32)
"""What programs of a cluster that this process starts show each other: nobody else is let in."""
_AUTH_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - a name
_OBJECT_STORE = 2**28
"""Bytes of memory that workers on this machine share: results pass through it one by one."""


def require_ray() -> Any:
    """Imports Ray.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"{option('engine', 'ray')} needs Ray, which is not installed; install it with: pip install 'kndb[ray]'"
        ) from error
    return ray


@contextmanager
def joined(settings: WorkEngine) -> Iterator[tuple[Any, bool]]:
    """Ray, connected, and whether it was started here: then it ends with the block; another cluster is left.

    A program that is connected already stays so.

    Raises:
        UsageError: if Ray is not installed, or the cluster's is another.
        WorkError: if there is no such cluster, or none can be started.
    """
    with _environment(_QUIET):
        ray = require_ray()
        if ray.is_initialized():
            if settings.address is not None:
                raise UsageError(
                    f"{option('address')}: this program is connected to a Ray cluster already; leave it out to use "
                    "that one"
                )
            _keep_off_stdout(ray)
            yield ray, False
            return
        address = settings.address or os.environ.get(ADDRESS) or None
        with _connected(ray, address) if address is not None else _started(ray, settings):
            yield ray, address is None


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    if address != "auto":
        _require_head(ray, address)
    _connect(ray, f"the Ray cluster at {address} can't be joined", address=address)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _started(ray: Any, settings: WorkEngine) -> Iterator[None]:
    workers = settings.workers or _gpus_here(ray) or 1
    # Sockets have short names: a temporary folder of a long one will not do.
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp"  # noqa: S108 - made by mkdtemp
    with guarded_folder(parent, "kndb-ray-") as guard:
        values: dict[str, Any] = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE}
        if settings.gpus_per_worker == 0:
            values["num_gpus"] = 0
        values["_temp_dir"] = str(guard.folder)
        # Ray asks for a token by itself, and without one would keep a new one in the user's home.
        with _environment({_AUTH_TOKEN: _TOKEN, **_OWN}):
            try:
                _start(ray, guard, values)
                yield
            finally:
                ray.shutdown()


def _start(ray: Any, guard: Guard, values: Mapping[str, Any]) -> None:
    """Starts a cluster; again if that fails: Ray waits 30 seconds for its programs, too short for a busy machine.

    Raises:
        WorkError: if that can't be.
    """
    for left in reversed(range(STARTS)):
        try:
            _connect(ray, "workers can't be started on this machine", address="local", **values)
        except WorkError:  # noqa: PERF203 - a start takes seconds
            if not left:
                raise
        else:
            return
        finally:
            guard.watch()


def _connect(ray: Any, what: str, **values: Any) -> None:
    """Connects, without a word of Ray's on the terminal.

    Raises:
        WorkError: if that can't be.
    """
    _keep_off_stdout(ray)
    logging.getLogger("ray").setLevel(logging.ERROR)
    local = values["address"] == "local"
    if local:
        values["include_dashboard"] = False  # It lets anybody who reaches it run programs.
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=False, **values)
    except (Exception, SystemExit) as error:  # Ray ends the process where it finds no way to connect.
        with suppress(Exception):
            ray.shutdown()
        said = str(error).strip().splitlines()
        reason = said[0] if said and not isinstance(error, SystemExit) else "it does not answer"
        raise WorkError(f"{what}: {reason}") from error


def _keep_off_stdout(ray: Any) -> None:
    """Ray prints on stdout that a worker died, whatever it is told of logs; its debugger keeps it from that like so."""
    with suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001


def _require_head(ray: Any, address: str) -> None:
    """Asks whether anything listens at an address: Ray itself takes two minutes to find out.

    Raises:
        WorkError: if nothing does.
        UsageError: if it can't be an address.
    """
    WorkEngine("ray", address=address)  # The environment's is checked like an option's.
    host, _, port = address.rpartition(":")
    # Ray itself goes to this machine's own address where it is told of the loopback's.
    place = ray.util.get_node_ip_address() if host in ("localhost", "127.0.0.1") else host.strip("[]")
    try:
        with socket.create_connection((place, int(port)), timeout=CONNECTING) as connection:
            said = "" if _is_server(connection) else "no head of a Ray cluster"
    except OSError as error:
        said = error.strerror or str(error)
    if said:
        raise WorkError(
            f"no Ray cluster answers at {address} ({said}); {option('address')} is HOST:PORT of its head, as "
            "`ray start --head` prints it"
        )


def _is_server(connection: socket.socket) -> bool:
    """Whether a server of Ray's protocol answers: gRPC's, in which both sides begin with HTTP/2's settings."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # Then Ray finds out by itself.
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    return connection.recv(9)[3:4] == b"\x04"


def _gpus_here(ray: Any) -> int:
    with suppress(Exception):
        return int(ray._private.accelerators.nvidia_gpu.NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())  # noqa: SLF001
    return 0


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets what is not set in the environment, for the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
