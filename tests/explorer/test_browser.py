"""Every page in a real browser: no error, no request to another host, and what scripts and keys do.

Skipped where playwright or a Chromium is missing, with the reason.
"""

import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from filled_store import HOSTILE, NAME

from kndb.cli.advice import for_shell
from kndb.database import open_database
from kndb.explorer.addresses import path_of
from kndb.explorer.export import export_site
from kndb.explorer.server import Server, ServeSettings
from kndb.records.models import Neuron

NOTHING = "/nothing"
PAGES = [
    *("/", "/search?q=subject", "/relations", "/relations/P36", "/facts", "/facts/11", "/neurons", "/overlap"),
    *("/overlap/P36/P37", "/runs", "/runs/1", "/refinements/2", "/edits", "/edits/1", "/compare?a=1&b=2"),
    *("/sql?query=SELECT+key+FROM+relation", "/ask"),
    path_of(("relations", HOSTILE)),
    path_of(("models", NAME)),
    path_of(("models", NAME, "layers")),
    path_of(("models", NAME, "neurons", "L0.N1")),
    NOTHING,
]
WIDTHS = (400, 1024, 1920)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium can be started here: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def served(filled):
    with Server(filled, ServeSettings(port=0), for_shell) as server:
        threading.Thread(target=server.run, daemon=True).start()
        yield server.address.rstrip("/")


@contextmanager
def opened(browser, base, **options):
    """A page, and what went wrong on it."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(120_000)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(base) else wrong.append(request.url))
    page.on("dialog", lambda dialog: wrong.append("a dialog"))
    yield page, wrong
    context.close()


def test_every_page_opens_without_an_error_or_another_host_and_fits_its_width(browser, served):
    with opened(browser, served, color_scheme="dark") as (page, wrong):
        for address in PAGES:
            status = page.goto(served + address).status
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (address, wide)
            assert page.evaluate("document.querySelectorAll('h1').length") == 1
            # Of an answer that there is nothing the browser's console tells, too, and maybe later.
            assert status == (404 if address == NOTHING else 200)
            assert [one for one in wrong if status == 200 or "404" not in one] == [], (address, wrong)


def test_axe_finds_nothing_serious_in_light_or_dark(browser, served):
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    source = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    # What does not depend on colours is the same in both.
    asked = {"light": {"resultTypes": ["violations"]}, "dark": {"runOnly": ["color-contrast"]}}
    found = []
    with opened(browser, served) as (page, _):
        for address in PAGES:
            page.goto(served + address)
            page.evaluate(source)
            for scheme, options in asked.items():
                page.emulate_media(color_scheme=scheme)
                violations = page.evaluate(f"axe.run({json.dumps(options)})")["violations"]
                grave = [one for one in violations if one["impact"] in ("serious", "critical")]
                found += [(address, scheme, one["id"], one["nodes"][0]["html"][:200]) for one in grave]
    assert found == []


def test_sorting_and_filtering_change_the_table_and_the_address_alone(browser, served):
    with opened(browser, served) as (page, wrong):
        page.goto(f"{served}/relations?refinement=1")
        page.evaluate("window.kept = true")
        page.click("#relations th a:has-text('Facts')")
        page.wait_for_selector("#relations th[aria-sort=descending]")
        assert "relations.sort=-facts" in page.url
        assert page.evaluate("window.kept") is True
        page.go_back()
        page.wait_for_url(f"{served}/relations?refinement=1")
        assert wrong == []


def test_a_figure_says_what_is_pointed_at_and_arrows_go_from_cell_to_cell(browser, served):
    with opened(browser, served) as (page, wrong):
        page.goto(f"{served}/overlap?order=name&refinement=1")
        page.hover("svg g[data-row='0'] a[data-column='1']")
        said = page.text_content("svg g[data-row='0'] a[data-column='1'] > title")
        assert page.text_content(".readout") == said
        page.focus("svg g[data-row='0'] a[data-column='0']")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.parentNode.dataset.row") == "1"
        assert page.text_content(".readout") == page.text_content("svg g[data-row='1'] a[data-column='0'] > title")
        page.keyboard.press("Enter")
        page.wait_for_url("**/overlap/*/*")
        page.goto(f"{served}{path_of(('models', NAME, 'layers'))}?refinement=1")
        left, above = page.evaluate(
            "(({left, top}) => [left, top])(document.querySelector('g[data-row] path.q0').getBoundingClientRect())"
        )
        page.mouse.move(left + 2, above + 4)
        name, _, said = page.text_content(".readout").partition(": ")
        assert said == "held by no fact"
        assert name not in page.eval_on_selector_all("svg a title", "titles => titles.map(one => one.textContent)")
        assert wrong == []


def test_the_search_answers_as_one_types(browser, served):
    with opened(browser, served) as (page, wrong):
        page.goto(f"{served}/search")
        page.fill("form[data-typing] input[type=search]", "subject 7")
        page.wait_for_selector("#facts a:has-text('subject 7')")
        assert "q=subject+7" in page.url
        assert wrong == []


def test_all_of_it_works_without_scripts(browser, served):
    with opened(browser, served, java_script_enabled=False) as (page, _):
        page.goto(served)
        page.click("a:has-text('which neurons they share')")
        page.click("svg g[data-row='0'] a[data-column='1']")
        page.wait_for_url("**/overlap/*/*")
        page.fill("header input[type=search]", "subject 7")
        page.click("header form.find button")
        page.wait_for_selector("#facts a:has-text('subject 7')")
        page.select_option("select[name=refinement]", "2")
        page.click("header button:has-text('Show')")
        assert "refinement=2" in page.url


# --- edits ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editing(rich_store, tmp_path_factory):
    """A server on a database with a real model, on which edits are allowed: its address with the token, and it."""
    folder = tmp_path_factory.mktemp("editing") / "rich"
    shutil.copytree(rich_store, folder, symlinks=True)
    settings = ServeSettings(port=0, allow_edits=True)
    with open_database(folder / "kndb.db") as database, Server(database, settings, for_shell) as server:
        threading.Thread(target=server.run, daemon=True).start()
        yield server.address, database


def test_an_edit_is_planned_applied_and_reverted_by_clicks(browser, editing):
    address, database = editing
    base = address.partition("/?")[0]
    before = database.models.get("tiny").version
    with opened(browser, base) as (page, wrong):
        page.goto(address)
        page.click("nav a:text-is('Plan')")
        form = page.locator("form:has(input[name=fact])")
        form.locator("input[name=fact]").fill("3")
        form.locator("input[name=to]").fill("Rome")
        form.locator("textarea[name=require]").fill("success>=0")
        form.locator("button").click()
        # What it would do comes by itself, and the button below it.
        page.click("#tried button:text-is('Store this edit')")
        page.wait_for_url("**/edits/*")
        number = int(page.url.rpartition("/")[2])
        page.wait_for_selector("#asked #preview tbody tr")
        page.click("a:has-text('Apply this edit')")
        page.wait_for_selector("#asked #preview tbody tr")
        assert page.text_content("#conditions tbody td") == "success >= 0 %"
        assert database.models.get("tiny").version == before
        page.click("button:text-is('Apply this edit')")
        page.wait_for_url(f"**/edits/{number}")
        assert database.edits.get(number).applied
        page.click("a:has-text('Revert this edit')")
        page.click("button:text-is('Revert this edit')")
        page.wait_for_url(f"**/edits/{number}")
        assert database.models.get("tiny").version == before
        assert wrong == []


def test_a_version_is_named_and_gone_back_to_by_clicks(browser, editing):
    address, database = editing
    base = address.partition("/?")[0]
    version = database.models.get("tiny").version
    with opened(browser, base) as (page, wrong):
        page.goto(address)
        page.click("nav a:text-is('Edits')")
        page.click("a:has-text('Name the current version of tiny')")
        page.fill("input[name=name]", "before <b>")
        page.click("button:text-is('Name this version')")
        page.wait_for_url("**/edits")
        database.edits.apply(2)
        page.click("tr:has-text('before <b>') a:text-is('go back to it')")
        assert page.locator("#steps tbody tr").count() == 1
        page.click("a:has-text('Compare both versions')")
        page.go_back()
        page.click("button:text-is('Go back to it')")
        page.wait_for_url("**/edits")
        assert database.models.get("tiny").version == version
        assert wrong == []


def test_a_form_that_is_sent_twice_says_so(browser, editing):
    address, database = editing
    base = address.partition("/?")[0]
    with opened(browser, base) as (page, _):
        page.goto(address)
        page.goto(f"{base}/snapshots?model=tiny")
        page.fill("input[name=name]", "late")
        database.edits.apply(2)
        page.click("button:text-is('Name this version')")
        assert "since this page was made" in page.text_content("#blocks .warning")
        page.click("a:has-text('Open its page again')")
        assert database.models.get("tiny").version in page.text_content("#blocks")
        database.edits.revert(2)


def test_a_neurons_tokens_come_by_themselves_and_an_error_in_their_place(browser, editing):
    address, _ = editing
    base = address.partition("/?")[0]
    with opened(browser, base) as (page, wrong):
        page.goto(address)
        page.goto(f"{base}{path_of(('models', 'tiny', 'neurons', 'L0.N1'))}")
        page.wait_for_selector("#tokens #promoted tbody tr")
        page.route("**/*tokens=1*", lambda route: route.abort())
        page.goto(f"{base}{path_of(('models', 'tiny', 'neurons', 'L0.N2'))}")
        page.wait_for_selector("#tokens .warning")
        assert "can't be reached" in page.text_content("#tokens .warning")
        page.unroute_all()
        page.click("#tokens a")
        page.wait_for_selector("#tokens #promoted tbody tr")
        assert [one for one in wrong if "ERR_FAILED" not in one] == []


def test_answers_have_a_link_where_there_are_no_scripts(browser, editing):
    address, _ = editing
    base = address.partition("/?")[0]
    with opened(browser, base, java_script_enabled=False) as (page, _):
        page.goto(address)
        page.goto(f"{base}/edits/2")
        page.click("#asked a:text-is('Ask them')")
        page.wait_for_selector("#asked #preview tbody tr")


def test_axe_finds_nothing_serious_on_pages_of_editors(browser, editing):
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    source = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    address, _ = editing
    base = address.partition("/?")[0]
    found = []
    with opened(browser, base, color_scheme="light", viewport={"width": 400, "height": 800}) as (page, wrong):
        page.goto(address)
        for one in (
            *("/edits", "/edits/1?answers=1", "/edits/2/apply?answers=1&flips=1", "/edits/1/revert?answers=1", "/plan"),
            *(
                "/plan?fact=3&to=Rome&try=1&flips=1",
                "/plan?way=together&answers=2%20Oslo&try=1&flips=1",
                "/snapshots?model=tiny",
            ),
            *("/snapshots/restore?model=tiny&name=one", "/compare?kind=versions&model=tiny&a=base&b=current"),
        ):
            page.goto(base + one)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 400, (one, wide)
            page.evaluate(source)
            for scheme, what in (("light", "{resultTypes: ['violations']}"), ("dark", "{runOnly: ['color-contrast']}")):
                page.emulate_media(color_scheme=scheme)
                violations = page.evaluate(f"axe.run({what})")["violations"]
                grave = [each for each in violations if each["impact"] in ("serious", "critical")]
                found += [(one, scheme, each["id"], each["nodes"][0]["html"][:200]) for each in grave]
        assert wrong == []
    assert found == []


SUBJECTS = "[...page.querySelectorAll('#facts tbody td:nth-child(3)')].map(cell => cell.textContent)"
FETCHED = f"""links => Promise.all(links.map(async link => {{
    const text = await (await fetch(link)).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    return {SUBJECTS};
}}))"""
"""What the pages that links lead to list as facts; addresses are made as when the links are clicked."""


def test_a_relation_of_any_name_has_a_page_that_opens(browser, oddly_named, tmp_path):
    wanted = [[f"s{fact.id - 1}"] for fact in oddly_named.facts.find()]
    relations = "links => links.map(link => link.href)"
    with Server(oddly_named, ServeSettings(port=0), for_shell) as server:
        threading.Thread(target=server.run, daemon=True).start()
        base = server.address.rstrip("/")
        with opened(browser, base) as (page, wrong):
            page.goto(f"{base}/facts")
            links = page.eval_on_selector_all("#facts tbody td:nth-child(2) a", relations)
            assert len(links) == len(wanted)
            assert page.evaluate(FETCHED, links) == wanted
            for place in (0, 1):
                page.goto(f"{base}/facts")
                page.click(f"#facts tbody tr:nth-child({place + 1}) td:nth-child(2) a")
                page.wait_for_selector(f"h1:text-is('{'.' * (place + 1)}')")
            # The model's name is a way up, too.
            page.goto(f"{base}/facts/1")
            page.click("#votes a")
            page.wait_for_selector("h1:text-is('L1.N1 of ..')")
            page.click("nav.way a:has-text('..')")
            page.wait_for_selector("h1:text-is('..')")
            assert wrong == []
    export_site(oddly_named, tmp_path / "site", words=for_shell)
    with opened(browser, "file://") as (page, wrong):
        page.goto((tmp_path / "site" / "facts.html").as_uri())
        links = page.eval_on_selector_all("#facts tbody td:nth-child(2) a", relations)
        for link, facts in list(zip(links, wanted, strict=True))[::3]:
            page.goto(link)
            assert page.evaluate(f"(page => {SUBJECTS})(document)") == facts
        assert wrong == []


def test_a_newcomer_finds_by_two_clicks_what_they_look_for(browser, rich_store, tmp_path):
    shutil.copytree(rich_store, tmp_path / "rich", symlinks=True)
    with (
        open_database(tmp_path / "rich" / "kndb.db") as database,
        Server(database, ServeSettings(port=0), for_shell) as server,
    ):
        threading.Thread(target=server.run, daemon=True).start()
        base = server.address.rstrip("/")
        with opened(browser, base) as (page, wrong):
            # The neurons that two relations share most.
            page.goto(base)
            page.click("a:has-text('which neurons they share')")
            page.wait_for_selector("svg.heat")
            keys = page.evaluate("[...document.querySelectorAll('svg g[data-row]')].map(one => one.dataset.name)")
            row, column = (next(n for n, key in enumerate(keys) if key.startswith(one)) for one in ("P36", "P37"))
            page.click(f"svg g[data-row='{row}'] a[data-column='{column}']")
            page.wait_for_selector("#shared")
            most = database.query.shared(["P36", "P37"], across=2, refinement=1)[0]
            assert page.text_content("#shared tbody td") == str(Neuron(most.layer, most.neuron))
            # The fact with most neurons, and what the model answers to it.
            page.goto(base)
            page.click("a:has-text('facts by their knowledge neurons')")
            page.click("#facts tbody tr:first-child td:nth-child(3) a")
            page.wait_for_selector("#votes")
            largest = database.query.facts(refinement=1, sort="neurons", descending=True, count=1).facts[0]
            assert page.url.startswith(f"{base}/facts/{largest.fact}?")
            assert page.text_content(".lead").startswith("The model answers “")
            # What an edit did to other facts.
            page.goto(base)
            page.click("#edits a:has-text('Paris')")
            page.wait_for_selector("h2:has-text('What it does to other facts')")
            assert wrong == []


def test_two_relations_are_chosen_by_their_names(browser, served):
    with opened(browser, served, java_script_enabled=False) as (page, wrong):
        page.goto(f"{served}/overlap?refinement=1")
        page.select_option("select[name=one]", "P36")
        page.select_option("select[name=other]", "P37")
        page.click("button:has-text('Show what they share')")
        page.wait_for_selector("h1:text-is('Neurons that P36 capital of and P37 share')")
        page.fill("header input[type=search]", "P37 P36")
        page.click("header form.find button")
        page.click("a:has-text('neurons that P37 and P36 share')")
        page.wait_for_url("**/overlap/P37/P36*")
        assert wrong == []
