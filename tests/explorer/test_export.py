"""The site as files: every link leads to a file of it, and nothing in it needs a server or names this machine."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from filled_store import HOSTILE, NAME
from html_pages import Html

from kndb.cli.advice import for_shell, nameless
from kndb.errors import NotFoundError, OutputError
from kndb.explorer.export import UNFINISHED, export_site, file_parts
from kndb.records.models import Neuron


@pytest.fixture(scope="module")
def site(filled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "made"
    with nameless():
        return folder, export_site(filled, folder, words=for_shell)


def test_every_link_leads_to_a_file_of_the_site(site):
    folder, written = site
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) == written.pages
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) == written.bytes
    linked = {folder / "index.html"}
    for path in pages:
        page = Html(path.read_text(encoding="utf-8"))
        for tag, attributes in page.tags:
            assert tag not in ("form", "select", "input"), path
            for name in ("href", "src"):
                value = attributes.get(name)
                if value is None or value.startswith("#"):
                    continue
                assert not value.startswith("/"), (path, value)
                assert ":" not in value, (path, value)
                goal = (path.parent / unquote(value)).resolve()
                assert goal.is_file(), (path, value)
                assert goal.is_relative_to(folder.resolve())
                linked.add(goal)
    assert {path.resolve() for path in pages} <= {path.resolve() for path in linked}


def test_all_facts_relations_neurons_and_edits_are_there(site, filled):
    folder, _ = site
    for fact in filled.facts.find():
        assert (folder / "facts" / f"{fact.id}.html").is_file()
    for relation in filled.facts.relations():
        assert folder.joinpath(*file_parts(("relations", relation.key))).is_file()
    for one in filled.query.held_neurons():
        assert folder.joinpath(*file_parts(("models", NAME, "neurons", f"L{one.layer}.N{one.neuron}"))).is_file()
    for edit in filled.edits.all():
        assert (folder / "edits" / f"{edit.id}.html").is_file()
    rows = Html((folder / "facts.html").read_text(encoding="utf-8")).rows("facts")
    assert len(rows) == len(filled.facts.find())


def test_no_page_names_this_machine(site, filled):
    folder, _ = site
    for path in folder.rglob("*.html"):
        assert str(Path(filled.store.path).parent) not in path.read_text(encoding="utf-8")


def test_the_same_store_gives_the_same_bytes(site, filled, tmp_path):
    folder, _ = site
    export_site(filled, tmp_path / "again", words=for_shell)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_pages_speak_of_the_refinement_that_was_named(filled, tmp_path):
    export_site(filled, tmp_path / "other", refinement=2, words=for_shell)
    assert "Refinement 2 of run 2 (activation" in (tmp_path / "other" / "facts" / "2.html").read_text(encoding="utf-8")
    with pytest.raises(NotFoundError):
        export_site(filled, tmp_path / "none", refinement=9)


def test_nothing_that_is_there_is_replaced_unasked(filled, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is there already"):
        export_site(filled, tmp_path)
    export_site(filled, tmp_path, force=True)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(OutputError):
        export_site(filled, tmp_path / "mine.txt", force=True)


def test_no_name_leads_out_of_the_folder_or_to_anothers_file():
    names = ["..", ".", "a/b", "a", "A", "a~2f~b", HOSTILE, "con", "", "a.html", "x" * 500, "x" * 499 + "y"]
    found = [file_parts(("relations", name)) for name in names]
    for folder, file in found:
        assert folder == "relations"
        assert "/" not in file
        assert not file.startswith(".")
        assert len(file.encode()) < 256
    assert len({file.casefold() for _, file in found}) == len(names)


def test_pages_have_what_a_model_gives(edited, tmp_path):
    written = export_site(edited, tmp_path / "site", refinement=1, words=for_shell)
    assert written.missing == {}
    for edit in edited.edits.all():
        page = Html((tmp_path / "site" / "edits" / f"{edit.id}.html").read_text(encoding="utf-8"))
        rows = page.tables["preview"][1:]
        wanted = edited.edits.preview_stored(edit.id, top=1).one.answers
        assert [(row[0], row[2], row[4]) for row in rows] == [(one.prompt, one.before, one.after) for one in wanted]
    for held in edited.query.held_neurons(refinement=1):
        neuron = Neuron(held.layer, held.neuron)
        page = Html(
            tmp_path.joinpath("site", *file_parts(("models", "tiny", "neurons", str(neuron)))).read_text("utf-8")
        )
        promoted, _ = edited.models.token_effects("tiny", neuron, top=12)
        assert [row[0] for row in page.tables["promoted"][1:]] == [one.token for one in promoted]
        holders = [one.fact for one in edited.query.neuron(neuron, refinement=1).facts]
        for name, wanted in zip(
            ("highest", "lowest"),
            edited.models.activating_prompts("tiny", neuron, holders=holders, top=10, sample=500),
            strict=True,
        ):
            assert [row[0] for row in page.tables[name][1:]] == [one.text for one in wanted]


def test_what_no_model_can_give_is_said_and_the_rest_is_written(edited, tmp_path, monkeypatch):
    with edited.store.writing() as connection:
        connection.exec_driver_sql("UPDATE model SET source = '/nowhere/of/mine'")
    asked = []
    load = type(edited.models).load
    monkeypatch.setattr(type(edited.models), "load", lambda *words: asked.append(words[1:]) or load(*words))
    written = export_site(edited, tmp_path / "site", words=for_shell)
    ((reason, pages),) = written.missing.items()
    assert reason == "the model's checkpoint was not there when this page was written"
    assert pages == len([*tmp_path.glob("site/models/tiny/neurons/*.html")]) + 2
    assert len(asked) == 3  # Each version once as it is stored, and one of them as it is asked.
    text = (tmp_path / "site" / "edits" / "1.html").read_text(encoding="utf-8")
    assert "checkpoint was not there when this page was written" in text
    assert "/nowhere" not in "".join(path.read_text("utf-8") for path in (tmp_path / "site").rglob("*.html"))


def test_an_export_that_was_interrupted_is_done_again_without_force(filled, tmp_path):
    folder = tmp_path / "site"

    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_site(filled, folder, words=for_shell, progress=stop)
    assert (folder / UNFINISHED).is_file()
    written = export_site(filled, folder, words=for_shell)
    assert len(list(folder.rglob("*.html"))) == written.pages
    assert not (folder / UNFINISHED).exists()
    with pytest.raises(OutputError, match="is there already"):
        export_site(filled, folder, words=for_shell)


@pytest.mark.parametrize("name", ["index.html", "static", "facts", "static/explorer.js"])
def test_an_export_follows_no_link_out_of_its_folder(filled, tmp_path, name):
    folder, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    (folder / name).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "own.txt").write_text("own", "utf-8")
    (folder / name).symlink_to(elsewhere if "." not in name else elsewhere / "own.txt")
    with pytest.raises(OutputError, match="is a symbolic link"):
        export_site(filled, folder, words=for_shell, force=True)
    assert [path.name for path in elsewhere.iterdir()] == ["own.txt"]
    assert (elsewhere / "own.txt").read_text("utf-8") == "own"
