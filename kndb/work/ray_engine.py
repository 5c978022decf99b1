"""Workers of a Ray cluster: actors that prepare once, such as by loading a model, and then compute unit after unit.

Plain actors, and not Ray Data: what fails is to be told apart item by item and who is alive worker by worker, which
`map_batches` leaves to the whole data set. Ray restarts no actor and repeats no task: a new actor takes a dead one's
place here, and `schedule` decides what is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..advice import option
from ..errors import UsageError, WorkError
from ..records.work import WorkEngine
from .actor import Place, Prepare, Worker, own_versions
from .cluster import joined
from .outcomes import Failure, Outcome
from .schedule import Event

PATIENCE = 600.0
"""Seconds after which a cluster that gives no worker any room is given up."""
GATHERING = 10.0
"""Seconds that the first workers wait for others before they prepare: their machine's cores are divided among them."""
STILLBORN = 4
"""Workers that die one after the other before they have done anything, after which no more are started."""
PLACING, WAITING, PREPARING, READY = "placing", "waiting", "preparing", "ready"


@dataclass(eq=False)
class _Member:
    """A worker, as it is seen from here; its units, in the order in which it does them."""

    actor: Any
    state: str = PLACING
    place: Place | None = None
    units: list[int] = field(default_factory=list)
    asked: Any = None

    @property
    def shown(self) -> str:
        """How messages name it."""
        return "a worker's process" if self.place is None else f"process {self.place.process} on {self.place.host}"


@contextmanager
def ray_workers(settings: WorkEngine, prepare: Prepare, device: str) -> Iterator[RayPool]:
    """Workers, started for the block.

    Args:
        settings: where, and how many.
        prepare: prepares each.
        device: where they compute, as users name it.

    Raises:
        UsageError: if Ray is not installed, or the numbers don't fit the cluster.
        WorkError: if there is no such cluster, or it starts no workers.
    """
    with joined(settings) as (ray, own):
        pool = RayPool(ray, settings, prepare, device)
        try:
            if own:
                pool.require_gpus()
            yield pool
        finally:
            pool.end()


class RayPool:
    """Workers of a cluster that is connected; see `schedule.Pool`.

    Args:
        ray: the module.
        settings: how many, and what each needs.
        prepare: prepares each.
        device: where they compute, as users name it.

    Attributes:
        said: what the workers said of themselves when they were prepared.
    """

    def __init__(self, ray: Any, settings: WorkEngine, prepare: Prepare, device: str) -> None:
        self._ray = ray
        self._prepare = ray.put(prepare)
        resources = ray.cluster_resources()
        gpus = settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if resources.get("GPU") and device not in ("cpu", "mps") else 0.0
        self._needs = {"num_cpus": 1, "num_gpus": gpus}
        workers = settings.workers or self._usual_number(resources, gpus)
        self._refs: dict[Any, tuple[_Member, str, int]] = {}
        self._members: list[_Member] = []
        self._events: list[Event] = []
        self._stillborn = 0
        self._started = time.monotonic()
        self._first_placed: float | None = None
        self.said: list[Any] = []
        self._class = ray.remote(concurrency_groups={"answers": 1})(Worker)
        for _ in range(workers):
            self._start()

    def _usual_number(self, resources: dict[str, float], gpus: float) -> int:
        if gpus:
            return max(1, int(resources.get("GPU", 0) / gpus))
        return max(1, sum(bool(node["Alive"]) for node in self._ray.nodes()))

    def require_gpus(self) -> None:
        """Refuses to wait for GPUs that this machine will never have.

        Raises:
            UsageError: if the workers need more than there are.
        """
        has, needed = self._ray.cluster_resources().get("GPU", 0), self._needs["num_gpus"] * len(self._members)
        if needed > has:
            raise UsageError(
                f"{option('workers', len(self._members))} with {option('gpus_per_worker')} "
                f"{self._needs['num_gpus']:g} needs {needed:g} GPUs, and this machine has {has:g}; take fewer workers, "
                "or a smaller share of a GPU"
            )

    def wait_for_first(self) -> int:
        """Waits until a worker is ready, and gives how many there are to be.

        Raises:
            KndbError, WorkError: as `wait`.
        """
        while not self._ready:
            self.wait(1.0)
        return len(self._members)

    # --- what the schedule asks for --------------------------------------------------------------------------

    def room(self, each: int) -> int:
        """How many units can be handed out until each worker that is ready has so many."""
        return sum(max(0, each - len(member.units)) for member in self._ready)

    def submit(self, position: int, payload: Any) -> None:
        """Hands a unit to the worker with the fewest."""
        member = min(self._ready, key=lambda one: len(one.units))
        member.units.append(position)
        self._refs[member.actor.compute.remote(payload)] = (member, "unit", position)

    def wait(self, seconds: float) -> list[Event]:
        """Waits until something happens, so long at most.

        Raises:
            KndbError: if a worker can't be prepared: as here, where this process was to compute.
            WorkError: if workers die before they are prepared, or the cluster starts none.
        """
        if not self._events and self._refs:
            # Before any worker is ready, only the arrival of others lets those that are placed go on.
            some, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=seconds)
            some, _ = self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
            for ref in some:
                if ref in self._refs:
                    self._take(ref, *self._refs.pop(ref))
        elif not self._events:
            time.sleep(seconds)
        self._prepare_those_placed()
        events, self._events = self._events, []
        return events

    def answering(self) -> set[int]:
        """The units of workers that answered since they were last asked; asks them again."""
        found: set[int] = set()
        for member in self._ready:
            if member.asked is not None:
                done, _ = self._ray.wait([member.asked], timeout=0)
                if not done or not self._answered(member):
                    continue
                found.update(member.units)
            answer = member.actor.answer.options(concurrency_group="answers")
            member.asked = answer.remote()
        return found

    def _answered(self, member: _Member) -> bool:
        with suppress(self._ray.exceptions.RayError):
            return bool(self._ray.get(member.asked))
        return False

    def end_worker_of(self, position: int) -> None:
        """Ends the worker that has a unit; `wait` tells what that became."""
        member = next((one for one in self._members if position in one.units), None)
        if member is not None:
            self._after_death(member, f"{member.shown} did not answer, and was ended")

    def end(self) -> None:
        """Ends all workers."""
        for member in self._members:
            self._kill(member)
        self._members.clear()
        self._refs.clear()

    # --- workers' lives --------------------------------------------------------------------------------------

    @property
    def _ready(self) -> list[_Member]:
        return [member for member in self._members if member.state == READY]

    def _start(self) -> None:
        actor = self._class.options(
            **self._needs, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        ).remote()
        member = _Member(actor)
        self._members.append(member)
        self._refs[actor.place.remote()] = (member, PLACING, 0)

    def _take(self, ref: Any, member: _Member, kind: str, position: int) -> None:
        """What came of a call."""
        exceptions = self._ray.exceptions
        try:
            value = self._ray.get(ref)
        except exceptions.RayTaskError as error:  # Not of the worker's own code, whose errors are outcomes.
            value = Outcome(failure=Failure(str(error).strip().splitlines()[-1]))
            if kind == PLACING:
                raise WorkError(f"a worker can't be started: {value.failure.text}") from error  # type: ignore[union-attr]
        except exceptions.RayError as error:
            memory = isinstance(error, exceptions.OutOfMemoryError)
            if kind == PLACING and "creation task" in str(error):
                raise WorkError(f"a worker can't be started: {_last_line(str(error))}") from error
            why = "its machine's memory was full" if memory else "its memory may have run out, or it was killed"
            if member in self._members:
                self._after_death(member, f"{member.shown} ended: {why}")
            return
        if kind == PLACING:
            self._placed(member, value)
        elif kind == PREPARING:
            self._prepared(member, value)
        else:
            member.units.remove(position)
            self._events.append(Event(position, value))

    def _placed(self, member: _Member, place: Place) -> None:
        if place.versions != own_versions():
            here, there = (f"kndb {kndb} on Python {python}" for kndb, python in (own_versions(), place.versions))
            raise WorkError(f"{place.host} has {there}, and this is {here}; install the same on all machines")
        member.place, member.state = place, WAITING
        if self._first_placed is None:
            self._first_placed = time.monotonic()

    def _prepare_those_placed(self) -> None:
        now = time.monotonic()
        missing = [member for member in self._members if member.state == PLACING]
        if self._first_placed is None:
            if now - self._started > PATIENCE:
                raise WorkError(self._no_room())
            return
        if missing and now - self._first_placed < GATHERING:
            return
        for member in self._members:
            if member.state == WAITING and member.place is not None:
                machine = member.place.machine
                beside = sum(one.place is not None and one.place.machine == machine for one in self._members)
                member.state = PREPARING
                self._refs[member.actor.prepare.remote(self._prepare, beside)] = (member, PREPARING, 0)

    def _no_room(self) -> str:
        has = self._ray.cluster_resources()
        gpus = self._needs["num_gpus"]
        needs = f"1 CPU and {gpus:g} GPU" if gpus else "1 CPU"
        return (
            f"the Ray cluster gave no worker any room in {PATIENCE / 60:g} minutes: each needs {needs}, and it has "
            f"{has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU, which others may use"
        )

    def _prepared(self, member: _Member, outcome: Outcome) -> None:
        if outcome.failure is not None:
            raise outcome.failure.as_error()
        member.state, self._stillborn = READY, 0
        self.said.append(outcome.value)

    def _after_death(self, member: _Member, why: str) -> None:
        """Tells of a dead worker's units, and starts another one."""
        self._members.remove(member)
        self._refs = {ref: about for ref, about in self._refs.items() if about[0] is not member}
        for place, position in enumerate(member.units):
            self._events.append(Event(position, suspect=place == 0, why=why))
        self._kill(member)
        if member.state != READY:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise WorkError(f"{self._stillborn} workers ended before they had loaded the model: {why}")
        self._start()

    def _kill(self, member: _Member) -> None:
        with suppress(Exception):
            self._ray.kill(member.actor, no_restart=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "its process ended"
