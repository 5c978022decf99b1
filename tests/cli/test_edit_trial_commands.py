"""`kndb edit bench`, `sweep` and `trials`, as a user meets them."""

import pytest

SMALL = ("--model", "tiny", "--facts", 3, "--intra", 2, "--inter", 2, "--max-share", 1)


def test_a_bench_is_printed_stored_and_drawn(use_ready, kndb, kndb_json, tmp_path):
    use_ready()
    outcome = kndb("edit", "bench", *SMALL, "--at", "1,3", "--plot", tmp_path / "decay.svg")
    assert "Trial 1, a bench of model tiny" in outcome.err
    assert (tmp_path / "decay.svg").read_text().startswith("<?xml")
    rows = kndb_json("edit", "trials", 1)
    assert [(row["part"], row["edits"], row["weights"]) for row in rows] == [
        (part, edits, weights)
        for part, edits in (("single", 1), ("cumulative", 1), ("cumulative", 3))
        for weights in ("edit", "random neurons")
    ]
    assert all(row["success_low"] <= row["success"] <= row["success_high"] for row in rows)
    assert [row["status"] for row in kndb_json("edit", "trials")] == ["complete"]
    again = kndb("edit", "bench", *SMALL, "--at", "1,3", "--format", "csv")
    assert "Trial 1, a bench" in again.err


def test_a_sweep_is_printed_and_drawn(use_ready, kndb, kndb_json, tmp_path):
    use_ready()
    words = ("--lambda-new", "1,8", "--neurons", "1,all")
    rows = kndb_json("edit", "sweep", *SMALL, *words)
    assert [(row["lambda_new"], row["neurons"], row["weights"]) for row in rows][::2] == [
        (1.0, 1, "edit"),
        (1.0, None, "edit"),
        (8.0, 1, "edit"),
        (8.0, None, "edit"),
    ]
    kndb("edit", "trials", 1, "--plot", tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    assert "λ₂" not in kndb("edit", "trials", 1).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bench", "--at", "1,x"), "--at must be whole numbers with commas between them (got '1,x')"),
        (("bench", "--at", ","), "--at must have values"),
        (("bench", "--method", "rome"), "--method must be update or optimize (got rome)"),
        (
            ("sweep", "--neurons", "0"),
            "--neurons must be numbers of at least 1, or all",
        ),
        (("sweep", "--lambda-new", "a"), "--lambda-new must be a number of at least 0, or auto (got 'a')"),
        (("bench", "--plot", "x.gif"), "must end in .png, .svg or .pdf"),
    ],
)
def test_words_that_make_no_sense(use_ready, kndb, words, message):
    use_ready()
    name, *rest = words
    assert message in kndb("edit", name, *SMALL, *rest, code=2).err


def test_a_plot_is_of_one_trial(use_ready, kndb):
    use_ready()
    assert "--plot draws one trial" in kndb("edit", "trials", "--plot", "x.png", code=2).err
    assert "no trial 4" in kndb("edit", "trials", 4, code=5).err
