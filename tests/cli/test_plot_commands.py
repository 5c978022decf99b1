"""`kndb plot` and `kndb report` as a user runs them."""

import pytest
from filled_store import NAME, fill

from kndb.database import open_database
from kndb.records.figures import FigureOptions

FIGURES = ("layers", "overlap", "counts", "consistency", "fact", "suppress", "amplify", "activation")


@pytest.fixture
def filled(place):
    """A database in the current folder, with everything in it or without experiments."""

    def make(*, experiments=True):
        with open_database(place / "kndb.db") as database:
            fill(database, experiments=experiments)

    return make


def words(name, *more):
    return ["plot", name, *([4] if name == "fact" else []), *more]


def test_every_figure_is_written_where_it_is_asked_for(filled, kndb, kndb_json, place, state):
    filled()
    before = state()
    for name in FIGURES:
        assert kndb_json(*words(name, "--out", f"{name}.svg")) == {"out": f"{name}.svg"}
        assert (place / f"{name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    chosen = ("--relation", "P36", "--relation", "P37")
    kndb("plot", "layers", "--by-relation", *chosen, "--model", NAME, "--out", "lines.png")
    kndb("plot", "suppress", *chosen, "--probe", 1, "--out", "some.png")
    kndb("plot", "counts", "--refinement", 2, "--out", "counts.svg")
    assert state() == before


def test_title_size_and_caption_are_options_of_every_figure(filled, kndb, place):
    filled()
    for name in FIGURES:
        kndb(*words(name, "--out", f"{name}.png", "--size", "6x4.5", "--title", "My figure", "--no-caption"))
        content = (place / f"{name}.png").read_bytes()
        assert [int.from_bytes(content[start : start + 4], "big") for start in (16, 20)] == [1200, 900]
    assert "--size" in kndb("plot", "layers", "--out", "a.png", "--size", "big", code=2).err
    assert (
        "--size must be from 1 to 50 inches each way (got 600 by 4)"
        in kndb("plot", "layers", "--out", "a.png", "--size", "600x4", code=2).err
    )
    assert "no room" in kndb("plot", "suppress", "--out", "a.png", "--size", "1x1", code=2).err
    assert not (place / "a.png").exists()
    for command in (("edit", "bench"), ("edit", "sweep"), ("bench", "localisation")):
        assert "--plot FILE" in kndb(*command, "--model", NAME, "--no-caption", code=2).err


def test_from_python_figures_come_back(filled, place):
    filled()
    with open_database(place / "kndb.db") as database:
        figure = database.plots.layers(options=FigureOptions(title="Mine", caption=False))
        assert figure.get_suptitle().endswith("Mine")
        assert figure.get_supxlabel() == ""
        caption = database.plots.fact(4, "fact.pdf", refinement=1).get_supxlabel()
        for part in (NAME, "run", "refinement", "integrated-gradients"):
            assert part in caption
        probe = database.plots.suppress().get_supxlabel()
        for part in (NAME, "of run", "refinement", "probe"):
            assert part in probe
    assert [path.name for path in place.glob("*.p[dn]*")] == ["fact.pdf"]


def test_what_can_not_be_drawn_names_the_command_that_helps(filled, kndb, place):
    filled(experiments=False)
    for kind in ("suppress", "amplify", "activation"):
        error = kndb("plot", kind, "--model", NAME, "--out", "a.png", code=5).err
        assert f"kndb probe {kind} --model" in error
    assert "kndb query facts" in kndb("plot", "fact", 99, "--out", "a.png", code=5).err
    assert "kndb query refinements" in kndb("plot", "layers", "--refinement", 7, "--out", "a.png", code=5).err
    assert "kndb query relations" in kndb("plot", "counts", "--relation", "P9", "--out", "a.png", code=5).err
    assert ".png, .svg or .pdf" in kndb("plot", "layers", "--out", "a.jpeg", code=2).err
    assert "No such file or directory" in kndb("plot", "layers", "--out", "none/a.png", code=10).err
    assert sorted(path.name for path in place.iterdir() if not path.name.startswith("kndb.db")) == []


def test_a_probe_of_another_kind_is_named(filled, kndb):
    filled()
    error = kndb("plot", "amplify", "--probe", 1, "--out", "a.png", code=5).err
    assert "kind suppress" in error
    assert "kndb plot suppress --out FILE --probe 1" in error
    kndb("plot", "amplify", "--probe", 77, "--out", "a.png", code=5)
    kndb("plot", "suppress", "--probe", 1, "--model", "none", "--out", "a.png", code=5)


def test_a_model_without_knowledge_neurons_has_nothing_to_draw(place, kndb):
    with open_database(place / "kndb.db") as database, database.store.writing() as connection:
        execute = connection.exec_driver_sql
        execute("INSERT INTO model VALUES (1, 'tiny', 'x', 'f', 'bert', 4, 20, 'v', 'now', NULL)")
        execute("INSERT INTO run VALUES (1, 1, 'v', 'integrated-gradients', '{}', 'complete', 'now', 'now')")
        execute("INSERT INTO refinement VALUES (1, 1, '{}', 'now')")
    for name in ("layers", "overlap", "counts"):
        assert "kndb refine" in kndb("plot", name, "--out", "a.png", code=5).err
    assert "kndb attribute" in kndb("plot", "consistency", "--out", "a.png", code=7).err


def test_the_report(filled, kndb, kndb_json, place):
    filled()
    found = kndb_json("report", "--model", NAME, "--refinement", 2, "--out", "pages")
    assert found.pop("version").startswith("v")
    assert found == {"out": "pages/index.html", "refinement": 2, "run": 2, "method": "activation"}
    first = (place / "pages" / "index.html").read_bytes()
    assert "--force" in kndb("report", "--model", NAME, "--out", "pages", code=2).err
    assert (place / "pages" / "index.html").read_bytes() == first
    kndb("report", "--model", "nobody", "--out", "other", code=5)
    assert not (place / "other").exists()


def test_a_report_says_on_stderr_what_is_missing(filled, kndb):
    filled(experiments=False)
    outcome = kndb("report", "--model", NAME, "--out", "pages")
    assert "suppressing" in outcome.err
    assert "missing" not in outcome.out
