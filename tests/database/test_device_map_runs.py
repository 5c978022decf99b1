"""Attribution and experiments with a model that is on the disk: through the database and the command line."""

import json
import subprocess
import sys

import pytest

import kndb
from kndb.cli.main import exit_code
from kndb.errors import ModelError, UsageError

KILLED = """
import os, signal, sys
from kndb.cli.main import exit_code
from kndb.store import runs

save, saved = runs.save_results, []

def saving(*arguments):
    saved.append(1)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)

runs.save_results = saving
exit_code(sys.argv[1:])
"""
SCORES = "SELECT prompt_id, layer, neuron, score FROM score ORDER BY prompt_id, layer, neuron"


@pytest.fixture
def disk(tmp_path):
    """A device map that keeps one layer in memory and all else on the disk."""
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"": "disk", "1": "cpu"}), encoding="utf-8")
    return path


def scores_of(sql, database):
    return {row[:3]: row[3] for row in sql(database, SCORES)}


def test_a_killed_attribution_goes_on(fresh, attributed, sql, disk):
    database = fresh("gpt2")
    place = database.store.path
    database.close()
    words = ["attribute", "--model", "tiny", "--relation", "P36", "--batch-size", "6"]
    words += ["--device-map", str(disk), "--db", str(place)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, timeout=600, check=False)
    assert killed.returncode == -9, killed.stderr
    with kndb.open(place) as again:
        report = again.attribution.run("tiny", relations=["P36"], device_map={"": "disk", "1": "cpu"})
        assert (report.run.id, report.resumed, report.run.prompts) == (1, True, 40)
        assert 0 < report.already_done < 40 == report.already_done + report.attributed
        assert "device_map" not in report.run.settings
        found, every = scores_of(sql, again), scores_of(sql, attributed("gpt2"))
    prompts = {prompt for prompt, _, _ in found}
    assert len(prompts) == 40
    expected = {key: score for key, score in every.items() if key[0] in prompts}
    largest = max(map(abs, expected.values()))
    assert max(abs(found.get(key, 0.0) - expected.get(key, 0.0)) for key in expected) < 1e-4 * largest


def test_an_experiment_and_a_question_are_answered_alike(refined, disk):
    probes = [
        refined.probes.scale("suppress", "tiny", others=0, facts=2, device_map=given) for given in (None, str(disk))
    ]
    whole, split = (refined.probes.summary(probe.id) for probe in probes)
    for one, other in zip(whole, split, strict=True):
        assert one.change == pytest.approx(other.change, rel=1e-3)
    text = "The capital of France is [Y]."
    asked = [refined.models.ask("tiny", text, device_map=given) for given in (None, {"": "disk"})]
    assert [one.token for one in asked[0]] == [one.token for one in asked[1]]
    assert [one.probability for one in asked[0]] == pytest.approx([one.probability for one in asked[1]], rel=1e-4)


def test_an_edited_version(refined, disk):
    """What edits changed is not what the checkpoint's files have."""
    edit = refined.edits.plan_erase("tiny", "P36", top=4)
    refined.edits.apply(edit.id)
    text = "The capital of France is [Y]."
    asked = {
        (version, split): refined.models.ask("tiny", text, version=version, device_map={"": "disk"} if split else None)
        for version in ("base", "current")
        for split in (False, True)
    }
    for version in ("base", "current"):
        whole, split = ([one.probability for one in asked[version, kind]] for kind in (False, True))
        assert whole == pytest.approx(split, rel=1e-4)
    assert asked["base", True][0].probability != pytest.approx(asked["current", True][0].probability, rel=1e-3)


def test_a_captured_version(refined, family, disk, small_models, tmp_path):
    """Whole parameters, within the layers and outside of them."""
    import shutil

    from safetensors.torch import load_file, save_file

    edited = shutil.copytree(small_models[family], tmp_path / "edited")
    tensors = load_file(edited / "model.safetensors")
    ends = ("wpe.weight", "position_embeddings.weight", "0.attn.c_attn.weight", "0.attention.self.query.weight")
    changed = [name for name in tensors if name.endswith((*ends, "1.ln_2.bias", "1.output.LayerNorm.bias"))]
    assert len(changed) == 3
    save_file({name: 1.3 * one + 0.01 if name in changed else one for name, one in tensors.items()},
              edited / "model.safetensors", {"format": "pt"})  # fmt: skip
    edit = refined.edits.add(refined.edits.draft_capture("tiny", str(edited)).draft)
    refined.edits.apply(edit.id)
    text = "The capital of France is [Y]."
    given = {None: None, "disk": str(disk)}
    whole, split = (refined.models.ask("tiny", text, device_map=where) for where in given.values())
    assert [one.probability for one in whole] == pytest.approx([one.probability for one in split], rel=1e-4)
    base = refined.models.ask("tiny", text, version="base", device_map=str(disk))
    assert base[0].probability != pytest.approx(split[0].probability, rel=3e-4)


def test_what_is_refused(fresh, tmp_path, capsys):
    database = fresh()
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"bert.encoder.layer.9": "disk", "": "cpu"}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"wrong\.json names 'bert\.encoder\.layer\.9', and the model has no such"):
        database.attribution.run("tiny", device_map=wrong)
    place = str(database.store.path)
    database.close()
    words = ["attribute", "--model", "tiny", "--db", place, "--device-map", str(tmp_path / "none.json")]
    assert exit_code(words) == UsageError.exit_code
    assert "--device-map must be auto or a JSON file" in capsys.readouterr().err


def test_pickled_weights_are_refused(small_models, tmp_path):
    import torch
    from safetensors.torch import load_file

    from kndb.models.device_maps import split_for
    from kndb.models.split_loading import load_split

    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in small_models["bert"].iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(small_models["bert"] / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has pickled weights, of which no part can be read alone.*models\.convert"):
        load_split(folder, split_for("auto", torch.device("cpu"), torch.float32))
