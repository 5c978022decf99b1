"""How many threads a command computes with: no more than there are free physical cores.

Two threads on one physical core share its arithmetic units, and a thread that waits for a core that others use makes
all others of the same product wait too. So the default counts what this process may use (affinity, cgroup quota), a
core of two hardware threads once, and leaves out what other processes keep busy just now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..advice import option
from ..errors import UsageError

VARIABLE = "KNDB_THREADS"
OTHERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Who sets one of these means it: torch's own number, which follows from them, is left alone."""

SHORTEST = 0.1
"""Seconds over which the load of other processes is measured at least."""
_ROOT = Path("/")


@contextmanager
def use_threads(number: int | None = None) -> Iterator[int]:
    """Computes with so many threads, and with as many as before afterwards.

    Args:
        number: how many, at least 1; None takes the environment's KNDB_THREADS, else what torch has by
            OMP_NUM_THREADS or MKL_NUM_THREADS, else the free physical cores.

    Yields:
        The number of threads.

    Raises:
        UsageError: for a number under 1, or a KNDB_THREADS that is none.
    """
    given = _given(number)
    meter = None if given is not None or any(map(os.environ.get, OTHERS)) else LoadMeter()
    import torch  # it takes a second, which the meter is glad of

    before = torch.get_num_threads()
    chosen = given if given is not None else before if meter is None else free_cores(meter.others())
    torch.set_num_threads(chosen)
    try:
        yield chosen
    finally:
        torch.set_num_threads(before)


def free_cores(others: float) -> int:
    """The physical cores that this process may use and others leave free, at least 1.

    Args:
        others: how many cores other processes keep busy.
    """
    usable = usable_cpus()
    cores = physical_cores(usable)
    free = cores - others
    quota = cgroup_quota()
    return max(1, int(min(free if quota is None else min(free, quota), cores) + 0.5))


def use_worker_threads(number: int | None, beside: int) -> int:
    """Sets the threads of a process that only works, for good, and gives their number.

    Args:
        number: how many; None takes the environment's KNDB_THREADS, else this process's part of the physical cores.
        beside: how many such processes this machine has.
    """
    import torch

    cores, quota = physical_cores(usable_cpus()), cgroup_quota()
    share = int(cores if quota is None else min(cores, quota)) // beside
    chosen = _given(number) or max(1, share)
    torch.set_num_threads(chosen)
    return chosen


def usable_cpus() -> list[int]:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores(cpus: Iterable[int], root: Path = _ROOT) -> int:
    """How many physical cores some logical processors are; as many as these where the system does not say."""
    folder = root / "sys/devices/system/cpu"
    return len({_read(folder / f"cpu{cpu}/topology/thread_siblings_list") or f"alone {cpu}" for cpu in cpus})


def cgroup_quota(root: Path = _ROOT) -> float | None:
    """The processor time per second that the process's control groups allow; None if they set no limit."""
    quotas = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # Within a container, the group's own path may lie outside of what is mounted: then only the top is there.
        for parent in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
            quotas += _quota(base / parent)
    return min(quotas, default=None)


def _quota(folder: Path) -> list[float]:
    both = (_read(folder / "cpu.max") or "").split()
    if not both:
        both = [_read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    try:
        quota, period = float(both[0]), float(both[1])
    except (ValueError, IndexError):  # "max", or no such file
        return []
    return [quota / period] if quota > 0 and period > 0 else []


class LoadMeter:
    """Measures how many processors other processes keep busy, from now on.

    The load average would do worse: it remembers for a minute what this user's command before this one did.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._cpus = usable_cpus()
        self._started, self._own, self._busy = time.monotonic(), time.process_time(), self._busy_seconds()

    def others(self) -> float:
        """How many processors were busy with other processes on average, since the meter was made."""
        elapsed = time.monotonic() - self._started
        if elapsed < SHORTEST:
            time.sleep(SHORTEST - elapsed)
        busy = self._busy_seconds()
        if busy is None or self._busy is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        elapsed = time.monotonic() - self._started
        return max(0.0, (busy - self._busy - (time.process_time() - self._own)) / elapsed)

    def _busy_seconds(self) -> float | None:
        """Seconds that the usable processors have been busy; None where the system does not say.

        Processes of low priority give way, unless this one is of low priority itself.
        """
        counted = [1, 3, 6, 7, 8]  # user, system, interrupts of both kinds, stolen by other machines
        if hasattr(os, "nice") and os.nice(0) > 0:
            counted.append(2)
        names = {f"cpu{cpu}" for cpu in self._cpus}
        lines = [line.split() for line in (_read(self._root / "proc/stat") or "").splitlines()]
        ticks = [sum(int(line[place]) for place in counted if place < len(line)) for line in lines if line[0] in names]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _given(number: int | None) -> int | None:
    if number is not None:
        if number < 1:
            raise UsageError(f"{option('threads')} must be at least 1 (got {number})")
        return number
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{VARIABLE} must be a whole number from 1 (got {text!r})")
    return int(text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
