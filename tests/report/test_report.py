"""The report against the queries that it is made of, and against names that would break a page."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from filled_store import BASE, HOSTILE, NAME, RELATIONS, fill

import kndb
from kndb.database import open_database
from kndb.database.reports.commands import ReportCommands
from kndb.errors import NotFoundError, OutputError, UsageError
from kndb.report.content import (
    GRADES,
    LONG,
    Cell,
    Command,
    Report,
    Section,
    count,
    decimal,
    graded_error,
    percent,
    scientific,
    table,
)
from kndb.report.page import render

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page: its tags, tables by caption, identifiers and links; checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], {}, []
        self._rows, self._caption = None, None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "caption":
            self._caption = ""

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "caption":
            self._caption += data
        elif {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    with open_database(tmp_path_factory.mktemp("filled") / "kndb.db") as database:
        fill(database)
        yield database


@pytest.fixture(scope="module")
def text(filled, tmp_path_factory):
    written = filled.reports.write(NAME, tmp_path_factory.mktemp("report") / "new" / "folder")
    assert (written.refinement, written.missing) == (1, ())
    return written.out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def plain(value):
    """A number of the page as a program reads it."""
    return float(value.replace("−", "-").replace(",", "").replace("%", "").replace("+", ""))


def by_relation(rows):
    return {row[0].split(" ")[0] if row[0].startswith("P") else row[0]: row for row in rows[1:]}


def named(relation):
    if relation is None:
        return "all relations"
    return f"{HOSTILE} {RELATIONS[HOSTILE]}" if relation == HOSTILE else relation


def test_counts_are_those_of_the_query(filled, page):
    rows = by_relation(page.tables["Knowledge neurons per attributed fact"])
    found = filled.query.counts(refinement=1)
    assert len(rows) == len(found) == 4
    for row in found:
        cells = rows[named(row.relation)]
        expected = (row.mean, row.first_quartile, row.median, row.third_quartile)
        assert [int(cells[place]) for place in (1, 2, 3, 8)] == [
            row.facts, row.facts_with_none, row.neurons, row.largest,
        ]  # fmt: skip
        assert [plain(cell) for cell in cells[4:8]] == pytest.approx(expected, abs=0.005)


def test_layers_and_overlap_are_those_of_the_queries(filled, page):
    rows = page.tables["Fact–neuron pairs by layer, from 0"][1:]
    for row, cells in zip(filled.query.layers(refinement=1), rows, strict=True):
        assert [int(cells[0]), int(cells[1]), int(cells[3])] == [row.layer, row.pairs, row.neurons]
        assert plain(cells[2]) == pytest.approx(100 * row.share, abs=0.005)
    overlap = filled.query.overlap(refinement=1)
    for row, cells in zip(overlap.summary, page.tables["Neurons that two facts share, on average"][1:], strict=True):
        assert cells[0].startswith(row.where)
        means = (row.pooled_mean, row.mean_of_means, row.same_object_mean, row.different_object_mean)
        assert [plain(cell) for cell in cells[1:]] == pytest.approx([row.pairs, *means], abs=0.00051)
    across = sorted((cell.mean for cell in overlap.cells if cell.relation != cell.other), reverse=True)
    assert [plain(row[2]) for row in page.tables["Relations that share most"][1:]] == pytest.approx(across, abs=0.00051)


def test_shared_neurons_and_consistency_are_those_of_the_queries(filled, page):
    found = filled.query.shared(refinement=1, across=2, top=20)
    rows = page.tables["Neurons held across relations"][1:]
    assert [(row[0], int(row[1]), int(row[3])) for row in rows] == [
        (f"L{one.layer}.N{one.neuron}", one.facts, len(one.relations)) for one in found
    ]
    rows = by_relation(page.tables["Consistency of paraphrases"])
    for row in filled.query.consistency(refinement=1):
        expected = [row.facts, row.mean, row.first_quartile, row.median, row.third_quartile]
        assert [plain(cell) for cell in rows[named(row.relation)][1:]] == pytest.approx(expected, abs=0.0005)


def test_probes_are_those_stored(filled, page):
    glance = {row[0]: row for row in page.tables["Beside the published figures"]}
    published = {"suppress": "−29.03 %", "amplify": "+31.17 %"}
    for kind, word in (("suppress", "suppressed"), ("amplify", "amplified")):
        probe = filled.probes.latest(kind, NAME)
        change = {
            row.neurons_from: 100 * row.change
            for row in filled.probes.summary(probe.id)
            if row.relation is None and row.prompts_of == "own"
        }
        cells = glance[f"change of the answer's probability, neurons {word}"]
        assert cells[1] == published[kind]
        assert plain(cells[2]) == pytest.approx(change["knowledge"], abs=0.005)
        assert plain(glance[f"the same, baseline's neurons {word}"][2]) == pytest.approx(
            change["activation"], abs=0.005
        )
        assert plain(glance[f"the same, random neurons {word}"][2]) == pytest.approx(change["random"], abs=0.005)
    probe = filled.probes.latest("activation", NAME)
    rows = by_relation(page.tables["Mean activation of facts' knowledge neurons"])
    kinds = page.tables["Mean activation of facts' knowledge neurons"][0]
    for row in filled.probes.activation_summary(probe.id):
        column = kinds.index(f"texts that name {row.kind.replace('-', ' ')}")
        assert plain(rows[named(row.relation)][column]) == pytest.approx(row.mean_activation, abs=0.0005)


def test_the_glance_names_the_published_figures_and_the_stores_own(filled, page):
    rows = {row[0]: row[1:] for row in page.tables["Beside the published figures"]}
    total, baseline = filled.query.counts(refinement=1)[-1], filled.query.counts(refinement=2)[-1]
    assert rows["facts"] == ["27,738", "15"]
    assert rows["relations"] == ["34", "3"]
    assert rows["prompts"] == ["253,448", "60"]
    assert rows["knowledge neurons per fact"] == ["4.13", f"{total.mean:.2f}"]
    assert rows["the same, activation baseline"] == ["3.96", f"{baseline.mean:.2f}"]
    within, across = filled.query.overlap(refinement=1).summary
    assert rows["neurons two facts of a relation share"] == ["1.23", f"{within.pooled_mean:.2f}"]
    assert rows["neurons facts of two relations share"] == ["0.09", f"{across.pooled_mean:.2f}"]


def test_edits_and_the_baseline_are_there(filled, page):
    assert page.tables["Measures of edit 1"][1:] == [["own: change rate", "0.750", "0.125"]]
    assert page.tables["Edit 1 by the measures of the field"][1:] == [
        ["ES", "0.750", "0.500–0.875", "0.250"],
        ["S", "0.500", "", "–"],
    ]
    assert [row[:3] for row in page.tables["Methods beside each other"][1:]] == [
        ["together, 1", "1", "1.00 [0.25–1.00]"],
        ["together, 10", "10", "0.75 [0.25–1.00]"],
        ["memit, 10", "10", "0.50 [0.25–1.00]"],
    ]
    assert page.tables["Methods beside each other"][1][-3:] == ["1.50", "", "2.50"]
    assert HOSTILE in page.tables["Edits"][1][2]
    found = filled.query.compare(1, 2).relations
    rows = by_relation(page.tables["Beside the activation baseline"])
    for row in found:
        expected = [row.facts, row.mean_size_a, row.mean_size_b, row.mean_shared, row.mean_jaccard, row.identical]
        assert [plain(cell) for cell in rows[named(row.relation)][1:]] == pytest.approx(expected, abs=0.005)


def test_every_number_links_to_a_command_that_is_shown(text, page):
    links = [attributes for tag, attributes in page.tags if tag == "a"]
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for link in links:
        assert link["href"].startswith("#")
        assert link["href"][1:] in ids
    shown = dict(re.findall(r'id="(command-[^"]+)"><code>(.*?)</code>', text))
    titles = dict(re.findall(r'<a href="#(command-[^"]+)" title="(.*?)">', text))
    assert titles.keys() <= shown.keys()
    assert all(shown[name] == title for name, title in titles.items())
    numbers = re.findall(r'<(?:td|th scope="row") class="n">(.*?)</t[dh]>', text)
    assert len(numbers) > 100
    published = {row[1] for row in page.tables["Beside the published figures"][1:]}
    assert all(cell in published or cell.startswith('<a href="#command-') for cell in numbers)


def test_neurons_link_to_the_facts_that_hold_them(filled, text, page):
    found = filled.query.shared(refinement=1, across=2, top=20)
    assert found
    for one in found:
        neuron = kndb.Neuron(one.layer, one.neuron)
        place = f"neuron-L{one.layer}-N{one.neuron}"
        assert f'<a href="#{place}">{neuron}</a>' in text
        (title,) = [title for title in page.tables if title.startswith(f"Facts that hold {neuron}")]
        assert re.search(rf'<div class="table" id="{place}" role="region" aria-label="{re.escape(title)}"', text)
        holding = filled.query.neuron(neuron, refinement=1).facts
        assert [int(row[0]) for row in page.tables[title][1:]] == [fact.fact for fact in holding][:25]


def test_every_table_and_figure_says_what_it_is_of(filled, page):
    content = filled.reports.collect(NAME)
    for section in content.sections:
        for part in (*section.tables, *section.pictures):
            assert part.source is not None
            if part.source and not part.source.startswith("evaluation"):
                for word in ("refinement 1", "of run 1", "integrated-gradients", BASE):
                    assert word in part.source
    # These have them in their columns.
    without = {table.title for section in content.sections for table in section.tables if not table.source}
    assert without == {"Refinements of this model", "Edits"}
    assert "method" in page.tables["Refinements of this model"][0]


def test_heads_stand_where_their_numbers_do(text):
    for head, body in re.findall(r"<thead><tr>(.*?)</tr></thead>\s*<tbody>\s*(.*?)\s*</tbody>", text, re.DOTALL):
        heads = re.findall(r'<th scope="col"( class="n")?>', head)
        rows = [re.findall(r"<t[dh]([^>]*)>", row) for row in body.splitlines()]
        for place, right in enumerate(heads):
            cells = [row[place] for row in rows]
            assert bool(right) == all('class="n' in cell for cell in cells)


def test_long_tables_are_folded():
    made = [table(f"t{rows}", None, ("a",), [("x",)] * rows) for rows in (LONG, LONG + 1)]
    page = Page(render(Report("m", (), (Section("s", "S", tables=tuple(made)),), "1")))
    assert sum(tag == "details" for tag, _ in page.tags) == sum(tag == "summary" for tag, _ in page.tags) == 1
    assert f"{LONG + 1} rows" in "".join(page.text)
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")] == ["h1", "h2", "h3", "h3"]


def test_a_page_is_no_wider_than_a_telephone(text):
    """What may be wide lies in a box that scrolls by itself; nothing else has a width."""
    style = text.split("<style>", 1)[1].split("</style>", 1)[0]
    for box in ("table", "picture"):
        assert re.search(rf"\.{box} {{[^}}]*overflow-x: auto;[^}}]*max-width: 100%", style)
    assert "width=device-width" in text
    assert text.count("<table>") == len(re.findall(r'<div class="table"[^>]*>\s*<table>', text))
    assert not re.search(r"[{;]\s*(?:min-)?width: \d{3,}px", style)


def test_nothing_is_loaded_from_elsewhere(text, page):
    assert "http" not in text
    assert "url(//" not in text
    assert "@import" not in text
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert page.attributes("src") == []
    assert all(value.startswith("#") for value in page.attributes("href"))
    # The bar of the heat map's colours is an image, in the page itself.
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in page.attributes("xlink:href"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(text.encode()) < 1_500_000


def test_hostile_names_are_text(text, page):
    assert "<script" not in text
    assert "<b>" not in text
    assert HOSTILE in "".join(page.text)
    assert any(NAME in cell for cell in page.text)


def test_the_page_can_be_read_by_everybody(page):
    tags = page.tags
    assert ("html", {"lang": "en"}) in tags
    assert sum(tag == "title" for tag, _ in tags) == 1
    assert any(attributes.get("name") == "viewport" for _, attributes in tags)
    assert sum(tag == "h1" for tag, _ in tags) == 1
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in tags if tag == "th")
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags)
    pictures = [attributes for _, attributes in tags if attributes.get("role") == "img"]
    assert len(pictures) == sum(tag == "svg" for tag, _ in tags) == 7
    assert all(len(attributes["aria-label"]) > 20 for attributes in pictures)


def test_the_head_says_what_was_measured(text, filled):
    head = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert head["version"] == BASE
    assert head["fingerprint"] == "f" * 64
    assert head["run"].startswith("1: integrated-gradients")
    assert head["refinement"] == "1: adapt, share 0.7, threshold 0.2"
    assert head["data as of"] >= filled.query.refinement(1).created_at


def test_the_same_store_gives_the_same_bytes(filled, text, tmp_path):
    (tmp_path / "index.html").write_text("old")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(UsageError, match="force=True"):
        filled.reports.write(NAME, tmp_path)
    assert (tmp_path / "index.html").read_text() == "old"
    filled.reports.write(NAME, tmp_path, force=True)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "other"]


def test_what_is_missing_is_named_with_its_command(tmp_path):
    with open_database(tmp_path / "kndb.db") as database:
        fill(database, experiments=False)
        written = database.reports.write(NAME, tmp_path / "report")
    page = Page(written.out.read_text(encoding="utf-8"))
    said = "".join(page.text)
    assert len(written.missing) == 5
    for command in ("probe suppress", "probe amplify", "probe activation", "attribute --model", "edit update"):
        assert f"kndb {command}" in said
    for row in page.tables["Beside the published figures"]:
        assert row[2] != ""
    ids = set(page.attributes("id"))
    assert all(value[1:] in ids for value in page.attributes("href"))


def test_wrong_models_refinements_and_folders_are_named(filled, tmp_path):
    with pytest.raises(NotFoundError, match="tiny"):
        filled.reports.write("tiny", tmp_path)
    with pytest.raises(NotFoundError, match=r"db\.query\.refinements"):
        filled.reports.write(NAME, tmp_path, refinement=9)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="name another"):
        filled.reports.write(NAME, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_report(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(ReportCommands, "_collect", lambda *_: Report("m", (), (), "1"))
    (tmp_path / "index.html").write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        filled.reports.write(NAME, tmp_path, force=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_numbers_as_text():
    command = Command("c", "kndb query counts")
    assert count(12345).text == "12,345"
    assert decimal(-0.126).text == "−0.13"
    assert percent(-0.2903, signed=True).text == "−29.03 %"
    assert percent(-0.00001, signed=True).text == "0.00 %"
    assert decimal(-0.0).text == "0.00"
    assert percent(0.3117, command, signed=True) == Cell("+31.17 %", True, command)
    assert scientific(0.00012).text == "1.2e−04"
    for nothing in (count(None), decimal(None), decimal(float("nan")), percent(float("inf")), scientific(None)):
        assert not nothing.number
    made = table("t", command, ("a", "b"), [("x", count(1))])
    page = Page(render(Report("m", (), (Section("s", "S", tables=(made,)),), "1")))
    assert page.tables == {"t": [["a", "b"], ["x", "1"]]}


def test_without_jinja_the_extra_is_named():
    program = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from kndb.report import require_jinja\n"
        "from kndb.errors import UsageError\n"
        "try: require_jinja()\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("pip install 'kndb[plot]'")


def test_errors_have_their_colours_and_say_so_in_words(tmp_path):
    with open_database(tmp_path / "kndb.db") as database:
        fill(database)
        with database.store.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE prompt_result SET completeness_error = 0.16, worst_layer = 0,"
                """ layers_above = '{"0": 0.16, "2": 0.002}' WHERE run_id = 1 AND prompt_id = 1"""
            )
        written = database.reports.write(NAME, tmp_path / "report")
        errors = database.attribution.errors(1)
    text = written.out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tables["Layers with errors above 0.001"][1:] == [
        ["0", "1", "1.6e−01 (large)"],
        ["2", "1", "2.0e−03 (above 0.001)"],
    ]
    rows = dict(page.tables["Its errors"][1:])
    assert rows["completeness error, largest"] == "1.6e−01 (large)"
    assert rows["prompts above the tolerance of 0.001"] == str(errors.above) == "1"
    assert rows["facts with such prompts"] == "1"
    said = "stay above the tolerance of 0.001, at worst 0.16: in layer 0 (1 prompt, at worst 0.16)"
    assert re.search(rf'<p class="verdict verdict-large">[^<]*{re.escape(said)}', text)
    assert page.tables["Prompts with the largest errors"][1:] == [["1 is [o1].", "1.6e−01 (large)", "0", "1"]]
    cells = re.findall(r'<td class="n error-(\w+)">', text)
    assert {"large", "above"} <= set(cells)
    colours = {grade: re.search(rf"\.error-{grade} {{ color: var\((--\w+)\)", text)[1] for grade in GRADES}
    assert len(set(colours.values())) == 3


def test_where_all_is_exact_the_report_says_so(text, page):
    assert re.search(
        r'<p class="verdict verdict-fine">All 60 prompts are within the tolerance of 0\.001, at worst', text
    )
    assert "Prompts with the largest errors" not in page.tables


def test_an_error_is_graded_by_the_limit():
    found = [graded_error(value, 1e-3) for value in (1e-4, 1e-3, 2e-3, 0.1, 0.16, None)]
    assert [cell.grade for cell in found] == ["fine", "fine", "above", "above", "large", ""]
    assert [cell.text for cell in found[1:5]] == [
        "1.0e−03",
        "2.0e−03 (above 0.001)",
        "1.0e−01 (above 0.001)",
        "1.6e−01 (large)",
    ]
    assert graded_error(0.05, 0.2).grade == "fine"
