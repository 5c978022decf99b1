"""Work over many prompts: who does it, in which parts, and what of it failed."""

from __future__ import annotations

from dataclasses import dataclass

from ..advice import option
from ..errors import UsageError
from .display import Record, quoted

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


@dataclass(frozen=True)
class WorkEngine:
    """Who computes: this process, or workers of a Ray cluster.

    Attributes:
        name: `local`, this process; or `ray`, which needs the extra of that name.
        workers: how many processes, each with the model in memory; None takes one for each GPU of the cluster or,
            without GPUs, one for each machine.
        address: the cluster, `HOST:PORT` of its head, or `auto` for the one that runs on this machine; None takes the
            environment's RAY_ADDRESS, else starts one on this machine that ends with the command.
        gpus_per_worker: GPUs that each worker has to itself, or a share of one; None takes 1 where the cluster has
            GPUs and the device is not the CPU, else 0.
        threads: threads of each worker on the CPU; None divides its machine's cores among the workers there.

    Raises:
        UsageError: for numbers that make no sense, or settings of workers without Ray.
    """

    name: str = LOCAL
    workers: int | None = None
    address: str | None = None
    gpus_per_worker: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UsageError(f"{option('engine')} must be {' or '.join(ENGINES)} (got {self.name!r})")
        if not self.remote:
            for name in ("workers", "address", "gpus_per_worker"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"{option(name)} is for workers, which need {option('engine', RAY)}; add that, or leave "
                        f"{option(name)} out"
                    )
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{option('workers')} must be at least 1 (got {self.workers})")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"{option('threads')} must be at least 1 (got {self.threads})")
        self._check_gpus()
        self._check_address()

    def _check_gpus(self) -> None:
        gpus = self.gpus_per_worker
        # Ray gives whole GPUs, or several workers one.
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and float(gpus).is_integer())):
            raise UsageError(
                f"{option('gpus_per_worker')} must be a whole number, or a share from 0 to 1 (got {gpus:g})"
            )

    def _check_address(self) -> None:
        if self.address is None or self.address == "auto":
            return
        host, _, port = self.address.rpartition(":")
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"{option('address')} must be HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or auto (got "
                f"{self.address!r})"
            )

    @property
    def own_threads(self) -> int | None:
        """The threads of this process, if `threads` is about them."""
        return None if self.remote else self.threads

    @property
    def remote(self) -> bool:
        """Whether other processes compute."""
        return self.name == RAY


@dataclass(frozen=True)
class FailedItem(Record):
    """A prompt, fact or cell that could not be computed, however often it was tried.

    Attributes:
        item: its number; `what`: what it is, in words.
        error: why.
    """

    item: int
    what: str
    error: str

    def _line(self) -> str:
        return f"{quoted(self.what)}: {self.error}"
