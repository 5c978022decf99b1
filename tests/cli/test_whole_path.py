"""From a fact list to an edited model and back, through the command line, on models that know their facts."""

import hashlib
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from kndb.database import open_database
from kndb.models.fingerprint import fingerprint

AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM}
DOWN = {"bert": "bert.encoder.layer.{}.output.dense.weight", "gpt2": "transformer.h.{}.mlp.c_proj.weight"}
QUESTION = "The capital city of France is called [MASK]."


def weights(model):
    return {
        name: hashlib.sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
        for name, tensor in model.named_parameters()
    }


def loaded(version="current"):
    with open_database(create=False) as database:
        return database.load_model("tiny", version)


def loaded_weights(version="current"):
    return weights(loaded(version))


def edited_by_hand(model, family, recipe):
    """The paper's rule on a plain transformers model: v − λ₁·t + λ₂·t′, both embeddings as long as v."""
    embeddings = model.get_input_embeddings().weight.detach().double()
    old, new = (embeddings[recipe[name]] / embeddings[recipe[name]].norm() for name in ("old_token", "new_token"))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in recipe["neurons"]:
            layer, neuron = (int(part[1:]) for part in name.split("."))
            weight = parameters[DOWN[family].format(layer)]
            slot = weight[:, neuron] if family == "bert" else weight[neuron]
            value = slot.double()
            slot.copy_(value + value.norm() * (recipe["lambda_new"] * new - recipe["lambda_old"] * old))
    return model


@pytest.mark.slow
def test_whole_path(kndb, kndb_json, family, place, small_facts, small_templates, small_models, checkpoint_bytes):
    checkpoint = small_models[family]
    files = checkpoint_bytes(checkpoint)

    assert kndb_json("ingest", small_facts) == {
        "facts_added": 16,
        "evaluation_prompts_added": 0,
        "new_answers": 0,
        "facts_seen": 16,
        "prompts_added": 96,
        "templates_added": 12,
        "relations": 2,
        "rejected": [],
        "prompts_blank_last": 96,
    }
    again = kndb_json("ingest", small_facts)
    assert (again["facts_added"], again["facts_seen"], again["prompts_added"]) == (0, 16, 0)

    model = kndb_json("model", "add", checkpoint, "--name", "tiny")
    assert (model["family"], model["layers"], model["neurons"]) == (family, 2, 64)
    assert model["fingerprint"] == fingerprint(checkpoint)
    base = model["version"]
    before = loaded_weights()
    assert before == weights(AUTO[family].from_pretrained(checkpoint))

    attributed = kndb("attribute", "--model", "tiny", "--format", "json")
    assert attributed.json["attributed"] == 80
    assert attributed.json["known_answers"] > 0.9
    assert attributed.json["completeness_error_mean"] < 0.01
    assert "16 prompts of held-out templates" in attributed.err
    refined = kndb("refine", "--format", "json")
    assert [row["relation"] for row in refined.json] == ["P36", "P37"]
    assert all(row["facts"] == 8 and 0 < row["facts_with_neurons"] <= 8 for row in refined.json)
    assert "neurons per fact" in refined.err

    shared = kndb("query", "shared", "--relation", "P36", "--top", 5, "--format", "json")
    assert 0 < len(shared.json) <= 5
    assert all(set(row) == {"name", "layer", "neuron", "facts", "share", "relations"} for row in shared.json)
    assert all(row["facts"] == row["relations"]["P36"] for row in shared.json)

    (fact,) = kndb_json("query", "facts", "--relation", "P36", "--subject", "france")
    assert (fact["subject"], fact["object"], fact["external_id"], fact["prompts"]) == (
        "France",
        "Paris",
        "P36-France",
        6,
    )
    neurons = kndb("query", "neurons", fact["id"], "--format", "json")
    assert neurons.json
    assert "⟨France, P36, Paris⟩" in neurons.err
    assert all(row["name"] == f"L{row['layer']}.N{row['neuron']}" for row in neurons.json)

    answers = kndb_json("ask", "--model", "tiny", QUESTION)
    assert len(answers) == 5
    assert all(set(row) == {"token", "text", "id", "spellings", "probability"} for row in answers)
    assert answers == sorted(answers, key=lambda row: -row["probability"])
    assert answers[0]["token"] == "Paris"

    # A planned edit changes nothing.
    update = ("edit", "update", "--model", "tiny", "--fact", fact["id"], "--to", "Tokyo", "--max-share", 1)
    update += ("--rule", "paper", "--lambda-new", 12)
    planned = kndb(*update, "--format", "json")
    edit = planned.json["edit"]
    assert f"kndb edit apply {edit}" in planned.err
    assert (planned.json["applied"], planned.json["base_version"]) == (False, base)
    assert planned.json["neurons"] == len(neurons.json)
    assert kndb_json("model", "show", "tiny")["version"] == base
    assert loaded_weights() == before

    applied = kndb_json("edit", "apply", edit)
    assert set(applied) >= {"edit", "version_before", "version_after"}
    assert (applied["edit"], applied["version_before"]) == (edit, base)
    changed = applied["version_after"]
    assert changed != base
    asked = {row["token"]: row["probability"] for row in kndb_json("ask", "--model", "tiny", QUESTION, "--top", 500)}
    first = {row["token"]: row["probability"] for row in answers}
    assert asked["Tokyo"] > asked["Paris"]
    assert asked["Paris"] < first["Paris"]
    assert kndb_json("ask", "--model", "tiny", QUESTION, "--version", "base") == answers
    assert kndb_json("ask", "--model", "tiny", QUESTION, "--version", changed[:8], "--top", 500)[0]["token"] in asked
    edited = loaded_weights()
    torch.testing.assert_close(
        loaded().state_dict(),
        edited_by_hand(AUTO[family].from_pretrained(checkpoint), family, planned.json["recipe"]).state_dict(),
    )
    different = {name for name in before if edited[name] != before[name]}
    slots = kndb_json("edit", "show", edit)["slots"]
    layers = {int(slot["neuron"].partition(".")[0][1:]) for slot in slots}
    assert len(slots) == len(neurons.json)
    assert len(different) == len(layers)

    evaluation = kndb_json("edit", "eval", edit, "--sample", 4)
    own = evaluation["measures"]["edited"]["own"]
    assert (own["prompts"], evaluation["measures"]["edited"]["own_held_out"]["prompts"]) == (5, 1)
    assert (evaluation["version_before"], evaluation["version_after"]) == (base, changed)
    assert own["new_answer_probability_after"] > own["new_answer_probability_before"]
    prompts = [text.replace("[X]", "France").replace("[Y]", "[MASK]") for text in small_templates["P36"]]
    firsts = [kndb_json("ask", "--model", "tiny", prompt, "--top", 1)[0]["token"] for prompt in prompts]
    assert own["success_rate"] == pytest.approx(firsts.count("Tokyo") / 5)
    assert own["change_rate"] == pytest.approx(1 - firsts.count("Paris") / 5)
    assert evaluation["measures"]["edited"]["intra"]["prompts"] == 42
    assert evaluation["measures"]["edited"]["inter"]["prompts"] == 24

    reverted = kndb_json("edit", "revert", edit)
    assert (reverted["edit"], reverted["version_before"], reverted["version_after"]) == (edit, changed, base)
    assert loaded_weights() == before
    assert loaded_weights(changed) == edited

    # Erase, go to and fro between snapshots, export.
    kndb("snapshot", "create", "start", "--model", "tiny")
    erase = kndb_json("edit", "erase", "--model", "tiny", "--relation", "P37", "--top", 6)
    assert erase["neurons"] <= 6
    erased = kndb_json("edit", "apply", erase["edit"])["version_after"]
    lengths = kndb_json("edit", "show", erase["edit"])["slots"]
    assert all(slot["length_before"] > 0 and slot["length_after"] == 0 for slot in lengths)
    kndb("snapshot", "create", "erased", "--model", "tiny")
    (back,) = kndb_json("snapshot", "restore", "start", "--model", "tiny")
    assert (back["edit"], back["version_after"]) == (erase["edit"], base)
    assert loaded_weights() == before
    assert kndb("snapshot", "restore", "start", "--model", "tiny", "--format", "json").json == []
    (forth,) = kndb_json("snapshot", "restore", "erased", "--model", "tiny")
    assert forth["version_after"] == erased
    exported = kndb_json("snapshot", "export", "erased", "--model", "tiny", "--out", "exported")
    assert (exported["version"], exported["folder"]) == (erased, "exported")
    own_weights = weights(AUTO[family].from_pretrained(place / "exported"))
    assert own_weights == loaded_weights("erased")
    assert own_weights != before
    assert sum(own_weights[name] != before[name] for name in before) == exported["parameters_changed"]

    # An exported checkpoint is a checkpoint like any other.
    kndb("model", "add", "exported", "--name", "second")
    first = kndb_json("ask", "--model", "tiny", QUESTION)
    assert kndb_json("ask", "--model", "second", QUESTION) == first

    actions = [(row["action"], row["edit"]) for row in kndb_json("edit", "log")]
    assert actions == [("apply", 1), ("revert", 1), ("apply", 2), ("restore", 2), ("restore", 2)]
    assert kndb_json("db", "check")["sound"] is True
    assert checkpoint_bytes(checkpoint) == files


@pytest.mark.slow
def test_the_json_of_an_edit_is_its_record(kndb, kndb_json, use_ready):
    use_ready()
    kndb("edit", "erase", "--model", "tiny", "--relation", "P36", "--top", 2)
    (listed,) = kndb_json("edit", "list")
    shown = kndb_json("edit", "show", 1)
    assert listed["id"] == shown["id"] == 1
    assert listed["what"] == "P36: 2 most common neurons to zero"
    assert shown["recipe"]["relation"] == "P36"
    assert len(shown["object_hash"]) == 64
    assert json.dumps(shown)
