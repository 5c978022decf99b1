"""Prompts above the tolerance: what is stored, counted, warned of and checked."""

import json

import pytest

from kndb.cli.advice import for_shell
from kndb.cli.main import exit_code
from kndb.database import check_database
from kndb.database.error_words import errors_in_words, remedies
from kndb.records.attribution import ERROR_LIMIT, LayerErrors, RunErrors, error_limit

TIGHT = 1e-6
"""A tolerance that single precision leaves some prompts above, and others not."""
RESULTS = """
SELECT prompt_id, fact_id, completeness_error, worst_layer, layers_above
FROM prompt_result JOIN prompt ON prompt.id = prompt_id WHERE run_id = ?
"""


@pytest.fixture
def tight(fresh):
    """A database with a run of 80 prompts, some of which are above its tolerance."""
    database = fresh()
    database.attribution.run("tiny", tolerance=TIGHT)
    return database


def change(database, statement, *values):
    with database.store.writing() as connection:
        connection.exec_driver_sql(statement, values)


def test_counts_are_those_of_the_stored_errors(tight, sql):
    rows = sql(tight, RESULTS, 1)
    above = [row for row in rows if row[2] > TIGHT]
    assert 0 < len(above) < len(rows) == 80
    assert all(row[3] is not None for row in rows)
    assert all((row[4] is not None) == (row[2] > TIGHT) for row in rows)
    layers = {}
    for *_, error, worst, noted in above:
        for layer, value in json.loads(noted).items():
            layers.setdefault(int(layer), []).append(value)
        assert json.loads(noted)[str(worst)] == error == max(json.loads(noted).values())
        assert min(json.loads(noted).values()) > TIGHT
    errors = tight.attribution.errors(1)
    assert (errors.limit, errors.asked, errors.prompts, errors.above) == (TIGHT, True, 80, len(above))
    assert errors.worst == max(row[2] for row in rows)
    assert (errors.facts, errors.facts_above) == (16, len({row[1] for row in above}))
    assert errors.unrecorded == 0
    assert {one.layer: (one.prompts, one.worst) for one in errors.layers} == {
        layer: (len(values), pytest.approx(max(values))) for layer, values in layers.items()
    }
    assert [one.prompts for one in errors.layers] == sorted((len(one) for one in layers.values()), reverse=True)
    (run,) = tight.query.runs()
    assert run.above_tolerance == len(above)
    assert check_database(tight.store.path).sound


def test_a_loose_tolerance_leaves_none_above(attributed):
    database = attributed()
    errors = database.attribution.errors(1)
    assert (errors.above, errors.layers, errors.facts_above) == (0, (), 0)
    assert errors_in_words(errors) is None
    assert database.query.runs()[0].above_tolerance == 0


def test_fixed_rules_are_counted_over_the_usual_limit_as_information(fresh, capfd):
    database = fresh()
    words = ["attribute", "--model", "tiny", "--quadrature", "riemann-left", "--format", "json"]
    assert exit_code([*words, "--db", str(database.store.path)]) == 0
    errors = database.attribution.errors(1)
    assert (errors.limit, errors.asked) == (ERROR_LIMIT, False)
    assert errors.above > 70
    printed = capfd.readouterr()
    assert json.loads(printed.out)["above_tolerance"] == errors.above
    assert f"{errors.above} of 80 prompts" in printed.err
    assert "(fixed rule; no tolerance was asked)" in printed.err
    assert "Warning" not in printed.err


def test_methods_without_an_integral_have_no_errors(fresh):
    database = fresh()
    report = database.attribution.run("tiny", method="activation")
    assert (report.errors.prompts, report.errors.above, report.run.above_tolerance) == (0, 0, None)
    assert errors_in_words(report.errors) is None


def test_every_command_that_shows_results_says_so(tight, capfd):
    errors = tight.attribution.errors(1)
    place = ["--db", str(tight.store.path)]
    assert exit_code(["attribute", "--model", "tiny", "--tolerance", str(TIGHT), *place]) == 0
    printed = capfd.readouterr().err
    assert f"Warning: {errors.above} of 80 prompts" in printed
    assert "stay above the tolerance of 1e-06" in printed
    assert all(word in printed for word in ("--most-evaluations", "--dtype float64", "--tolerance", "layer "))
    assert exit_code(["refine", *place]) == 0
    assert f"{errors.facts_above} of 16 facts" in capfd.readouterr().err
    assert exit_code(["query", "runs", "--format", "json", *place]) == 0
    assert json.loads(capfd.readouterr().out)[0]["above_tolerance"] == errors.above
    with tight.store.reading() as connection:
        row = connection.exec_driver_sql(
            "SELECT fact_id, COUNT(*) FROM prompt_result JOIN prompt ON prompt.id = prompt_id "
            "WHERE layers_above IS NOT NULL GROUP BY fact_id"
        ).first()
    assert exit_code(["query", "fact", str(row[0]), "--format", "json", *place]) == 0
    printed = capfd.readouterr()
    assert f"{row[1]} of its prompts have a completeness error over the tolerance of 1e-06" in printed.err
    prompts = json.loads(printed.out)["prompts"]
    assert sum(prompt["above_tolerance"] is True for prompt in prompts) == row[1]
    assert {prompt["worst_layer"] for prompt in prompts if prompt["completeness_error"] is not None} <= {0, 1}


def test_results_of_an_earlier_kndb_are_said_to_be_not_recorded(tight):
    above = tight.attribution.errors(1).above
    change(tight, "UPDATE prompt_result SET worst_layer = NULL, layers_above = NULL")
    errors = tight.attribution.errors(1)
    assert (errors.above, errors.unrecorded, errors.layers) == (above, above, ())
    assert f"layers not recorded ({above} prompts, stored by an earlier kndb)" in errors_in_words(errors)
    assert check_database(tight.store.path).sound


@pytest.mark.parametrize(
    "damage",
    [
        "worst_layer = 7",
        "layers_above = NULL",
        """layers_above = '{"0": 5.0, "1": 5.0}'""",
        "layers_above = '{}'",
        "completeness_error = 3.0",
        "worst_layer = NULL",
    ],
)
def test_check_finds_layers_that_do_not_fit(tight, sql, damage):
    (number,) = sql(tight, "SELECT MIN(prompt_id) FROM prompt_result WHERE layers_above IS NOT NULL")[0]
    change(tight, f"UPDATE prompt_result SET {damage} WHERE prompt_id = ?", number)
    (problem,) = check_database(tight.store.path).problems
    assert problem.startswith("run 1: worst_layer and layers_above don't fit completeness_error for 1 prompts")
    assert problem.endswith(f"prompt {number}")


def test_layers_go_out_and_in_with_the_scores(tight, fresh, sql, tmp_path):
    for suffix in ("jsonl", "csv", "parquet"):
        tight.exchange.export_scores(tmp_path / f"scores.{suffix}")
        other = fresh()
        other.exchange.import_scores(tmp_path / f"scores.{suffix}")
        query = "SELECT prompt_id, completeness_error, worst_layer, layers_above FROM prompt_result ORDER BY 1"
        assert sql(other, query) == sql(tight, query)
        assert other.attribution.errors(1) == tight.attribution.errors(1)
        assert check_database(other.store.path).sound


# --- words -------------------------------------------------------------------------------------------------------


def summary(**changes):
    layers = tuple(LayerErrors(layer, 40 - layer, 0.16) for layer in range(7))
    values = {"limit": 1e-3, "asked": True, "prompts": 400, "above": 40, "worst": 0.1612, "facts": 50, "facts_above": 9}
    return RunErrors(**{**values, "unrecorded": 0, "layers": layers, **changes})


def test_words():
    assert errors_in_words(summary(layers=(LayerErrors(0, 1, 0.16),))) == (
        "40 of 400 prompts (10.0 %) stay above the tolerance of 0.001, at worst 0.16: "
        "in layer 0 (1 prompt, at worst 0.16)"
    )
    assert errors_in_words(summary()).endswith("layer 4 (36 prompts, at worst 0.16), 2 more layers")
    advice = for_shell(remedies(summary(), {"tolerance": 1e-3, "dtype": "float32", "most_evaluations": 120}))
    assert "(--most-evaluations 480)" in advice
    assert "--dtype float64" in advice
    assert "(--tolerance 0.2)" in advice
    assert "float64" not in remedies(summary(), {"dtype": "float64"})
    for worst, tolerance in ((0.0011, "0.002"), (0.5, "0.5"), (0.6, "1"), (6.2, "10"), (1e-3, "0.001")):
        assert f"(--tolerance {tolerance})" in for_shell(remedies(summary(worst=worst), {}))


def test_the_limit_is_the_tolerance_where_one_was_asked_for():
    assert error_limit({"tolerance": 0.01, "steps": None}) == 0.01
    assert error_limit({"tolerance": None, "steps": 20}) == error_limit({}) == ERROR_LIMIT
