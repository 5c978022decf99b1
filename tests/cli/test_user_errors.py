"""Every mistake a user can make: a message that helps, the documented exit code, and nothing changed."""

import json
import re
import shutil
import sqlite3

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kndb import errors
from kndb.database import check_database, open_database
from kndb.store import runs

USAGE, INPUT, STORE, NOT_FOUND = 2, 3, 4, 5
MODEL, ATTRIBUTION, EDIT = 6, 7, 8
OUTPUT = 10
ATTRIBUTE = ("attribute", "--model", "tiny")
UPDATE = ("edit", "update", "--model", "tiny", "--fact", 1, "--max-share", 1)
ASK = ("ask", "--model", "tiny")


@pytest.fixture
def refused(kndb, place, state):
    """Runs a command that must fail: exit code, message on stderr alone, the database sound and as before."""

    def run(code, patterns, *words, sound=True):
        before = state()
        outcome = kndb(*words, code=code)
        assert outcome.out == ""
        for pattern in patterns:
            assert re.search(pattern, outcome.err), f"no {pattern!r} in: {outcome.err}"
        assert state() == before
        if (place / "kndb.db").exists() and sound:
            assert check_database("kndb.db").sound
        return outcome.err

    return run


def test_the_codes_are_those_of_the_errors():
    assert (errors.UsageError.exit_code, errors.InputError.exit_code) == (USAGE, INPUT)
    assert (errors.StoreError.exit_code, errors.NotFoundError.exit_code) == (STORE, NOT_FOUND)
    assert (errors.ModelError.exit_code, errors.AttributionError.exit_code) == (MODEL, ATTRIBUTION)
    assert (errors.EditError.exit_code, errors.DemoError.exit_code) == (EDIT, 9)
    assert errors.OutputError.exit_code == OUTPUT


ON_READY = [
    # Names and numbers of nothing.
    (NOT_FOUND, ["'P99'", "nearest|none is near", "kndb query relations"], "query shared --relation P99"),
    (NOT_FOUND, ["'p63'", "nearest are .*P36"], "query facts --relation p63"),
    (NOT_FOUND, ["'P99'"], "attribute --model tiny --relation P99"),
    (NOT_FOUND, ["'P99'"], "edit erase --model tiny --relation P99"),
    (NOT_FOUND, ["'tinny'", "did you mean tiny", "kndb model add"], "attribute --model tinny"),
    (NOT_FOUND, ["'other'", "registered: tiny"], "model show other"),
    (NOT_FOUND, ["'other'"], "ask --model other x"),
    (NOT_FOUND, ["'other'"], "edit update --model other --fact 1 --to Rome"),
    (NOT_FOUND, ["'other'"], "edit list --model other"),
    (NOT_FOUND, ["'other'"], "edit log --model other"),
    (NOT_FOUND, ["'other'"], "snapshot list --model other"),
    (NOT_FOUND, ["'other'"], "snapshot create s --model other"),
    (NOT_FOUND, ["'other'"], "query shared --relation P36 --model other"),
    (NOT_FOUND, ["'other'"], "query runs --model other"),
    (NOT_FOUND, ["'other'"], "query refinements --model other"),
    (NOT_FOUND, ["'other'"], "refine --model other"),
    (NOT_FOUND, ["99", "kndb query facts"], "query neurons 99"),
    (NOT_FOUND, ["99", "kndb query facts"], "edit update --model tiny --fact 99 --to Rome"),
    (NOT_FOUND, ["run", "99", "kndb query runs"], "refine --run 99"),
    (NOT_FOUND, ["refinement 99", "kndb query refinements"], "query shared --relation P36 --refinement 99"),
    (NOT_FOUND, ["refinement 99"], "edit erase --model tiny --relation P36 --refinement 99"),
    (NOT_FOUND, ["edit.* 99", "kndb edit list"], "edit apply 99"),
    (NOT_FOUND, ["edit.* 99"], "edit revert 99"),
    (NOT_FOUND, ["edit.* 99"], "edit show 99"),
    (NOT_FOUND, ["edit.* 99"], "edit eval 99"),
    (NOT_FOUND, ["'nowhere'", "base", "kndb snapshot list"], "snapshot restore nowhere --model tiny"),
    (NOT_FOUND, ["'nowhere'"], "snapshot export nowhere --model tiny --out exported"),
    (NOT_FOUND, ["'v0000'"], "snapshot create s --model tiny --version v0000"),
    (NOT_FOUND, ["'v0000'", "current"], "ask --model tiny --version v0000 [MASK]."),
    # Options that make no sense.
    (USAGE, ["--batch-size must be auto or.*got '-3'"], "attribute --model tiny --batch-size -3"),
    (USAGE, ["--batch-size must be at least 1 .got 0"], "attribute --model tiny --batch-size 0"),
    (USAGE, ["--batch-size must be auto or.*got 'many'"], "attribute --model tiny --batch-size many"),
    (USAGE, ["--quadrature", "bisection.*linspace.*'simpson'"], "attribute --model tiny --quadrature simpson"),
    (
        USAGE,
        ["--method must be.*integrated-gradients.*got 'guess'", "kndb methods"],
        "attribute --model tiny --method guess",
    ),
    (USAGE, ["--target must be gold, predicted.*empty"], ["attribute", "--model", "tiny", "--target", " "]),
    (USAGE, ["--dtype must be.*float32.*bfloat16.*got 'float8'"], "attribute --model tiny --dtype float8"),
    (
        USAGE,
        ["--dtype tf32 needs a CUDA device .this is cpu", "use --dtype float32"],
        "attribute --model tiny --dtype tf32 --device cpu",
    ),
    (USAGE, ["--tolerance", "positive.*got 0"], "attribute --model tiny --tolerance 0"),
    (USAGE, ["--tolerance.*got nan"], "attribute --model tiny --tolerance nan"),
    (USAGE, ["--steps", "1 to.*got 0"], "attribute --model tiny --steps 0"),
    (USAGE, ["--floor must be", "0 to 1 .got 2"], "attribute --model tiny --floor 2"),
    (USAGE, ["--floor must be.*got -0.1"], "attribute --model tiny --floor -0.1"),
    (USAGE, ["--device nosuch", "auto, cpu"], "attribute --model tiny --device nosuch"),
    (USAGE, ["--device cuda:99", "auto, cpu"], "attribute --model tiny --device cuda:99"),
    (USAGE, ["--device cuda:99"], "ask --model tiny --device cuda:99 [MASK]."),
    (USAGE, ["'meta'", "auto, cpu"], "attribute --model tiny --device meta"),
    (USAGE, ["--share must be.*got 0"], "refine --share 0"),
    (USAGE, ["--share must be.*got 1.5"], "refine --share 1.5"),
    (USAGE, ["--threshold must be.*got 0"], "refine --threshold 0"),
    (USAGE, ["--threshold must be.*got 1.1"], "refine --threshold 1.1"),
    (USAGE, ["--min-prompts must be at least 1 .got 0"], "refine --min-prompts 0"),
    (NOT_FOUND, ["run 99", "kndb query runs"], "attribute --model tiny --run 99"),
    (NOT_FOUND, ["'v0000'", "current"], "attribute --model tiny --version v0000"),
    (
        ATTRIBUTION,
        ["run 1 has floor=0.1, not floor=0.3", "Leave out --run"],
        "attribute --model tiny --run 1 --floor 0.3",
    ),
    (ATTRIBUTION, ["run 1 has method=.*not method='random'"], "attribute --model tiny --run 1 --method random"),
    (ATTRIBUTION, ["run 1 kept no scores below zero", "--negative"], "refine --run 1 --negative"),
    (ATTRIBUTION, ["--threshold 0.05", "floor 0.1", "attribute again with --floor 0.05"], "refine --threshold 0.05"),
    (USAGE, ["--top must be at least 1", "got 0"], "query shared --relation P36 --top 0"),
    (USAGE, ["--min-share must be from 0 to 1", "got 1.2"], "query shared --relation P36 --min-share 1.2"),
    (USAGE, ["--limit must be at least 1", "got -1"], "query facts --limit -1"),
    (USAGE, ["--top must be at least 1"], "edit erase --model tiny --relation P36 --top 0"),
    (USAGE, ["--lambda-old must be", "got -1"], "edit update --model tiny --fact 1 --to Rome --lambda-old -1"),
    (USAGE, ["or auto .got nan"], "edit update --model tiny --fact 1 --to Rome --lambda-new nan"),
    (USAGE, ["--max-share must be a number above 0"], "edit update --model tiny --fact 1 --to Rome --max-share 0"),
    (USAGE, ["--top must be at least 1 .got 0"], "ask --model tiny --top 0 [MASK]."),
    (USAGE, ["sqlite:///PATH", "postgresql"], "db info --db mysql://host/name"),
    (USAGE, ["Usage|Missing|required"], "query shared"),
    (USAGE, ["Usage|No such option"], "query facts --no-such-option"),
    (USAGE, ["'first' is not a fact's number", "kndb query facts --subject first"], "query neurons first"),
    (USAGE, ["Usage|Invalid value"], "query facts --format xml"),
    (USAGE, ["Usage|No such command"], "learn"),
    # Files.
    (INPUT, ["nowhere.jsonl", "no such file"], "ingest nowhere.jsonl"),
    (USAGE, ["--input-format must be one of", "got 'xml'"], "ingest nowhere.jsonl --input-format xml"),
    (MODEL, ["there is no folder ./nowhere"], "model add ./nowhere"),
    (MODEL, ["no config.json"], "model add kndb.objects"),
    (MODEL, ["'no-such-name'", "no folder here", "lab-bert"], "model add no-such-name"),
    (USAGE, ["--family must be one of bert, gpt2 .got 't5'"], "lab train --family t5 --out new"),
    (USAGE, ["kndb.objects exists already", "--force"], "lab train --family bert --out kndb.objects"),
    (USAGE, ["no checkpoint in kndb.objects"], "lab train --family bert --out kndb.objects --force"),
    (USAGE, ["no checkpoint in kndb.db"], "lab train --family bert --out kndb.db --force"),
    # Edits.
    (
        EDIT,
        ["several tokens", "one token, or plan it with kndb edit optimize --together"],
        [*UPDATE, "--to", "San Jose"],
    ),
    (EDIT, ["unknown to this tokenizer", "one token"], [*UPDATE, "--to", "東"]),
    (EDIT, ["the model answers 'Paris' already"], [*UPDATE, "--to", "Paris"]),
    (EDIT, ["can't name a snapshot"], ["snapshot", "create", " ", "--model", "tiny"]),
    (EDIT, ["means a version already"], "snapshot create base --model tiny"),
    # Questions.
    (USAGE, ["has 0 blanks", "kndb ask .*--model tiny"], [*ASK, "The capital of France is"]),
    (USAGE, ["has 2 blanks"], [*ASK, "[MASK] and [Y]"]),
    (USAGE, ["more tokens than the model"], [*ASK, "France " * 80 + "[MASK]"]),
]


@pytest.mark.parametrize(
    ("code", "patterns", "words"),
    ON_READY,
    ids=[str(words)[:70] if isinstance(words, str) else None for _, _, words in ON_READY],
)
def test_a_mistake_changes_nothing(refused, use_ready, place, code, patterns, words):
    use_ready()
    (place / "kndb.objects").mkdir()
    refused(code, patterns, *(words.split() if isinstance(words, str) else words))


@pytest.mark.parametrize(
    "words",
    [
        "query facts",
        "query relations",
        "query runs",
        "query refinements",
        "query neurons 1",
        "query shared --relation P36",
        "model list",
        "model show tiny",
        "edit list",
        "edit log",
        "edit show 1",
        "snapshot list",
        "snapshot export s --model tiny --out new",
        "db info",
        "db check",
        "db upgrade",
        "db backup copy.db",
        "attribute --model tiny",
        "refine",
        "ask --model tiny [MASK].",
        "edit update --model tiny --fact 1 --to Rome",
        "edit erase --model tiny --relation P36",
        "edit apply 1",
        "edit revert 1",
        "edit revert 1 --cascade",
        "edit revert 1 --rebase",
        "edit diff base current --model tiny",
        "edit verify",
        "snapshot show s --model tiny",
        "snapshot delete s --model tiny",
        "edit eval 1",
        "snapshot create s --model tiny",
        "snapshot restore s --model tiny",
    ],
)
def test_commands_that_need_a_database(refused, place, words):
    refused(STORE, [r"no database at .*kndb\.db", "kndb db init"], *words.split())
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    ["query facts", "db info", "db init", "db upgrade", "ingest list.jsonl", "ask --model tiny [MASK]"],
)
@pytest.mark.parametrize("content", ["text", "another database"])
def test_a_file_that_is_no_database_of_ours_stays_as_it_is(kndb, place, words, content):
    (place / "list.jsonl").write_text(json.dumps({"relation": "P1", "subject": "a", "object": "b"}), encoding="utf-8")
    path = place / "kndb.db"
    if content == "text":
        path.write_text("this is no database, but a text of some length\n" * 20, encoding="utf-8")
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()
        connection.close()
    before = path.read_bytes()
    outcome = kndb(*words.split(), code=STORE)
    assert re.search("not an SQLite database|kndb", outcome.err)
    assert path.read_bytes() == before


def test_check_finds_that_a_file_is_no_database(kndb, place):
    (place / "kndb.db").write_text("this is no database\n" * 20, encoding="utf-8")
    assert "not an SQLite database" in kndb("db", "check", code=STORE).err


def test_attributing_nothing(refused, kndb, small_models):
    kndb("model", "add", small_models["bert"], "--name", "tiny")
    refused(ATTRIBUTION, ["no prompts to attribute", "kndb ingest"], *ATTRIBUTE)
    refused(NOT_FOUND, ["there is no run", "kndb attribute"], "refine")
    refused(NOT_FOUND, ["no refinement of model 'tiny' yet", "kndb refine"], *UPDATE, "--to", "Rome")


def test_the_same_name_for_another_checkpoint(refused, kndb_json, use_ready, small_models):
    use_ready()
    again = kndb_json("model", "add", small_models["bert"], "--name", "tiny")
    assert again["id"] == 1
    refused(MODEL, ["'tiny' stands for", "--name"], "model", "add", small_models["gpt2"], "--name", "tiny")


def test_an_architecture_without_adapter(refused, kndb, place):
    kndb("db", "init")
    (place / "strange").mkdir()
    config = {"model_type": "mamba", "architectures": ["MambaForCausalLM"]}
    (place / "strange" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(MODEL, ["mamba", "bert", "gpt2"], "model", "add", "strange")


def test_an_unfinished_run_is_not_refined(refused, kndb, use_ready, monkeypatch):
    use_ready()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs, "finish_run", interrupted)
        kndb(*ATTRIBUTE, "--floor", 0.05, code=130)
    refused(ATTRIBUTION, ["run 2 is not complete", "kndb attribute", "--allow-incomplete"], "refine", "--run", 2)
    refused(ATTRIBUTION, ["run 2 is not complete"], "refine")
    kndb("refine", "--allow-incomplete")
    kndb(*ATTRIBUTE, "--floor", 0.05)
    kndb("refine")


def test_an_update_needs_neurons(refused, kndb, kndb_json, use_ready, place):
    use_ready()
    line = {"relation": "P36", "subject": "Chad", "object": "Rome"}
    (place / "more.jsonl").write_text(json.dumps(line), encoding="utf-8")
    kndb("ingest", "more.jsonl")
    (fact,) = kndb_json("query", "facts", "--subject", "Chad")
    patterns = ["⟨Chad, P36, Rome⟩ has no knowledge neurons", "kndb attribute --model tiny --relation P36", "--share"]
    refused(EDIT, patterns, *UPDATE, "--fact", fact["id"], "--to", "Oslo")
    assert kndb_json("query", "neurons", fact["id"]) == []
    line = {"relation": "P40", "subject": "Chad", "object": "Rome", "template": "[X] and [Y]."}
    (place / "more.jsonl").write_text(json.dumps(line), encoding="utf-8")
    kndb("ingest", "more.jsonl")
    erase = ("edit", "erase", "--model", "tiny", "--relation", "P40")
    refused(EDIT, ["no fact of P40 has a knowledge neuron", "kndb attribute --model tiny --relation P40"], *erase)


def test_neurons_that_too_many_facts_hold(refused, kndb, use_ready):
    use_ready()
    message = refused(EDIT, ["held by more than 0.001 of"], *UPDATE, "--max-share", 0.001, "--to", "Oslo")
    least = re.search(r"--max-share (\S+) or above", message)[1]
    # The share that the message names does let a neuron in.
    kndb(*UPDATE, "--max-share", least, "--to", "Oslo")


def test_a_refinement_of_another_model(refused, kndb, use_ready, small_models):
    use_ready()
    kndb("model", "add", small_models["gpt2"], "--name", "other")
    words = ("edit", "erase", "--model", "other", "--relation", "P36", "--refinement", 1)
    refused(USAGE, ["--refinement 1 is of model 'tiny', not 'other'", "kndb query refinements"], *words)


def test_steps_that_can_not_be_taken(refused, kndb, kndb_json, use_ready):
    use_ready()
    for top in (3, 2):
        kndb("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", top)
    refused(EDIT, ["edit 1 is not applied", "kndb edit apply 1"], "edit", "revert", 1)
    kndb("edit", "apply", 1)
    refused(EDIT, ["edit 1 is applied already", "kndb edit revert 1"], "edit", "apply", 1)
    # Overlapping edits: the one that is in the way is named, with the command that clears it.
    refused(EDIT, ["edit 2 can't be applied", "edit 1 changed them", "kndb edit revert 1"], "edit", "apply", 2)
    kndb("edit", "revert", 1)
    kndb("edit", "apply", 2)
    refused(EDIT, ["edit 1 can't be applied", "edit 2 changed them"], "edit", "apply", 1)


def test_an_edit_that_holds_another_down(refused, kndb, kndb_json, use_ready):
    use_ready()
    first = kndb_json(*UPDATE, "--to", "Oslo")
    kndb("edit", "apply", 1)
    second = kndb_json(*UPDATE, "--to", "Rome")
    assert first["recipe"]["neurons"] == second["recipe"]["neurons"]
    kndb("edit", "apply", 2)
    refused(EDIT, ["edit 1 can't be taken out", "edit 2, applied later", "kndb edit revert 2"], "edit", "revert", 1)
    kndb("edit", "revert", 2)
    kndb("edit", "revert", 1)
    refused(EDIT, ["edit 2 can't be applied", "builds on edit 1", "kndb edit apply 1"], "edit", "apply", 2)


def test_an_erase_of_zeroed_slots_changes_nothing(refused, kndb, use_ready):
    use_ready()
    erase = ("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 2)
    kndb(*erase)
    kndb("edit", "apply", 1)
    refused(EDIT, ["would change no value slot"], *erase)


def test_a_snapshot_name_that_is_taken(refused, kndb, use_ready):
    use_ready()
    kndb("snapshot", "create", "first", "--model", "tiny")
    message = ["'first' already", "new name", "kndb snapshot list"]
    refused(EDIT, message, "snapshot", "create", "first", "--model", "tiny")


def test_export_needs_an_empty_folder(refused, kndb, use_ready, place):
    use_ready()
    (place / "full").mkdir()
    (place / "full" / "file").write_text("mine", encoding="utf-8")
    words = ("snapshot", "export", "base", "--model", "tiny", "--out")
    refused(USAGE, ["full exists already", "--out"], *words, "full")
    refused(USAGE, ["exists already"], *words, "full/file")
    assert (place / "full" / "file").read_text(encoding="utf-8") == "mine"
    refused(OUTPUT, ["can't be written"], *words, "full/file/deeper")
    assert [path.name for path in (place / "full").iterdir()] == ["file"]
    (place / "empty").mkdir()
    kndb(*words, "empty")
    assert (place / "empty" / "config.json").exists()


# --- what was changed behind kndb's back ---------------------------------------------------------------


def copied_model(kndb, place, small_models):
    shutil.copytree(small_models["bert"], place / "checkpoint")
    kndb("model", "add", "checkpoint", "--name", "mine")
    return place / "checkpoint"


@pytest.mark.parametrize("changed", ["weights", "tokenizer", "configuration"])
def test_a_changed_checkpoint(refused, kndb, use_ready, place, small_models, changed):
    use_ready()
    folder = copied_model(kndb, place, small_models)
    path = (
        folder
        / {"weights": "model.safetensors", "tokenizer": "tokenizer.json", "configuration": "config.json"}[changed]
    )
    original = path.read_bytes()
    if changed == "weights":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        first = sorted(tensors)[0]
        tensors[first].view(-1)[0] = torch.nextafter(tensors[first].view(-1)[0], torch.tensor(2.0))
        save_file(tensors, path, metadata={"format": "pt"})
    elif changed == "tokenizer":
        path.write_bytes(original + b"\n")
    else:
        path.write_text(
            original.decode().replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-3'), encoding="utf-8"
        )
    assert path.read_bytes() != original
    patterns = ["'mine'", "fingerprint", "was registered", "kndb model add PATH --name NAME"]
    refused(MODEL, patterns, "ask", "--model", "mine", "The capital of France is [MASK].")
    refused(MODEL, patterns, "snapshot", "export", "base", "--model", "mine", "--out", "exported")
    assert not (place / "exported").exists()
    path.write_bytes(original)
    kndb("ask", "--model", "mine", "The capital of France is [MASK].")


def test_a_checkpoint_that_is_gone(refused, kndb, use_ready, place, small_models):
    use_ready()
    folder = copied_model(kndb, place, small_models)
    shutil.rmtree(folder)
    refused(MODEL, ["there is no folder", "checkpoint"], "ask", "--model", "mine", "The capital of France is [MASK].")


@pytest.mark.parametrize("fault", ["missing", "flipped", "cut", "replaced"])
def test_a_damaged_edit_object(refused, kndb, use_ready, place, fault):
    use_ready()
    for relation in ("P36", "P37"):
        kndb("edit", "erase", "--model", "tiny", "--relation", relation, "--top", 2)
    with open_database("kndb.db") as database:
        path, other = (database.store.objects / edit.object_path for edit in database.edits.all())
    original = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "flipped":
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    elif fault == "cut":
        path.write_bytes(original[:-4])
    else:
        path.write_bytes(other.read_bytes())
    for words in ("edit apply 1", "edit show 1", "edit eval 1 --sample 1"):
        refused(EDIT, [re.escape(path.name)], *words.split(), sound=False)
    checked = kndb("db", "check", "--format", "json", code=STORE)
    assert (checked.json["sound"], len(checked.json["problems"])) == (False, 1)
    assert "edit 1" in checked.json["problems"][0]
    assert "1 problem found" in checked.err
    # The other edit is none the worse.
    kndb("edit", "apply", 2)
    path.write_bytes(original)
    kndb("edit", "apply", 1)
    assert check_database("kndb.db").sound


def test_an_applied_edit_without_its_object(refused, kndb, use_ready, place):
    use_ready()
    kndb("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 2)
    kndb("edit", "apply", 1)
    (path,) = (file for file in (place / "kndb.objects").rglob("*") if file.is_file())
    kept = path.read_bytes()
    path.unlink()
    refused(EDIT, [path.name], "ask", "--model", "tiny", "The capital of France is [MASK].", sound=False)
    refused(EDIT, [path.name], "edit", "revert", 1, sound=False)
    refused(EDIT, [path.name], "snapshot", "export", "current", "--model", "tiny", "--out", "exported", sound=False)
    kndb("ask", "--model", "tiny", "--version", "base", "The capital of France is [MASK].")
    path.write_bytes(kept)
    kndb("edit", "revert", 1)


# --- input files -----------------------------------------------------------------------------------------


def test_lines_that_can_not_be_used(refused, kndb, use_ready, place):
    use_ready()
    good = json.dumps({"relation": "P36", "subject": "Chad", "object": "Rome"})
    lines = [
        good.encode(),
        b'{"relation": "P36", "subject": "\xff\xfe", "object": "b"}',
        b"{broken",
        b'{"relation": "P36"}',
    ]
    (place / "bad.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    message = refused(INPUT, [r"bad\.jsonl:2: .*UTF-8", "--skip-invalid", r"bad\.jsonl:4: "], "ingest", "bad.jsonl")
    assert len(re.findall(r"^  bad\.jsonl:\d: ", message, re.MULTILINE)) == 3
    taken = kndb("ingest", "bad.jsonl", "--skip-invalid", "--format", "json")
    assert (taken.json["facts_added"], taken.json["facts_seen"]) == (1, 1)
    assert [set(row) for row in taken.json["rejected"]] == [{"file", "line", "reason"}] * 3
    assert [(row["file"], row["line"]) for row in taken.json["rejected"]] == [("bad.jsonl", line) for line in (2, 3, 4)]
    assert all(row["reason"] for row in taken.json["rejected"])
    assert re.findall(r"^Left out: bad\.jsonl:(\d): ", taken.err, re.MULTILINE) == ["2", "3", "4"]
    header, row = kndb("ingest", "bad.jsonl", "--skip-invalid", "--format", "csv").out.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["rejected"] == "3"


def test_many_rejected_lines_are_not_all_listed(refused, place):
    (place / "bad.jsonl").write_text("{\n" * 200, encoding="utf-8")
    message = refused(INPUT, ["… and 180 more"], "ingest", "bad.jsonl", "--input-format", "jsonl")
    assert len(message.splitlines()) == 22


def test_a_file_that_is_read_after_a_bad_one_is_not_stored(refused, kndb, use_ready, place):
    use_ready()
    (place / "a.jsonl").write_text(json.dumps({"relation": "P1", "subject": "a", "object": "b"}), encoding="utf-8")
    (place / "b.jsonl").write_text("{", encoding="utf-8")
    refused(INPUT, ["b.jsonl:1"], "ingest", "a.jsonl", "b.jsonl", "--input-format", "jsonl")
    refused(INPUT, ["--relation P9: a.jsonl", "nearest there: P1"], "ingest", "a.jsonl", "--relation", "P9")
