"""`kndb edit bench`, `sweep` and `trials`, as a user meets them."""

import pytest

SMALL = ("--model", "tiny", "--facts", 3, "--intra", 2, "--inter", 2, "--max-share", 1)


def test_a_bench_is_printed_stored_and_drawn(use_ready, kndb, kndb_json, tmp_path):
    use_ready()
    outcome = kndb("edit", "bench", *SMALL, "--sizes", "1,3", "--plot", tmp_path / "decay.svg")
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
    again = kndb("edit", "bench", *SMALL, "--sizes", "1,3", "--format", "csv")
    assert "Trial 1, a bench" in again.err


COMPARED = ("edit", "bench", "--model", "tiny", "--method", "finetune", "--method", "update", "--facts", 3)


def test_methods_are_compared_stored_and_drawn(use_ready, kndb, kndb_json, place, tmp_path):
    use_ready()
    (place / "settings.json").write_text('{"finetune": {"steps": 9, "bound": 1}, "update": {"max_share": 1}}')
    words = (*COMPARED, "--sizes", "1,3", "--intra", 2, "--inter", 2, "--set", "finetune.steps=2", "--share", 0.4)
    words = (*words, "--settings", "settings.json", "--relation", "P36", "--known", 0.5)
    outcome = kndb(*words, "--plot", tmp_path / "methods.svg")
    assert "Trial 1, a bench of model tiny" in outcome.err
    assert (tmp_path / "methods.svg").read_text().startswith("<?xml")
    rows = kndb_json("edit", "trials", 1)
    assert [(row["method"], row["edits"], row["weights"]) for row in rows] == [
        ("finetune", 1, "edit"),
        ("finetune", 3, "edit"),
        *(("update", size, weights) for size in (1, 3) for weights in ("edit", "random neurons")),
    ]
    for row in rows:
        assert row["ES_low"] <= row["ES"] <= row["ES_high"]
        assert (row["seconds"] is None) is (row["weights"] != "edit")
    (listed,) = kndb_json("edit", "trials")
    methods, settings = listed["settings"]["methods"], listed["settings"]
    assert [(one["method"], one.get("steps"), one.get("bound")) for one in methods] == [
        ("finetune", 2, 1.0),
        ("update", None, None),
    ]
    assert (settings["sizes"], settings["seeds"], settings["share"], settings["known"]) == ([1, 3], [0], 0.4, 0.5)
    assert "finetune, update" in kndb("edit", "trials", "--wide").out
    # All is measured already.
    assert "Trial 1, a bench" in kndb(*words, "--format", "csv").err


def test_a_method_without_neurons_needs_no_refinement(use_ready, kndb):
    use_ready()
    words = ("edit", "bench", "--model", "tiny", "--method", "finetune", "--sizes", 1, "--set", "finetune.steps=1")
    assert "Refinement" not in kndb(*words, "--seeds", "0,1", "--intra", 2, "--inter", 2).err
    assert "--refinement is for methods that change knowledge neurons" in kndb(*words, "--refinement", 1, code=2).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "knife"), "--method must be one of update, optimize, together"),
        (("--method", "update"), "--method must name each method once (got finetune, update, update)"),
        (("--set", "finetune.step=1"), "finetune has no setting 'step'"),
        (("--set", "steps=1"), "--set must be METHOD.SETTING=VALUE, such as memit.preserve=0.3 (got 'steps=1')"),
        (("--set", "finetune.steps=1", "--set", "finetune.steps.x=1"), "names a setting within steps"),
        (
            ("--set", "memit.rounds=1"),
            "settings are given for memit, which is not among the methods (finetune, update)",
        ),
        (("--keep", 3), "--keep is of a bench of update or optimize alone"),
        (("--sizes", 0), "--sizes must be at least 1 (got 0)"),
        (("--known", 1.1), "--known must be a number from 0 to 1 (got 1.1)"),
        (("--share", 1), "--share must be a number of at least 0, under 1"),
        (("--seeds", "a"), "--seeds must be whole numbers"),
    ],
)
def test_comparisons_that_make_no_sense(use_ready, kndb, words, message):
    use_ready()
    assert message in kndb(*COMPARED, *words, code=2).err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "settings.json must be a JSON object with the settings of each method"),
        ("{", "settings.json must be a JSON object with the settings of each method"),
        ("[" * 100_000, "settings.json must be a JSON object with the settings of each method"),
        ('{"memit": 3}', "settings.json must be a JSON object with the settings of each method"),
        ('{"knife": {}}', "settings.json has settings of 'knife', and the methods are update, optimize"),
        (" " * (1 << 20) + "{}", "settings.json"),
    ],
)
def test_files_of_settings_that_are_none(use_ready, kndb, place, content, message):
    use_ready()
    (place / "settings.json").write_text(content)
    assert message in kndb(*COMPARED, "--settings", "settings.json", code=3).err


def test_cases_are_drawn_printed_and_written(use_ready, kndb, kndb_json, place):
    use_ready()
    rows = kndb_json("edit", "cases", "--model", "tiny", "--relation", "P37", "--count", 3, "--neighbours", 2)
    assert len(rows) == 3
    assert all(row["relation"] == "P37" and row["to"] != row["object"] for row in rows)
    words = ("edit", "cases", "--model", "tiny", "--relation", "P37", "--count", 3, "--neighbours", 2)
    outcome = kndb(*words, "--out", "cases.json", "--as", "counterfact")
    assert "Wrote 3 cases of model tiny at v" in outcome.err
    planned = kndb_json("edit", "update", "--model", "tiny", "--facts", "cases.json", "--max-share", 1)
    assert [edit["what"].rpartition(" → ")[2] for edit in planned] == [row["to"] for row in rows]
    assert "--force" in kndb(*words, "--out", "cases.json", code=2).err
    assert (
        "--as and --force are of a file; name it with --out FILE"
        in kndb(*words, "--as", "lines", "--force", code=2).err
    )
    assert "2 facts that were drawn are no cases" not in outcome.err


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
        (("bench", "--sizes", "1,x"), "--sizes must be whole numbers with commas between them (got '1,x')"),
        (("bench", "--sizes", ","), "--sizes must have values"),
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
