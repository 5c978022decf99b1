"""Every page in a real browser: no error, no request to another host, and what scripts and keys do.

Skipped where playwright or a Chromium is missing, with the reason.
"""

import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from filled_store import HOSTILE, NAME

from kndb.cli.advice import for_shell
from kndb.database import open_database
from kndb.explorer.addresses import path_of
from kndb.explorer.server import Server, ServeSettings

PAGES = [
    *("/", "/search?q=subject", "/relations", "/relations/P36", "/facts", "/facts/11", "/neurons", "/overlap"),
    *("/overlap/P36/P37", "/edits", "/edits/1", "/compare?a=1&b=2", "/sql?query=SELECT+key+FROM+relation", "/nothing"),
    path_of(("relations", HOSTILE)),
    path_of(("models", NAME)),
    path_of(("models", NAME, "layers")),
    path_of(("models", NAME, "neurons", "L0.N1")),
]
WIDTHS = (400, 1280)

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
    for width in WIDTHS:
        with opened(browser, served, viewport={"width": width, "height": 800}, color_scheme="dark") as (page, wrong):
            for address in PAGES:
                answer = page.goto(served + address)
                if address == "/nothing":
                    assert answer.status == 404
                    wrong.clear()  # The browser says so, too.
                assert wrong == [], (address, wrong)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (address, wide)
                assert page.evaluate("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, served, scheme):
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    source = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    found = []
    with opened(browser, served, color_scheme=scheme) as (page, _):
        for address in PAGES:
            page.goto(served + address)
            page.evaluate(source)
            violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            grave = [one for one in violations if one["impact"] in ("serious", "critical")]
            found += [(address, one["id"], one["nodes"][0]["html"][:200]) for one in grave]
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
        page.hover("svg a[data-row='0'][data-column='1']")
        said = page.text_content("svg a[data-row='0'][data-column='1'] > title")
        assert page.text_content(".readout") == said
        page.focus("svg a[data-row='0'][data-column='0']")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.row") == "1"
        assert page.text_content(".readout") == page.text_content("svg a[data-row='1'][data-column='0'] > title")
        page.keyboard.press("Enter")
        page.wait_for_url("**/overlap/*/*")
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
        page.click("svg a[data-row='0'][data-column='1']")
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
