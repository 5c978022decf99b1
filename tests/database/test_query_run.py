"""What a run knows of itself, against plain Python over its rows."""

import pytest
from backends import BOTH

from kndb.errors import NotFoundError, UsageError

BACKENDS = BOTH


@pytest.fixture
def database(refined_folders, db_places):
    with db_places.copy_of(refined_folders["bert"], "runs").database() as opened:
        yield opened


def test_a_runs_findings_are_those_of_its_rows(database):
    columns = "prompt_id, completeness_error, skipped, max_score, correct"
    _, rows = database.query.sql(f"SELECT {columns} FROM prompt_result WHERE run_id = 1")
    found = database.query.run(1, worst=3)
    assert found.run == database.query.runs()[0]
    errors = {row[0]: row[1] for row in rows if row[1] is not None}
    for one in found.distribution:
        inside = [error for error in errors.values() if one.above < error <= (one.up_to or float("inf"))]
        assert one.prompts == len(inside)
    assert sum(one.prompts for one in found.distribution) + sum(error == 0 for error in errors.values()) >= len(errors)
    assert found.distribution[0].prompts
    assert found.distribution[-1].prompts
    assert [(one.prompt, one.error) for one in found.worst] == sorted(
        errors.items(), key=lambda one: (-one[1], one[0])
    )[:3]
    known = [bool(row[4]) for row in rows if row[3] is not None]
    assert found.trust["correct"] == pytest.approx(sum(known) / len(known))
    assert sum(found.skipped.values()) == sum(row[2] is not None for row in rows) == found.run.skipped
    assert found.errors == database.attribution.errors(1)
    assert database.query.finished(1) == found.run.finished_at is not None


def test_a_run_that_is_not_there_and_a_wrong_number_are_refused(database):
    for wrong in (database.query.run, database.query.finished):
        with pytest.raises(NotFoundError, match="no run 9"):
            wrong(9)
    with pytest.raises(UsageError, match="worst"):
        database.query.run(1, worst=-1)
    assert database.query.run(1, worst=0).worst == ()


def test_errors_on_a_bound_belong_below_it(database):
    with database.store.writing() as connection:
        execute = connection.exec_driver_sql
        execute("UPDATE prompt_result SET completeness_error = NULL, worst_layer = NULL, layers_above = NULL")
        numbers = [row[0] for row in execute("SELECT prompt_id FROM prompt_result WHERE run_id = 1 ORDER BY prompt_id")]
        for prompt, error in zip(numbers, (0.0, 1e-3, 1.0000001e-3, 25.0), strict=False):
            execute(
                f"UPDATE prompt_result SET completeness_error = {error!r} WHERE run_id = 1 AND prompt_id = {prompt}"
            )
    found = database.query.run(1).distribution
    assert [(one.above, one.up_to, one.prompts) for one in found if one.prompts] == [
        (0.0, 1e-7, 1),
        (1e-4, 1e-3, 1),
        (1e-3, 1e-2, 1),
        (10.0, None, 1),
    ]
    assert len(found) == 10
