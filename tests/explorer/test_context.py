"""What stands at the top of pages: model, method, refinement, run and version, and what to know of them."""

import json

import pytest
from asgi import ask
from filled_store import BASE, fill
from html_pages import Html

from kndb.cli.advice import for_shell
from kndb.database import open_database
from kndb.database.error_words import errors_in_words
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules

SKIPPED = "Skipped 1 prompt: the answer is several tokens in this tokenizer."


@pytest.fixture(scope="module")
def wronged(tmp_path_factory):
    """The filled store, with two prompts of run 1 above its tolerance and one that was skipped."""
    with open_database(tmp_path_factory.mktemp("wronged") / "kndb.db") as database:
        fill(database, experiments=True)
        with database.store.writing() as connection:
            execute = connection.exec_driver_sql
            above = "UPDATE prompt_result SET completeness_error = ?, worst_layer = ?, layers_above = ? "
            for prompt, error, layer in ((5, 0.5, 1), (6, 0.02, 2)):
                values = (error, layer, json.dumps({str(layer): error}), prompt)
                execute(f"{above} WHERE run_id = 1 AND prompt_id = ?", values)
            execute(
                "UPDATE prompt_result SET skipped = 'answer-of-several-tokens', max_score = NULL, "
                "completeness_error = NULL WHERE run_id = 1 AND prompt_id = 7"
            )
        yield database


@pytest.fixture(scope="module")
def pages(wronged):
    return Explorer(wronged, Rules(), for_shell)


def top(application, address):
    """What the head of a page says."""
    head = ask(application, address).text.partition("<main")[0]
    return " ".join(" ".join(Html(f"{head}</body></html>").text).split())


@pytest.mark.parametrize(
    "address", ["/", "/facts", "/facts/2", "/relations/P36", "/neurons", "/overlap", "/runs/1", "/refinements/1"]
)
def test_a_run_with_faults_is_told_on_each_page_that_speaks_of_it(pages, wronged, address):
    said = top(pages, address)
    errors = wronged.attribution.errors(1)
    assert (errors.above, errors.prompts) == (2, 59)
    assert f"Warning: {errors_in_words(errors)}." in said
    assert SKIPPED in said
    assert "Refinement 1 of run 1 (integrated-gradients" in said
    assert "tolerance 0.001" in said


def test_the_links_go_to_the_run_and_the_refinement(pages):
    links = Html(ask(pages, "/facts").text).links
    assert "/runs/1?refinement=1" in links
    assert "/refinements/1?refinement=1" in links


def test_a_method_narrows_the_refinements_and_chooses_among_them(pages):
    def context(query):
        return ask(pages, f"/facts.json?{query}").json()["context"]

    assert context("")["method"] == "integrated-gradients"
    assert (context("method=activation")["refinement"], context("method=activation")["run"]) == (2, 2)
    assert context("method=activation&refinement=1")["refinement"] == 2
    said = top(pages, "/facts?method=activation&refinement=1")
    assert "Left out: refinement 1, which is by integrated-gradients." in said
    assert "refinement=2&method=activation" in "".join(Html(ask(pages, "/facts?method=activation").text).links)
    page = Html(ask(pages, "/facts?method=activation").text)
    chosen = [attributes["value"] for tag, attributes in page.tags if tag == "option" and "value" in attributes]
    assert "1" not in chosen
    assert "2" in chosen
    text = " ".join(Html(ask(pages, "/facts?method=nothing").text).text)
    assert text.count("--method nothing: no refinement is by this method") == 1
    assert "--method nothing: no refinement is by this method" in top(pages, "/edits?method=nothing")


def test_a_refinement_that_is_no_usual_one_is_told_though_it_is_named(pages):
    for address in ("/facts?refinement=2", "/relations/P36?method=activation", "/refinements/2"):
        assert "its scores are by activation" in top(pages, address), address
    assert "answers:" not in top(pages, "/facts?refinement=1")


def test_another_version_than_the_runs_is_told(edited):
    application = Explorer(edited, Rules(), for_shell)
    run, current = edited.query.refinement(1).version[:12], edited.models.resolve_version("tiny")[:12]
    assert run != current
    said = top(application, "/facts?refinement=1")
    assert f"Run 1 was computed on version {run}, and the current version is {current}: its neurons are those" in said
    assert "was computed on" not in top(application, "/facts?refinement=1&version=base")
    assert "no version 'none'" in top(application, "/facts?refinement=1&version=none")


def test_a_run_tells_settings_errors_and_reasons(pages, wronged):
    data = ask(pages, "/runs/1.json").json()
    found = wronged.query.run(1)
    assert data["values"]["Prompts with scores"] == found.run.prompts == 59
    assert data["values"]["Model version"] == BASE
    assert data["values"]["tolerance"] == 0.001
    assert [(row["reason"], row["prompts"]) for row in data["tables"]["skipped"]] == [("answer-of-several-tokens", 1)]
    assert [(row["layer"], row["prompts"], row["worst"]) for row in data["tables"]["layers"]] == [
        (1, 1, 0.5),
        (2, 1, 0.02),
    ]
    assert [row["error"] for row in data["tables"]["worst"]][:2] == [0.5, 0.02]
    assert [row["id"] for row in data["tables"]["refinements"]] == [1]
    texts = Html(ask(pages, "/runs/1").text).text
    bars = [text for text in texts if text.startswith("completeness error ") and ";" not in text]
    assert sum(int(text.partition(": ")[2].split()[0]) for text in bars) == 59
    assert sum(text.endswith("above the limit") for text in bars) == 3  # To 0.01, to 0.1 and to 1.
    scores = ask(pages, "/runs/2").text
    assert "no integrals" in scores
    assert ask(pages, "/runs/9").status == ask(pages, "/refinements/9").status == 404


def test_the_top_of_a_model_known_by_results_alone_offers_no_version(tmp_path):
    sets, facts = tmp_path / "sets.csv", tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"relation": "P1", "subject": "s", "object": "o"}) + "\n", "utf-8")
    sets.write_text("fact,relation,subject,object,layer,neuron\n1,P1,s,o,1,7\n", "utf-8")
    with open_database(tmp_path / "kndb.db") as database:
        database.facts.ingest([facts])
        database.exchange.import_neurons([sets], model_name="elsewhere", layers=2, neurons=9)
        application = Explorer(database, Rules(), for_shell)
        said = top(application, "/facts?refinement=1")
        assert "its sets were imported" in said
        assert "Version unknown" in said
        assert "no version" not in said
        run = " ".join(Html(ask(application, "/runs/1").text).text)
        assert "Its results were imported: no completeness errors came with them." in run
