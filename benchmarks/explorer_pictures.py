"""The explorer's example: a store of lab-bert with edits, its pages as files, and the pictures of docs/explorer.md.

    python benchmarks/explorer_pictures.py [--db FILE] [--site DIR] [--pictures DIR] [--chromium PATH]

Makes the store if there is none: all facts attributed on lab-bert and refined, an edit of many facts planned, one of a
relation, and one of a fact, which is applied, measured, named and taken back (some minutes on 2 cores). Pictures need
playwright and a Chromium: its own, or the one that is named.
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
from pathlib import Path

import kndb
from kndb.cli.advice import for_shell, remember_database
from kndb.explorer.export import export_site
from kndb.explorer.server import Server, ServeSettings
from kndb.records.edit_settings import EvaluationSettings

MODEL = "lab-bert"
PICTURES = {
    "front": ("/", 760),
    "fact": ("/facts/588", 900),
    "overlap": ("/overlap", 1280),
    "edit": ("/edits/3", 1180),
}
"""Pages that are drawn, with the height that is shown."""
WIDTH = 1080


def make(path: Path) -> None:
    """Makes the store."""
    os.environ.setdefault("KNDB_AUTHOR", "ada")
    path.parent.mkdir(parents=True, exist_ok=True)
    with kndb.open(path) as database:
        database.facts.ingest([kndb.own_facts()])
        database.attribution.run(MODEL)
        database.attribution.refine()
        database.edits.plan_erase(MODEL, "P176")
        database.edits.plan_update(MODEL, 957, "Rome")
        planned = database.edits.plan_update(MODEL, 588, "Toyota")
        database.edits.apply(planned.id)
        database.edits.evaluate(planned.id, EvaluationSettings(sample=100))
        database.snapshots.create("leaf-by-toyota", MODEL)
        database.edits.revert(planned.id)


def draw(database: kndb.Database, folder: Path, chromium: str | None) -> None:
    """Draws the pictures in a browser."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with Server(database, ServeSettings(port=0), for_shell) as server, sync_playwright() as playwright:
        threading.Thread(target=server.run, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (address, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
            page.set_default_timeout(300_000)
            page.goto(server.address.rstrip("/") + address)
            page.wait_for_selector("[data-later]", state="detached", timeout=120_000)  # What a model answers is there.
            page.screenshot(path=folder / f"explorer-{name}.png")
        browser.close()


def main() -> None:
    """Makes what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, default=Path("build/explorer-store/kndb.db"))
    parser.add_argument("--site", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    if not arguments.db.exists():
        make(arguments.db)
    with kndb.open(arguments.db) as database:
        if arguments.site is not None:
            print(export_site(database, arguments.site, force=True, words=for_shell))
        if arguments.pictures is not None:
            remember_database("kndb.db")  # What pages name, wherever the store was made.
            draw(database, arguments.pictures, arguments.chromium)


if __name__ == "__main__":
    main()
