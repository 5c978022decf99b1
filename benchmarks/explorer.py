"""The explorer's pages at ParaRel's size: how long each takes, and twenty readers beside an attribution.

    python benchmarks/explorer.py [--db queries-benchmark.db] [--repeats 7] [--readers 20] [--seconds 30]

Takes the store that `benchmarks/queries.py` makes (34 relations, 27,738 facts, 12.7 million scores, refined), and asks
the application for each page, without a network between. The seconds are those of the wall clock and of the processor,
medians over repeats; the first visit, which counts what is kept afterwards, stands apart. Then a process attributes
lab-bert's P176 into a copy of the store while so many readers ask for pages of a real server, and counts what fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import kndb
from kndb.database import open_database
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.explorer.server import Server, ServeSettings
from kndb.records.models import Neuron


def addresses(database: kndb.Database) -> dict[str, str]:
    """The pages that are measured, by name."""
    widest = database.query.shared([], refinement=1, across=1, top=1)[0]
    model = database.query.model_of(1).name
    neuron = str(Neuron(widest.layer, widest.neuron)).replace(".", "%2E")
    return {
        "front": "/",
        "relations": "/relations",
        "relation": "/relations/P7",
        "runs": "/runs",
        "run": "/runs/1",
        "refinement": "/refinements/1",
        "facts": "/facts",
        "facts, by neurons": "/facts?facts.sort=-neurons",
        "facts, filtered": "/facts?facts.q=subject+12",
        "fact": "/facts/1234",
        "neurons": "/neurons",
        "layers": f"/models/{model}/layers",
        "neuron, the most widely held": f"/models/{model}/neurons/{neuron}",
        "overlap": "/overlap",
        "pair of relations": "/overlap/P7/P8",
        "edits": "/edits",
        "search": "/search?q=1234",
        "search, a neuron": f"/search?q=N{widest.neuron}",
        "sql": "/sql?query=SELECT+key+FROM+relation",
    }


def measured(application: Explorer, target: str) -> tuple[float, float]:
    """Seconds of the wall clock and of the processor for one page."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:8017")],
        "server": ("127.0.0.1", 8017),
    }
    status = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    wall, processor = time.perf_counter(), time.process_time()
    asyncio.run(application(scope, receive, send))
    assert status == [200], (target, status)
    return time.perf_counter() - wall, time.process_time() - processor


def pages(path: Path, repeats: int) -> dict[str, object]:
    """For each page: the first visit, and the medians of the further ones."""
    report: dict[str, object] = {}
    with open_database(path, create=False) as database:
        application = Explorer(database, Rules())
        for name, target in addresses(database).items():
            first = measured(application, target)
            further = [measured(application, target) for _ in range(repeats)]
            report[name] = {
                "first": round(first[0], 4),
                "first, processor": round(first[1], 4),
                "median": round(statistics.median(one for one, _ in further), 4),
                "median, processor": round(statistics.median(one for _, one in further), 4),
            }
    return report


def attribute(path: str, done: Any) -> None:
    """Attributes P176 on lab-bert, and says when it is done."""
    with open_database(path, create=False) as database:
        database.facts.ingest([kndb.own_facts()])
        database.attribution.run("lab-bert", relations=["P176"])
    done.set()


def beside_an_attribution(path: Path, readers: int, seconds: float) -> dict[str, object]:
    """What readers find while an attribution writes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kndb.db"
        shutil.copyfile(path, copy)
        context = multiprocessing.get_context("spawn")
        done = context.Event()
        with open_database(copy, create=False) as database:
            targets = list(addresses(database).values())
            with Server(database, ServeSettings(port=0), str) as server:
                threading.Thread(target=server.run, daemon=True).start()
                writer = context.Process(target=attribute, args=(str(copy), done))
                writer.start()
                found = _read(server.address.rstrip("/"), targets, readers, seconds, done)
                writer.join()
                assert writer.exitcode == 0
                return found


def _read(base: str, targets: list[str], readers: int, seconds: float, done: Any) -> dict[str, object]:
    times: list[float] = []
    failed: list[str] = []
    written = 0
    end = time.perf_counter() + seconds

    def read(seed: int) -> None:
        nonlocal written
        chance = random.Random(seed)
        while time.perf_counter() < end:
            target = chance.choice(targets)
            started = time.perf_counter()
            try:
                with urllib.request.urlopen(base + target, timeout=120) as answer:
                    answer.read()
                    assert answer.status == 200
            except Exception as error:
                failed.append(f"{target}: {error}")
            times.append(time.perf_counter() - started)
            written += not done.is_set()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "readers": readers,
        "pages": len(times),
        "pages while it attributed": written,
        "failed": failed[:10],
        "median seconds, all readers at once": round(statistics.median(times), 4) if times else None,
    }


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, default=Path("queries-benchmark.db"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    report: dict[str, object] = {"pages": pages(arguments.db, arguments.repeats)}
    if arguments.readers:
        report["beside an attribution"] = beside_an_attribution(arguments.db, arguments.readers, arguments.seconds)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
