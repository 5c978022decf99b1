"""Edits as LoRA adapters, and adapters as edits, beside peft itself."""

import json
import shutil

import peft
import pytest
import torch
from causal_families import causal_model
from masked_families import byte_level
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from kndb.database import open_database
from kndb.database.edits.objects import add_object
from kndb.editing.objects.captures import captured_object, change_of_slots
from kndb.editing.planning import recipes
from kndb.errors import EditError, InputError, OutputError, UsageError
from kndb.records.recipes import CaptureRecipe, read_recipe

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # Peft asks transformers.
WIDE, THIN = "adapter_model.safetensors", "adapter_config.json"
DOWN = {
    "bert": "bert.encoder.layer.{}.output.dense",
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "llama": "model.layers.{}.mlp.down_proj",
}
CHANGED = {0: (3, 17, 18), 1: (0,)}
"""Neurons by layer."""
CONV = {"fan_in_fan_out": True}


@pytest.fixture(scope="module")
def checkpoints(small_models, tmp_path_factory):
    """Folders of models of three families, of which Llama's is in bfloat16; only to be read."""
    folder = tmp_path_factory.mktemp("llama")
    causal_model("llama", vocab_size=400).bfloat16().save_pretrained(folder)
    byte_level().save_pretrained(folder)
    return {**small_models, "llama": folder}


@pytest.fixture
def opened(checkpoints, small_facts, tmp_path):
    """Gives a database with the small facts and model `tiny` of a family."""
    made = []

    def make(family):
        made.append(open_database(tmp_path / f"{family}-{len(made)}.db"))
        made[-1].facts.ingest([small_facts])
        made[-1].models.add(str(checkpoints[family]), "tiny")
        return made[-1]

    yield make
    for database in made:
        database.close()


def planned(database, changed=CHANGED, seed=1, scale=0.2):
    """An edit that moves some slots of the current version; its number."""
    version = database.models.load("tiny")
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for layer, numbers in changed.items():
        own = version.network.layers[layer].value_slots(torch.tensor(numbers)).double()
        values[layer] = torch.tensor(numbers), own + scale * torch.randn(own.shape, generator=generator).double()
    about = {"fingerprint": version.record.fingerprint, "recipe": read_recipe("update", {"seed": seed})}
    return stored(database, version, recipes.plan_values(version.network, values, **about))


def stored(database, version, content):
    with database.store.writing() as connection:
        return add_object(connection, database.store, version.record.id, content, version.version, None, None)


def base_model(checkpoint, family):
    kind = AutoModelForMaskedLM if family == "bert" else AutoModelForCausalLM
    return kind.from_pretrained(checkpoint, dtype="auto").eval()


def with_peft(checkpoint, family, folder):
    return peft.PeftModel.from_pretrained(base_model(checkpoint, family), folder).eval()


def logits(model):
    ids = torch.arange(2, 26).view(3, 8)
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def parameters(database, version="current"):
    return {name: value.detach() for name, value in database.load_model("tiny", version).named_parameters()}


def merged(checkpoint, family, folder):
    model = with_peft(checkpoint, family, folder).merge_and_unload()
    return {name: value.detach() for name, value in model.named_parameters()}


def assert_merged(done, wanted, found):
    """What was measured is what peft's merged weights are: which slots have the edit's bytes, and what others lack."""
    changed = {f"{one.module}.weight": one for one in done.modules}
    for name, value in wanted.items():
        if name not in changed:
            assert torch.equal(value, found[name])
            continue
        one, off = changed[name], (found[name].double() - value.double()).abs()
        wrong = off.amax(1 if "c_proj" in name else 0) > 0
        assert int(wrong.sum()) == one.slots - one.slots_equal
        assert int((off > 0).sum()) == one.values - one.values_equal
        assert off.max() == one.largest_difference < 1e-7
    assert done.exact_when_merged == all(one.slots == one.slots_equal for one in done.modules)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_peft_loads_an_edit_and_answers_as_the_edited_model(opened, checkpoints, tmp_path, family):
    database = opened(family)
    number = planned(database)
    done = database.edits.export_adapter([number], tmp_path / "out" / "adapter")
    folder = tmp_path / "out" / "adapter"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", THIN, WIDE]
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]
    assert [(one.module, one.rank, one.slots) for one in done.modules] == [
        (DOWN[family].format(layer), len(numbers), len(numbers)) for layer, numbers in CHANGED.items()
    ]
    assert done.builds_on == ()
    config = json.loads((folder / THIN).read_text(encoding="utf-8"))
    assert sorted(config["target_modules"]) == [DOWN[family].format(layer) for layer in CHANGED]
    assert config["fan_in_fan_out"] == (family == "gpt2")
    assert config["task_type"] == (None if family == "bert" else "CAUSAL_LM")
    beside = with_peft(checkpoints[family], family, folder)
    targets = {name for name, module in beside.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert targets == set(config["target_modules"])
    base = logits(base_model(checkpoints[family], family))
    database.edits.apply(number)
    edited = logits(database.load_model("tiny"))
    moved, left = (edited - base).abs().max(), (logits(beside) - edited).abs().max()
    assert moved > 0.05
    assert left < moved * (0.05 if family == "llama" else 1e-4)
    if family != "llama":  # Into half precision, peft rounds what it adds before it adds it.
        assert_merged(done, parameters(database), merged(checkpoints[family], family, folder))
        # What peft computes is what was measured with hooks.
        assert done.prompts == 16
        assert done.answers_differing == 0
        assert 0 < done.log_probability_difference < 1e-3


def test_a_stack_of_edits_is_one_adapter_of_what_lies_between_the_versions(opened, checkpoints, tmp_path):
    database = opened("gpt2")
    first = planned(database, {0: (1, 2)}, seed=1)
    database.edits.apply(first)
    second = planned(database, {0: (2, 3), 1: (5,)}, seed=2)
    done = database.edits.export_adapter([first, second], tmp_path / "both")
    assert [(one.layer, one.slots) for one in done.modules] == [(0, 3), (1, 1)]
    database.edits.apply(second)
    assert_merged(done, parameters(database), merged(checkpoints["gpt2"], "gpt2", tmp_path / "both"))
    # The second alone belongs on the first.
    alone = database.edits.export_adapter([second], tmp_path / "second")
    assert (alone.builds_on, alone.version) == ((first,), database.edits.get(second).base_version)
    with pytest.raises(EditError, match="in the order in which they were planned"):
        database.edits.export_adapter([second, first], tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_folder_that_can_not_be_written_is_not_there(opened, tmp_path, monkeypatch):
    database = opened("bert")
    number = planned(database)

    def fail(path):
        raise OSError(28, "no space left")

    monkeypatch.setattr("kndb.files.sync", fail)
    with pytest.raises(OutputError, match="can't be written: no space left"):
        database.edits.export_adapter([number], tmp_path / "out" / "adapter")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_same_edit_gives_the_same_bytes(opened, tmp_path):
    database = opened("bert")
    number = planned(database)
    for name in ("one", "two"):
        database.edits.export_adapter([number], tmp_path / name)
    for name in (THIN, WIDE, "README.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_factors_of_a_whole_layer_are_written_as_they_are(opened, checkpoints, tmp_path):
    database = opened("gpt2")
    version = database.models.load("tiny")
    layer = version.network.layers[1]
    before = layer.slots.detach().clone()
    generator = torch.Generator().manual_seed(4)
    left, right = (torch.randn(*shape, generator=generator).double() / 4 for shape in ((64, 2), (2, 32)))
    after = (before.double() + left @ right).float()
    name = version.network.down_parameter(1)
    change = change_of_slots(name, 1, layer.layout, layer.down_shape, before, after, (left, right))
    recipe = CaptureRecipe(source="s", from_fingerprint="f", tensors={})
    about = version.record.fingerprint, recipe, [change], {name: 1}, {name: layer.down_shape}
    number = stored(database, version, captured_object(*about))
    done = database.edits.export_adapter([number], tmp_path / "adapter")
    assert [(one.rank, one.slots) for one in done.modules] == [(2, 64)]
    written = load_file(tmp_path / "adapter" / WIDE)
    start = f"base_model.model.{DOWN['gpt2'].format(1)}"
    assert torch.equal(written[f"{start}.lora_A.weight"], left.T.float())
    assert torch.equal(written[f"{start}.lora_B.weight"], right.T.float())
    found = merged(checkpoints["gpt2"], "gpt2", tmp_path / "adapter")[name]
    assert (found - after).abs().max() == pytest.approx(done.modules[0].largest_difference, abs=2e-7)
    less = database.edits.export_adapter([number], tmp_path / "less", rank=1)
    assert less.modules[0].lost > 0.01
    assert 0.1 < less.modules[0].relative_error < 1
    assert not less.exact_when_merged


def test_what_an_adapter_can_not_hold_is_refused(opened, checkpoints, tmp_path):
    database = opened("bert")
    edited = shutil.copytree(checkpoints["bert"], tmp_path / "edited")
    tensors = load_file(edited / "model.safetensors")
    name = next(name for name in tensors if name.endswith("attention.self.query.weight"))
    tensors[name] += 0.5
    save_file(tensors, edited / "model.safetensors", {"format": "pt"})
    whole = database.edits.add(database.edits.draft_capture("tiny", str(edited)).draft).id
    number = planned(database)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for edits, out, rank, error, text in (
        ([whole], "out", None, EditError, "query.weight, which is no feed-forward down projection"),
        ([], "out", None, UsageError, "no edit to export"),
        ([number, number], "out", None, UsageError, "named twice"),
        ([number], "out", 0, UsageError, "rank must be at least 1"),
        ([number], "full", None, UsageError, "not an empty folder"),
    ):
        with pytest.raises(error, match=text):
            database.edits.export_adapter(edits, tmp_path / out, rank=rank)
        assert not (tmp_path / "out").exists()


def test_experts_are_refused_with_the_way_out(tmp_path):
    causal_model("mixtral", vocab_size=400).save_pretrained(tmp_path / "model")
    byte_level().save_pretrained(tmp_path / "model")
    with open_database(tmp_path / "kndb.db") as database:
        database.models.add(str(tmp_path / "model"), "tiny")
        with pytest.raises(EditError, match=r"mixture of experts.*snapshots\.export\("):
            database.edits.export_adapter([planned(database)], tmp_path / "adapter")


@pytest.fixture
def written():
    """Writes an adapter with random factors of rank 4, by module's name and its sizes (in, out), without peft."""

    def write(folder, modules):
        folder.mkdir()
        tensors = {}
        for module, (wide, out) in modules.items():
            tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(4, wide)
            tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, 4)
        save_file(tensors, folder / WIDE)
        (folder / THIN).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}), encoding="utf-8")
        return folder

    return write


# --- adapters as edits ----------------------------------------------------------------------------


@pytest.fixture
def stranger(checkpoints, tmp_path):
    """Writes an adapter that peft makes, with random factors, and gives its folder."""

    def make(family, name="stranger", targets=None, **settings):
        torch.manual_seed(3)
        chosen = targets or [DOWN[family].format(layer) for layer in (0, 1)]
        config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=chosen, init_lora_weights=False, **settings)
        model = peft.get_peft_model(base_model(checkpoints[family], family), config)
        with torch.no_grad():
            for key, value in model.named_parameters():
                value *= 0.3 if "lora_" in key else 1
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {}),
        ("gpt2", {**CONV, "use_rslora": True}),
        ("gpt2", {**CONV, "rank_pattern": {"0.mlp.c_proj": 2}, "alpha_pattern": {"1.mlp.c_proj": 9}}),
        ("llama", {}),
    ],
)  # fmt: skip
def test_an_adapter_of_pefts_becomes_an_edit(opened, checkpoints, stranger, family, settings):
    database, folder = opened(family), stranger(family, **settings)
    base = parameters(database)
    adapter = database.edits.draft_adapter("tiny", folder)
    number = database.edits.add(adapter.draft).id
    edit = database.edits.get(number)
    assert (edit.kind, edit.recipe.adapter, edit.recipe.source) == ("capture", "peft", "stranger")
    assert edit.recipe.base_model == adapter.base_model == str(checkpoints[family])
    assert all(torch.equal(value, base[name]) for name, value in parameters(database).items()), "nothing is applied"
    database.edits.apply(number)
    found, wanted = parameters(database), merged(checkpoints[family], family, folder)
    near = {"atol": 2e-2, "rtol": 2e-2} if family == "llama" else {"atol": 3e-7, "rtol": 1e-6}
    changed = [name for name in base if not torch.equal(found[name], base[name])]
    assert changed == [f"{DOWN[family].format(layer)}.weight" for layer in (0, 1)]
    for name, value in wanted.items():
        assert torch.allclose(found[name].float(), value.float(), **near), name
    database.edits.revert(number)
    assert all(torch.equal(value, base[name]) for name, value in parameters(database).items())
    assert all(row.ok for row in database.edits.verify())


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_an_edit_that_goes_out_comes_back_up_to_what_was_said(opened, tmp_path, family):
    database = opened(family)
    number = planned(database)
    done = database.edits.export_adapter([number], tmp_path / "adapter")
    other = opened(family)
    adapter = other.edits.draft_adapter("tiny", tmp_path / "adapter")
    assert adapter.remarks == ()
    back = other.edits.add(adapter.draft).id
    for side, edit in ((database, number), (other, back)):
        side.edits.apply(edit)
    assert_merged(done, parameters(database), parameters(other))
    same = database.models.get("tiny").version == other.models.get("tiny").version
    assert same == done.exact_when_merged == (family == "llama"), "bfloat16 is held by float32"
    # On a version that has the edit, its sender's version is another one; what it adds, it adds again.
    again = other.edits.draft_adapter("tiny", tmp_path / "adapter")
    assert "made for version" in again.remarks[0]


def test_a_title_is_kept_as_the_senders_words(opened, tmp_path):
    database = opened("bert")
    number = planned(database)
    database.edits.export_adapter([number], tmp_path / "adapter")
    path = tmp_path / "adapter" / WIDE
    told = {"edits": [{"title": "Toyota · Nissan"}, {"title": 3}], "fingerprint": "0" * 64}
    save_file(load_file(path), path, {"format": "pt", "kndb": json.dumps(told)})
    adapter = database.edits.draft_adapter("tiny", tmp_path / "adapter")
    assert adapter.words == "Toyota · Nissan"
    assert adapter.draft.content.recipe.title.endswith("its sender says: Toyota · Nissan")
    assert "fingerprint 000000000000" in adapter.remarks[0]
    for nonsense in ("[]", "{", '{"edits": 3}', '{"edits": [{"title": "\\u0000"}]}'):
        save_file(load_file(path), path, {"format": "pt", "kndb": nonsense})
        assert database.edits.draft_adapter("tiny", tmp_path / "adapter").words is None


@pytest.mark.parametrize(
    ("file", "change", "text"),
    [
        (THIN, {"use_dora": True}, "use_dora is set: DoRA scales"),
        (THIN, {"r": 5}, "says 5; the files are not of one adapter"),
        (THIN, {"lora_alpha": 1e300}, "NaN or infinite"),
        (WIDE, {"A": torch.zeros(4, 65)}, "65 neurons of 32"),
        (WIDE, {"A": torch.zeros(4, 64), "B": torch.zeros(32, 4)}, "adds nothing"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(opened, written, tmp_path, file, change, text):
    database = opened("bert")
    folder = written(tmp_path / "adapter", {DOWN["bert"].format(0): (64, 32)})
    if file == THIN:
        values = json.loads((folder / THIN).read_text(encoding="utf-8"))
        (folder / THIN).write_text(json.dumps({**values, **change}), encoding="utf-8")
    else:
        tensors = load_file(folder / WIDE)
        start = f"base_model.model.{DOWN['bert'].format(0)}.lora_"
        save_file({**tensors, **{f"{start}{side}.weight": one for side, one in change.items()}}, folder / WIDE)
    with pytest.raises((InputError, EditError), match=text):
        database.edits.draft_adapter("tiny", folder)


def test_other_modules_and_other_places_are_refused(opened, written, tmp_path):
    database = opened("bert")
    places = [f"bert.encoder.layer.{n}.attention.{name}" for n in (0, 1) for name in ("self.query", "output.dense")]
    folder = written(tmp_path / "adapter", dict.fromkeys(places, (32, 32)))
    with pytest.raises(InputError, match=r"4 modules other than.*\.query.*merge the adapter"):
        database.edits.draft_adapter("tiny", folder)
    with pytest.raises(InputError, match="is no folder"):
        database.edits.draft_adapter("tiny", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"more than 10 bytes.*most_bytes"):
        database.edits.draft_adapter("tiny", folder, most_bytes=10)
    with pytest.raises(UsageError, match="most_bytes must be at least 1"):
        database.edits.draft_adapter("tiny", folder, most_bytes=0)
