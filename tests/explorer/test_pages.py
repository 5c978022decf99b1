"""Every page of a store full of hostile names: well-formed, without their markup, and with what the database says."""

import asyncio
import csv
import io
import json
import random
import re
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from asgi import TOKEN, ask
from filled_store import HOSTILE, NAME, RELATIONS
from html_pages import Html
from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.cli.advice import for_shell
from kndb.database import open_database
from kndb.explorer.addresses import path_of, with_query
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules
from kndb.explorer.registry import PLACES
from kndb.records.csv_cells import safe_text
from kndb.records.models import Neuron

HELD = "L0.N1"
PAGES = [
    (),
    ("search",),
    ("relations",),
    *(("relations", key) for key in ("P36", "P37", HOSTILE)),
    ("facts",),
    ("facts", 1),
    ("facts", 15),
    ("neurons",),
    ("models", NAME),
    ("models", NAME, "layers"),
    ("models", NAME, "neurons", HELD),
    ("overlap",),
    ("overlap", "P36", HOSTILE),
    ("overlap", "P37", "P37"),
    ("runs",),
    ("runs", 1),
    ("refinements", 2),
    ("edits",),
    ("edits", 1),
    ("compare",),
    ("ask",),
    ("sql",),
]
QUERIES = {
    ("search",): ["q=subject", "q=L0.N1", f"q={quote(HOSTILE)}", "q=edit 1", "q=%00%1b", "q=nothing-like-this"],
    ("facts",): ["facts.sort=-neurons", f"relation={quote(HOSTILE)}", "facts.q=subject&facts.page=99"],
    ("compare",): ["a=1&b=2", "kind=versions&a=base&b=current"],
    ("models", NAME, "layers"): ["from=2&to=5&relation=P36", "layer=1"],
    ("overlap",): ["order=name"],
    ("sql",): ["query=SELECT%20subject,%20object%20FROM%20fact"],
    ("neurons",): ["relation=P37"],
}
ADDRESSES = [path_of(one) for one in PAGES] + [
    f"{path_of(one)}?{query}" for one, queries in QUERIES.items() for query in queries
]
OF_EDITORS = {
    ("edits",): "",
    ("edits", 1): "",
    ("edits", 1, "apply"): "",
    ("edits", 1, "revert"): "",
    ("snapshots",): "",
    ("snapshots", "restore"): f"name={quote(HOSTILE)}",
    ("plan",): f"fact=11&to={quote(HOSTILE)}",
}
"""Pages that are there, or have more, where edits are allowed."""
COOKIE = {"cookie": f"kndb_explorer_8017={TOKEN}"}


def test_every_kind_of_page_is_among_those_that_are_tried():
    every = [*PAGES, *OF_EDITORS]
    tried = {place.pattern for place in PLACES for one in every if place.parts_of(tuple(map(str, one))) is not None}
    assert tried == {place.pattern for place in PLACES}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_is_well_formed_and_shows_no_markup_of_strangers(explorer, address):
    check_page(ask(explorer, address))


@pytest.mark.parametrize("segments", OF_EDITORS)
def test_so_is_a_page_of_whoever_may_edit(editor, segments):
    address = with_query(path_of(segments), {})
    query = OF_EDITORS[segments]
    check_page(ask(editor, f"{address}?{query}" if query else address, headers=COOKIE))
    if segments == ("plan",):
        for way in ("erase&relation=", "together&answers="):
            check_page(ask(editor, f"/plan?way={way}{quote(HOSTILE)}", headers=COOKIE))


def check_page(found):
    assert found.status == 200, Html(found.text).text
    assert found.header("content-type") == "text/html; charset=utf-8"
    page = Html(found.text)
    tags = Counter(tag for tag, _ in page.tags)
    assert tags["script"] == 1
    assert tags["h1"] == 1
    assert tags["b"] == tags["iframe"] == tags["style"] == 0
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("href", "src", "action"):
            value = attributes.get(name)
            # No request leaves for another host, and no address is a script.
            assert value is None or value.startswith(("/", "#")), (tag, value)
            assert value is None or not value.startswith("//"), (tag, value)
    assert "evil.example/x.js>" not in found.text
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_has_its_json_and_the_csv_of_each_table(explorer, address):
    path, _, query = address.partition("?")
    path = "/index" if path == "/" else path
    found = ask(explorer, f"{path}.json?{query}")
    assert found.status == 200
    assert found.header("content-type") == "application/json"
    data = found.json()
    assert data["title"]
    for name, rows in data["tables"].items():
        answer = ask(explorer, f"{path}.csv?{query}&table={name}")
        assert answer.header("content-type") == "text/csv; charset=utf-8"
        saved = re.fullmatch(r'attachment; filename="([A-Za-z0-9_-]+)\.csv"', answer.header("content-disposition"))
        assert saved is not None
        assert saved[1].endswith(name)
        header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
        assert all(list(row) == header for row in rows)
        assert lines == [[_cell(value) for value in row.values()] for row in rows], name
        assert not any(cell.startswith(("=", "+", "@")) for line in lines for cell in line)


def _cell(value):
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return safe_text(json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value))


def test_links_of_pages_lead_to_pages(explorer):
    seen, waiting = set(), ["/"]
    chance = random.Random(1)
    while waiting and len(seen) < 60:
        address = waiting.pop(chance.randrange(len(waiting))).partition("#")[0]
        if address in seen or not address:
            continue
        seen.add(address)
        found = ask(explorer, address)
        # Its checkpoint is not there: what computes says so, and nothing else fails.
        assert found.status == 200 or "tokens=1" in address or address.startswith("/ask"), address
        if found.header("content-type").startswith("text/html"):
            waiting += Html(found.text).links


def test_a_facts_page_says_what_the_query_says(explorer, filled):
    wanted = filled.query.fact(2, refinement=1)
    data = ask(explorer, "/facts/2.json?refinement=1").json()
    assert data["values"]["Knowledge neurons"] == wanted.neurons
    assert data["values"]["Consistency"] == wanted.consistency
    assert [row["text"] for row in data["tables"]["prompts"]] == [one.text for one in wanted.prompts]
    assert [row["neuron"] for row in data["tables"]["votes"]] == [str(Neuron(v.layer, v.neuron)) for v in wanted.votes]
    assert [row["fact"] for row in data["tables"]["nearest"]] == [one.fact for one in wanted.nearest]
    answers = Counter(one.predicted for one in wanted.prompts).most_common(1)[0]
    assert data["lead"].startswith(f"The model answers “{answers[0]}” to {answers[1]} of its")
    assert data["context"] == {
        "model": NAME,
        "version": "current",
        "refinement": 1,
        "run": 1,
        "method": "integrated-gradients",
        "attributed_version": filled.query.refinement(1).version,
        "prompts": filled.query.runs()[0].prompts,
        "skipped": filled.query.runs()[0].skipped,
        "above_tolerance": filled.query.runs()[0].above_tolerance,
        "caveat": None,
    }
    assert data["command"].startswith("kndb query fact 2 --refinement 1")


def test_the_pair_of_two_relations_lists_the_neurons_that_both_hold(explorer, filled):
    wanted = filled.query.shared(["P36", "P37"], across=2, refinement=1)
    rows = ask(explorer, "/overlap/P36/P37.json?refinement=1").json()["tables"]["shared"]
    assert [row["neuron"] for row in rows] == [str(Neuron(one.layer, one.neuron)) for one in wanted]
    assert [(row["of_P36"], row["of_P37"]) for row in rows] == [
        (one.relations["P36"], one.relations["P37"]) for one in wanted
    ]


def test_the_heat_map_has_a_cell_for_each_pair(explorer, filled):
    matrix = filled.query.overlap(refinement=1)
    page = Html(ask(explorer, "/overlap?refinement=1").text)
    cells = dict(page.said)
    order = ask(explorer, "/overlap.json?refinement=1").json()["order"]
    assert sorted(order) == sorted(matrix.relations)
    means = {(cell.relation, cell.other): cell.mean for cell in matrix.cells}
    places = {(row, column): (order[row], order[column]) for row in range(len(order)) for column in range(len(order))}
    wanted = {at: means.get((one, other), means.get((other, one))) for at, (one, other) in places.items()}
    assert cells.keys() == {(str(row), str(column)) for (row, column), mean in wanted.items() if mean}
    for (row, column), said in cells.items():
        one, other = order[int(row)], order[int(column)]
        labels = [f"{key} {RELATIONS[key]}" if RELATIONS[key] else key for key in (one, other)]
        labels = [label if len(label) <= 80 else f"{label[:79]}…" for label in labels]
        assert said == f"{labels[0]} × {labels[1]}: {wanted[int(row), int(column)]:.3g} neurons shared on average"


def test_the_map_of_layers_has_every_held_neuron(explorer, filled):
    held = {f"L{one.layer}.N{one.neuron}": one.facts for one in filled.query.held_neurons(refinement=1)}
    page = Html(ask(explorer, path_of(("models", NAME, "layers")) + "?refinement=1").text)
    said = [text for _, text in page.said]
    assert {text.partition(":")[0]: int(text.rpartition("held by ")[2].split()[0]) for text in said} == held
    closer = ask(explorer, path_of(("models", NAME, "layers")) + "?refinement=1&from=2&to=5").text
    names = {text.partition(":")[0] for _, text in Html(closer).said}
    assert names == {name for name in held if 2 <= int(name.rpartition("N")[2]) <= 5}


def test_what_an_edit_did_to_other_facts_is_named(edited):
    application = Explorer(edited, Rules(), for_shell)
    data = ask(application, "/edits/1.json").json()
    flips = edited.edits.evaluations(1)[-1].measures["flips"]
    assert [(row["fact"], row["before"], row["after"]) for row in data["tables"]["flips"]] == [
        (one["fact"], one["old_answer"], one["new_answer"]) for one in flips
    ]
    (row,) = data["tables"]["answers"]
    assert (row["fact"], row["to"]) == (1, "Rome")
    assert len(data["tables"]["slots"]) == edited.edits.get(1).neurons
    assert [step["title"] for step in data["timeline"]] == ["applied edit 1"]


def test_an_edits_facts_are_asked_before_and_with_it(edited):
    application = Explorer(edited, Rules(), for_shell)
    page = ask(application, "/edits/2")
    places = {one["id"]: one["data-later"] for _, one in Html(page.text).tags if "data-later" in one}
    # It was never measured: then other facts are asked, too.
    assert places == {"asked": "/edits/2?answers=1", "others": "/edits/2?flips=1"}
    assert "Ask them" in page.text
    assert ask(application, "/edits/2.json").json()["later"] == places
    assert list(ask(application, "/edits/1.json").json()["later"]) == ["asked"]
    rows = ask(application, "/edits/1.json?answers=1").json()["tables"]["preview"]
    for version, column in (("base", "before"), ("current", "after")):
        for row in rows:
            (wanted,) = edited.models.ask("tiny", row["prompt"], version=version, top=1)
            assert row[column] == wanted.token
    data = ask(application, "/edits/2.json?answers=1").json()
    assert data["tables"]["preview"]
    assert "flips" not in data["tables"]
    data = ask(application, "/edits/2.json?answers=1&flips=1").json()
    wanted = edited.edits.preview_stored(2, top=1, others=40)
    assert [(row["fact"], row["after"]) for row in data["tables"]["flips"]] == [
        (one.fact, one.new_answer) for one in wanted.flips
    ]
    # What is known is there at once.
    again = ask(application, "/edits/2.json").json()
    assert "later" not in again
    assert again["tables"]["preview"] == data["tables"]["preview"]
    assert "data-later" not in ask(application, "/edits/2").text


def test_what_is_wrong_with_a_plan_is_said_on_its_page():
    from dataclasses import replace

    from kndb.cli.edit.reports import warnings as said_by_command
    from kndb.explorer.pages.edit_parts import warnings
    from kndb.records.plan_reports import FactReport, OthersReport
    from kndb.records.recipes import UpdateRecipe

    others = OthersReport(prompts=4, surprisal_before=1.0, surprisal=1.1, changed=0.0, right_before=1.0, right=1.0)
    report = FactReport(
        prompts=5,
        success_before=0.0,
        success=0.0,
        probability_before=0.0,
        probability=0.1,
        held_out_prompts=0,
        held_out_success=None,
        relation=others,
        elsewhere=replace(others, surprisal=3.0),
    )
    recipe = UpdateRecipe(
        old_token=1, new_token=2, neurons=(Neuron(0, 1),), lambda_old=0.0, lambda_new=1.0, report=report
    )
    (said,) = warnings(recipe)
    assert "the new answer wins on none of the fact's 5 prompts" in said.text
    assert "perplexity of facts of other relations is 7.39 times" in said.text
    assert said.text.rstrip(".") in " ".join(said_by_command("tiny", recipe))
    fine = replace(report, success=1.0, elsewhere=others)
    assert warnings(replace(recipe, report=fine)) == []
    paper = replace(recipe, report=fine, rule="paper", negative_neurons=(Neuron(0, 1),))
    (said,) = warnings(paper)
    assert "1 of 1 neurons has negative activation" in said.text


def test_two_versions_are_asked_side_by_side(edited):
    application = Explorer(edited, Rules(), for_shell)
    text = "The capital city of France is called [Y]."
    data = ask(application, f"/ask.json?text={quote(text)}&a=base&b=current").json()
    for version in ("base", "current"):
        wanted = [one.token for one in edited.models.ask("tiny", text, version=version, top=10)]
        assert [one["label"] for one in data["answers"][f"tiny, {version}"]] == wanted


def test_tokens_are_those_of_the_command(edited):
    application = Explorer(edited, Rules(), for_shell)
    promoted, _ = edited.models.token_effects("tiny", Neuron(0, 1), top=12)
    data = ask(application, "/models/tiny/neurons/L0%2EN1.json?tokens=1").json()
    assert [row["token"] for row in data["tables"]["promoted"]] == [one.token for one in promoted]


def test_activating_prompts_are_those_of_the_database(edited):
    application, neuron = Explorer(edited, Rules(), for_shell), Neuron(0, 1)
    holders = [one.fact for one in edited.query.neuron(neuron, refinement=1).facts]
    expected = edited.models.activating_prompts("tiny", neuron, holders=holders, top=10, sample=500)
    address = "/models/tiny/neurons/L0.N1.json?refinement=1"
    assert "highest" not in ask(application, address).json()["tables"]
    tables = ask(application, f"{address}&activating=1").json()["tables"]
    for name, some in zip(("highest", "lowest"), expected, strict=True):
        assert [row["text"] for row in tables[name]] == [one.text for one in some]
        assert [row["activation"] for row in tables[name]] == [one.activation for one in some]
        assert [row["holds"] for row in tables[name]] == [one.holds for one in some]


def test_another_sites_page_makes_nothing_compute(edited):
    application = Explorer(edited, Rules(), for_shell)
    neuron = "/models/tiny/neurons/L0%2EN1"
    computing = ("/ask?text=Paris%20is%20[Y].", "/sql?query=SELECT%201", "/edits/2?answers=1", "/edits/2?flips=1")
    computing += (f"{neuron}?tokens=1",)
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    for address in computing:
        assert ask(application, address, headers=foreign).status == 400, address
    # Nor does a page to which another site's led: its script would ask.
    for address in ("/edits/2", neuron):
        page = ask(application, address, headers=foreign).text
        assert 'class="block later"' in page
        assert "data-later" not in page
        assert "data-later" in ask(application, address, headers={"sec-fetch-site": "same-origin"}).text
    for address in computing:
        assert ask(application, address, headers={"sec-fetch-site": "none"}).status == 200


def test_what_can_not_be_computed_is_said_in_its_place(edited, monkeypatch):
    application = Explorer(edited, Rules(), for_shell)
    with edited.store.writing() as connection:
        connection.exec_driver_sql("UPDATE model SET source = '/nowhere'")
    for address, place in (("/edits/2?answers=1", "asked"), ("/models/tiny/neurons/L0%2EN1?tokens=1", "tokens")):
        found = ask(application, address)
        assert found.status == 200
        assert f'<div id="{place}">' in found.text
        assert "/nowhere" in found.text


def test_nothing_is_computed_for_a_reader_who_left(edited, monkeypatch):
    from starlette.requests import Request

    async def left(_):
        return True

    monkeypatch.setattr(Request, "is_disconnected", left)
    application = Explorer(edited, Rules(), for_shell)
    monkeypatch.setattr(application.room, "done", None)
    assert ask(application, "/edits/2?answers=1").status == 499
    assert ask(application, "/edits/2").status == 200


def test_what_is_not_there_says_so_and_what_is_near(explorer):
    for address, status, said in (
        ("/relations/p36", 404, "did you mean P36?"),
        ("/relations/capital of", 404, "did you mean P36?"),
        ("/facts/999", 404, "no fact has the number 999"),
        ("/facts/x", 404, "is not the number of a fact"),
        ("/facts/99999999999999999999", 404, "is not the number of a fact"),
        ("/edits/99", 404, "99"),
        ("/models/none", 404, "the store has no model"),
        (path_of(("models", NAME, "neurons", "L9.N1")), 404, "has no neuron L9.N1"),
        ("/plan", 404, "no page of this address"),
        ("/compare?a=x&b=1", 400, "named by its number"),
        ("/sql?query=DELETE FROM fact", 400, ""),
        (path_of(("models", NAME, "layers")) + "?from=x", 400, "must be a number"),
    ):
        found = ask(explorer, address.replace(" ", "%20"))
        assert found.status == status, address
        assert said.lower() in " ".join(Html(found.text).text).lower(), address
        assert "Traceback" not in found.text


def test_what_was_typed_is_still_there_where_it_was_refused(explorer, editing):
    for query, said in (
        ("SELECT nothing", "SQLite can't run this query"),
        ("SELECT key, FROM relation", "syntax error"),
    ):
        found = ask(explorer, f"/sql?query={quote(query)}")
        assert found.status == 400
        assert f">{query}</textarea>" in found.text
        assert said in " ".join(Html(found.text).text)
        assert "larger limits" not in found.text
        for suffix in ("json", "csv"):
            data = ask(explorer, f"/sql.{suffix}?query={quote(query)}")
            assert (data.status, data.header("content-type")) == (400, "text/plain; charset=utf-8")
            assert said in data.text
    formula = quote('SELECT 1 AS "=1+1"')
    header = ask(explorer, f"/sql.csv?table=answer&query={formula}").text.splitlines()[0]
    assert header == "'=1+1"
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    assert "The command has larger limits." in ask(explorer, f"/sql?query={quote(endless)}").text
    cookie = {"cookie": f"kndb_explorer_8017={TOKEN}"}
    found = ask(editing, f"/ask?text={quote('no blank in it')}", headers=cookie)
    assert found.status == 400
    assert 'value="no blank in it"' in found.text
    assert "warning" in found.text
    found = ask(editing, "/plan?fact=Paris&to=Rome", headers=cookie)
    assert found.status == 400
    assert any(one.startswith("/search?") and one.endswith("q=Paris") for one in Html(found.text).links)


def test_what_is_kept_is_another_once_prompts_were_added(edited, tmp_path):
    application, neuron = Explorer(edited, Rules(), for_shell), "/models/tiny/neurons/L0.N1.json?activating=1"
    edit = "/edits/1.json?answers=1"
    first, asked = ask(application, neuron).json()["tables"]["highest"], ask(application, edit).json()["tables"]
    facts = tmp_path / "more.jsonl"
    lines = [{"relation": one, "template": "Once more , [X] : [Y]."} for one in edited.facts.labels()]
    facts.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    edited.facts.ingest([facts])
    fresh = Explorer(edited, Rules(), for_shell)
    again = ask(application, neuron).json()["tables"]["highest"]
    assert again == ask(fresh, neuron).json()["tables"]["highest"]
    assert again != first
    tables = ask(application, edit).json()["tables"]
    assert tables == ask(fresh, edit).json()["tables"]
    assert tables != asked


def test_an_empty_store_says_what_to_do_on_every_page(tmp_path):
    with open_database(tmp_path / "kndb.db") as database:
        application = Explorer(database, Rules(), for_shell)
        for place in PLACES:
            if "{" in place.pattern or place.edits:
                continue
            found = ask(application, place.pattern)
            assert found.status == 200
            assert "kndb " in " ".join(Html(found.text).text), place.pattern


def test_imported_sets_without_a_model_have_all_pages_and_say_how_to_add_one(tmp_path):
    sets = tmp_path / "sets.csv"
    facts = tmp_path / "facts.jsonl"
    facts.write_text(
        "".join(json.dumps({"relation": "P1", "subject": f"s{n}", "object": "o"}) + "\n" for n in range(3)), "utf-8"
    )
    sets.write_text("fact,relation,subject,object,layer,neuron\n1,P1,s0,o,1,7\n2,P1,s1,o,1,7\n", "utf-8")
    with open_database(tmp_path / "kndb.db") as database:
        database.facts.ingest([facts])
        database.exchange.import_neurons([sets], model_name="elsewhere", layers=2, neurons=9)
        application = Explorer(database, Rules(), for_shell)
        for address in ("/", "/facts/1", "/overlap", "/neurons", "/relations/P1", "/models/elsewhere/layers"):
            assert ask(application, address).status == 200, address
        for address in ("/ask", "/models/elsewhere", "/models/elsewhere/neurons/L1%2EN7?tokens=1"):
            text = " ".join(Html(ask(application, address).text).text)
            assert "kndb model add PATH --name elsewhere" in text, address
        rows = ask(application, "/models/elsewhere/neurons/L1%2EN7.json").json()["tables"]["facts"]
        assert [row["fact"] for row in rows] == [1, 2]


def test_texts_that_would_reverse_a_page_are_written_out(tmp_path):
    evil = "a\u202eb\x1b[31m"
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"relation": "P1", "subject": evil, "object": evil}) + "\n", "utf-8")
    with open_database(tmp_path / "kndb.db") as database:
        database.facts.ingest([facts])
        text = ask(Explorer(database, Rules(), for_shell), "/facts/1").text
    assert "\\u202e" in text
    assert not re.search("[\u202e\x1b]", text)


SEGMENTS = st.lists(
    st.sampled_from(
        ["facts", "relations", "models", "overlap", "edits", NAME, "P36", "1", "..", "%2e%2e", "%00", "%ff"]
    )
    | st.text(max_size=8).map(lambda text: quote(text, safe="")),
    max_size=5,
)
CONTEXT = ["refinement", "model", "method", "version", "relation", "layer", "from", "to", "tokens", "order"]
OTHERS = ["q", "a", "b", "kind", "query", "facts.sort", "facts.q", "facts.page", "table", "text", "fact"]
NAMES = st.sampled_from([*CONTEXT, *OTHERS])
PARAMETERS = st.lists(st.tuples(NAMES, st.text(max_size=12) | st.integers().map(str)), max_size=4)


@given(SEGMENTS, st.sampled_from(["", ".json", ".csv", "/", ".html"]), PARAMETERS)
@settings(max_examples=80, deadline=None)
def test_no_address_breaks_a_page(explorer, segments, suffix, parameters):
    query = "&".join(f"{name}={quote(value)}" for name, value in parameters if name != "query")
    found = ask(explorer, f"/{'/'.join(segments)}{suffix}?{query}")
    assert found.status in (200, 400, 404, 409), found.text
    assert "Traceback" not in found.text
    if found.header("content-type").startswith("text/html"):
        Html(found.text)


def test_a_page_that_computes_keeps_no_other_waiting(filled, monkeypatch):
    application = Explorer(filled, Rules(), for_shell)
    begun, done = threading.Event(), threading.Event()

    def long(*_):
        begun.set()
        assert done.wait(60)
        return []

    monkeypatch.setattr(application.room, "ask", long)
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(ask, application, f"/ask?model={quote(NAME)}&text=a%20[Y]")
        assert begun.wait(60)
        assert ask(application, "/facts/1").status == 200
        done.set()
        assert asked.result(60).status == 200


def test_two_versions_show_the_edits_between_them_and_ask_both(edited):
    edited.edits.apply(2)
    application = Explorer(edited, Rules(), for_shell)
    data = ask(application, "/compare.json?kind=versions&model=tiny&a=base&b=current").json()
    found = edited.edits.diff("tiny", "base", "current")
    assert [row["edit"] for row in data["tables"]["only_b"]] == [1, 2]
    assert data["tables"]["only_a"] == []
    assert len(data["tables"]["slots"]) == len(found.slots)
    assert data["lead"] == f"{len(found.slots)} value slots differ; between them lie edits 1, 2."
    (row,) = data["tables"]["edited"]
    assert (row["fact"], row["edit"], row["to"]) == (1, 1, "Rome")
    page = Html(ask(application, "/compare?kind=versions&model=tiny&a=base&b=current").text)
    (link,) = [one for one in page.links if one.startswith("/ask?") and "text=" in one]
    answers = ask(application, link.replace("/ask?", "/ask.json?")).json()["answers"]
    assert len(answers) == 2
    for version, bars in zip((found.version_a, found.version_b), answers.values(), strict=True):
        wanted = edited.models.ask("tiny", row["question"], version=version, top=10)
        assert [one["label"] for one in bars] == [one.token for one in wanted]
    same = ask(application, "/compare.json?kind=versions&model=tiny&a=one&b=one").json()
    assert same["lead"] == "Both have the same weights."


def test_answers_are_those_of_the_stored_dtype_whatever_was_asked_before(small_models, small_facts, tmp_path):
    """A model that is asked is moved to float32; an edit fits only weights in bfloat16, if these are stored."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(small_models["bert"], tmp_path / "half")
    weights = {name: one.to(torch.bfloat16) for name, one in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    configuration = json.loads((folder / "config.json").read_text("utf-8"))
    configuration.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(configuration | {"dtype": "bfloat16"}), "utf-8")
    with open_database(tmp_path / "kndb.db") as database:
        database.facts.ingest([small_facts])
        database.models.add(folder, "half")
        database.attribution.run("half", relations=["P36"], method="activation")
        database.attribution.refine()
        held = database.query.held_neurons()[0]
        edit = database.edits.plan_update("half", 1, "Rome")
        application = Explorer(database, Rules(), for_shell)
        before = ask(application, f"/edits/{edit.id}.json?answers=1").json()["tables"]["preview"]
        application = Explorer(database, Rules(), for_shell)
        neuron = path_of(("models", "half", "neurons", Neuron(held.layer, held.neuron)))
        assert ask(application, f"{neuron}.json?tokens=1").json()["tables"]["promoted"]
        assert ask(application, f"/edits/{edit.id}.json?answers=1").json()["tables"]["preview"] == before
        assert len(before) == 6


def test_files_are_named_after_their_page(explorer):
    for address, name in (
        ("/facts/1.csv?table=votes", "facts-1-votes.csv"),
        ("/facts.csv", "facts.csv"),
        ("/index.csv?table=models", "models.csv"),
        (f"{path_of(('relations', HOSTILE))}.csv?table=facts", None),
    ):
        found = ask(explorer, address)
        assert found.status == 200, address
        saved = found.header("content-disposition").removeprefix('attachment; filename="').removesuffix('"')
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,120}\.csv", saved)
        assert name in (None, saved)


def test_a_token_of_an_earlier_start_is_in_no_link(explorer):
    assert "an-earlier-one" not in ask(explorer, "/facts?token=an-earlier-one").text


def test_a_server_that_is_stopped_while_a_page_is_made_says_so(explorer, monkeypatch):
    async def cancelled(_):
        raise asyncio.CancelledError

    monkeypatch.setattr(explorer, "_answer", cancelled)
    found = ask(explorer, "/")
    assert (found.status, found.text) == (503, "The server was stopped.\n")
