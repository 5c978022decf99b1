"""`kndb import` and `kndb export` as a user meets them."""

import json

USAGE, INPUT, NOT_FOUND = 2, 3, 5


def test_neurons_of_others(kndb, kndb_json, place, small_facts):
    kndb("ingest", small_facts)
    sets = {"P36-Peru": [[0, 1], [1, 2]], "P36-Cuba": [[0, 1]], "x": [], "y": [], "z": [], "w": []}
    (place / "n.json").write_text(json.dumps(sets), encoding="utf-8")
    words = ["import", "neurons", "n.json", "--model-name", "theirs", "--layers", 2, "--neurons", 4]
    words += ["--setting", "threshold=0.3", "--setting", "by=them"]
    first = kndb(*words)
    assert "Left out 4 facts (x, y, z, …) that the store lacks" in first.err
    assert "kndb ingest PATH" in first.err
    again = kndb(*words, "--format", "json")
    assert "refinement 1 holds these sets already" in again.err
    assert again.json["unjoined"] == ["x", "y", "z", "w"]
    assert kndb("import", "neurons", "n.json", "--model-name", "theirs", "--format", "csv").out.splitlines()[1] == (
        "2,2,theirs,2,3,4,0,no"
    )
    # Every question is answered without a checkpoint.
    (top, other) = kndb_json("query", "shared", "--relation", "P36", "--refinement", 1)
    assert (top["layer"], top["neuron"], top["facts"], other["facts"]) == (0, 1, 2, 1)
    fact = kndb_json("query", "facts", "--subject", "Peru", "--relation", "P36")[0]["id"]
    assert [row["name"] for row in kndb_json("query", "neurons", fact)] == ["L0.N1", "L1.N2"]
    run = kndb_json("query", "runs")[0]
    assert (run["method"], run["version"], run["settings"]["threshold"]) == ("imported", "unknown", 0.3)
    assert kndb_json("query", "refinements")[0]["settings"] == {"imported": True, "threshold": 0.3, "by": "them"}
    for question in (["query", "runs"], ["query", "refinements"], ["query", "neurons", fact], ["db", "check"]):
        assert "None" not in kndb(*question).out
    for question in (["model", "list"], ["model", "show", "theirs"]):
        assert "kndb model add PATH --name theirs" in kndb(*question).err


def test_files_that_are_refused(kndb, place, state, small_facts):
    kndb("ingest", small_facts)
    (place / "n.csv").write_text("fact,layer,neuron\nP36-Peru,9,1\nP36-Peru,0,x\n", encoding="utf-8")
    (place / "n.json").write_text('{"P36-Peru": [[0, 1.5]]}', encoding="utf-8")
    model = ["--model-name", "m", "--layers", 2, "--neurons", 4]
    before = state()
    listed = kndb("import", "neurons", "n.csv", *model, code=INPUT).err
    assert "n.csv:2: the model has no layer 9" in listed
    assert "n.csv:3: 'neuron' must be a whole number from 0 (got 'x')" in listed
    assert "n.json: id 'P36-Peru'" in kndb("import", "neurons", "n.json", *model, code=INPUT).err
    assert "--layers 12" in kndb("import", "neurons", "n.csv", "--model-name", "m", code=USAGE).err
    assert "KEY=VALUE" in kndb("import", "neurons", "n.csv", *model, "--setting", "a", code=USAGE).err
    assert "none.csv: there is no such file" in kndb("import", "neurons", "none.csv", code=INPUT).err
    (place / "numbers.csv").write_text("fact,layer,neuron\n1,0,1\n", encoding="utf-8")
    assert "--facts-by number" in kndb("import", "neurons", "numbers.csv", *model, code=NOT_FOUND).err
    assert "meta.json" in kndb("import", "scores", "n.csv", code=INPUT).err
    assert "kndb attribute" in kndb("export", "scores", "--to", "s.csv", code=NOT_FOUND).err
    assert ".parquet" in kndb("export", "facts", "--to", "f.txt", code=USAGE).err
    assert state() == before


def test_from_one_store_to_another(kndb, kndb_json, place, use_ready, small_facts):
    use_ready()
    for what in ("facts", "neurons", "scores"):
        kndb("export", what, "--to", f"{what}.csv")
        assert "--force" in kndb("export", what, "--to", f"{what}.csv", code=USAGE).err
        kndb("export", what, "--to", f"{what}.csv", "--force", "--relation", "P36")
        kndb("export", what, "--to", f"{what}.jsonl")
    second = ["--db", "second.db"]
    kndb("import", "facts", "facts.jsonl", *second)
    kndb("import", "neurons", "neurons.jsonl", *second)
    report = kndb("import", "scores", "scores.jsonl", *second, "--format", "json").json
    assert (report["prompts"], report["unjoined"], report["missing_prompts"]) == (80, [], [])
    assert "Nothing is new" in kndb("import", "scores", "scores.csv", *second).err
    assert kndb_json("query", "refinements", *second) == kndb_json("query", "refinements")
    for name in ("neurons", "scores"):
        kndb("export", name, "--to", f"again-{name}.jsonl", *second)
        assert (place / f"again-{name}.jsonl").read_bytes() == (place / f"{name}.jsonl").read_bytes()
    kndb("refine", *second)
