"""Models that are not all kept where they are computed: the same scores, few reads, and which maps are refused."""

from __future__ import annotations

import pytest
import torch
from split_models import CPU, MAKE, Tiny, alike, maker

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.integrated_gradients import _Nodes, integrated_gradients
from kndb.attribution.quadrature import Quadrature
from kndb.errors import FingerprintError, ModelError, UsageError
from kndb.models.answers import answer_logits
from kndb.models.device_maps import free_memory, read_device_map
from kndb.models.network import Network


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Makes the checkpoint of a name, once."""
    return maker(tmp_path_factory.mktemp("split"))


class TestScores:
    @pytest.mark.parametrize("name", MAKE)
    def test_are_those_of_the_whole_model(self, tiny, name):
        case = tiny(name)
        expected = case.scores(case.whole)
        network = case.split()
        assert alike(case.scores(network), expected, 3e-6)
        assert len(expected) > 100

    @pytest.mark.parametrize("method", ["activation", "gradient-x-activation", "log-probability-increase"])
    @pytest.mark.parametrize("name", ["bert", "llama"])
    def test_of_the_other_methods(self, tiny, name, method):
        case = tiny(name)
        assert alike(case.scores(case.split(), method=method), case.scores(case.whole, method=method), 1e-5)

    @pytest.mark.parametrize("name", ["bert", "llama"])
    def test_of_known_prompts_only(self, tiny, name):
        case = tiny(name)
        assert case.scores(case.split(), known_only=True) == {}
        assert alike(case.scores(case.split(), batch_size=1), case.scores(case.whole), 3e-6)

    @pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
    def test_in_other_dtypes(self, tiny, dtype):
        """A checkpoint's float32 values are computed with in another dtype, split as whole."""
        from kndb.models.dtypes import COMPUTE_DTYPES

        case = Tiny(tiny("llama").folder.parent / dtype, "llama")
        chosen = COMPUTE_DTYPES[dtype].dtype
        case.whole.model.to(chosen)
        found = case.scores(case.split(dtype=chosen), dtype=dtype)
        assert alike(found, case.scores(case.whole, dtype=dtype), {"float64": 1e-12}.get(dtype, 0.02))

    def test_parts_and_one_pass_give_the_same(self, tiny, monkeypatch):
        case = tiny("bert")
        expected = case.scores(case.whole)
        monkeypatch.setattr("kndb.attribution.batches.LAYER_BYTES", 1)
        monkeypatch.setattr("kndb.attribution.stages.HEAD_BYTES", 1)
        assert alike(case.scores(case.split()), expected, 3e-6)

    def test_the_models_own_forward_pass(self, tiny):
        for name in ("bert", "llama", "t5-gated"):
            case = tiny(name)
            network = case.split({"": "disk"})
            with torch.no_grad():
                torch.testing.assert_close(
                    answer_logits(network, case.prompts()), answer_logits(case.whole, case.prompts())
                )
            assert all(network.residency.layer_reads(number) == 1 for number in range(3))


class TestReads:
    """How often weights are read: twice on the way to a gradient of any number of rows, the topmost layer once."""

    @pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
    def test_a_fixed_rule_reads_a_layer_four_times(self, tiny, name):
        case = tiny(name)
        network = case.split({"": "disk"})
        freeze(network.model)
        residency, batch = network.residency, to_tensors(case.prompts(), CPU)
        base = continue_from(network, batch)
        # The base pass: up and down again. The topmost layer is there when the way down begins.
        assert [residency.layer_reads(number) for number in range(3)] == [1 + 1, 1 + 1, 1]
        rows = 4 * 3 * len(batch)
        found = integrated_gradients(base, torch.arange(len(batch)), Quadrature.choose("gauss-legendre", 4), rows)
        # The nodes of all layers at once: no node is below layer 0, which is not run; layer 2 is there from above.
        full = {number: self.reads_but_slots(network, number) for number in range(3)}
        assert full == {0: 2, 1: 2 + 2, 2: 1 + 1 + 1}
        assert residency.reads[network.down_parameter(1)] <= full[1] + 1
        expected = integrated_gradients(
            continue_from(case.whole, batch), torch.arange(len(batch)), Quadrature.choose("gauss-legendre", 4), rows
        )
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-7)

    @staticmethod
    def reads_but_slots(network: Network, number: int) -> int:
        """How often the largest part of a layer was read that scores do not need again."""
        path, down = f"{network.layers[number].down_path}", network.down_parameter(number)
        layer = next(one for one in network.residency._layers if path.startswith(f"{one}."))
        return max(
            count for name, count in network.residency.reads.items() if name.startswith(f"{layer}.") and name != down
        )

    def test_a_round_of_bisection_reads_each_layer_twice(self, tmp_path, monkeypatch):
        case, rounds = Tiny(tmp_path, "llama", num_hidden_layers=4), []
        network = case.split({"": "disk"})
        freeze(network.model)
        evaluate = _Nodes.evaluate
        # A round that asks for nodes of the upper two layers only does not run layer 2: they begin above it.
        monkeypatch.setattr(_Nodes, "evaluate", lambda *given: rounds.append(given[1].min() < 4) or evaluate(*given))
        batch = to_tensors(case.prompts(2), CPU)
        base = continue_from(network, batch)
        integrated_gradients(base, torch.arange(2), Quadrature.choose("bisection", None, 1e-3), 10_000)
        assert sum(rounds) >= 2
        # Twice by the base pass, too. Layers 0 and 1, where ways turn, and 3, above which is nothing, are read less.
        assert self.reads_but_slots(network, 2) == 2 + 2 * sum(rounds)
        assert max(self.reads_but_slots(network, number) for number in (0, 1, 3)) < 2 + 2 * sum(rounds)

    def test_little_is_there_at_once(self, tiny):
        for name in ("bert", "gpt2", "llama"):
            case = tiny(name)
            network = case.split({"": "disk"})
            case.scores(network)
            every = sum(one.nbytes for one in network.model.parameters())
            layers = [
                sum(one.nbytes for name, one in network.model.named_parameters() if name.startswith(f"{path}."))
                for path in network.residency._layers
            ]
            assert every - sum(layers) < network.residency.most_bytes <= every - sum(layers) + max(layers) * 1.2
            assert network.residency.most_bytes <= network.residency.bytes_needed

    def test_of_word_embeddings_only_the_rows_asked_for(self, tiny):
        case = tiny("llama")
        network = case.split({"": "disk"})
        before = network.word_embeddings.data_ptr()
        ids = torch.tensor([[3, 9, 3]])
        torch.testing.assert_close(network.embed(ids), case.whole.embed(ids))
        assert network.word_embeddings.data_ptr() == before
        assert network.residency.reads["model.embed_tokens.weight"] == 0

    def test_what_is_not_there_is_not_a_number(self, tiny):
        network = tiny("llama").split({"": "disk"})
        assert network.layers[1].slots.isnan().all()
        network.bring_layer(1)
        assert not network.layers[1].slots.isnan().any()
        network.bring_layer(0)
        assert network.layers[1].slots.isnan().all()

    def test_a_file_that_changes_meanwhile(self, tiny, tmp_path):
        case = Tiny(tmp_path, "llama")
        network = case.split({"": "disk"})
        weights = case.folder / "model.safetensors"
        content = weights.read_bytes()
        weights.unlink()
        weights.write_bytes(content)
        with pytest.raises(FingerprintError, match=r"model\.safetensors was changed while .* was to be read from it"):
            network.bring_layer(1)
        weights.unlink()
        with pytest.raises(ModelError, match=r"model\.safetensors can't be read"):
            network.bring_layer(1)


WRONG = {
    "[]": "must be a JSON object",
    "{}": "must be a JSON object",
    "{": "is no JSON",
    '{"0": "cpu", "0": "disk"}': "is no JSON: key",
    '{"0": "gpu"}': "says 'gpu' of '0'; a device must be cpu, disk, mps, cuda, cuda:N or CUDA's number N",
    '{"0": true}': "says 'True' of '0'",
    '{"0": -1}': "says '-1' of '0'",
    '{"0": ["cpu"]}': "a device must be cpu",
    '{"": "cpu", "7": "disk"}': "names layer 7, and the model has layers 0 to 2",
    '{"": "cpu", "2-1": "disk"}': r"names '2-1', and the model has no such module; its layers are model\.layers\.0 to",
    '{"": "cpu", "model.layer.0": "disk"}': r"names 'model\.layer\.0', and the model has no such module",
    '{"": "cpu", "0": "cpu", "model.layers.0": "disk"}': r"keeps model\.layers\.0 on cpu and on disk; name one device",
    '{"0-2": "disk"}': r"names no device for model\.embed_tokens, model\.norm",
    '{"": "cuda:77"}': "keeps the model on cuda:77, which this machine does not have",
    '{"max_memory": {"cpu": "1GB"}, "0": "cpu"}': "has max_memory, by which devices are chosen, and a device for '0'",
    '{"max_memory": {}}': "max_memory must be an object with a size for each device",
    '{"max_memory": {"cpu": "much"}}': "max_memory of cpu must be bytes or a size such as 300MB or 20GiB",
    '{"max_memory": {"disk": 1}}': "max_memory can't limit disk",
    '{"max_memory": {"moon": 1}}': "says 'moon' of 'max_memory'",
    '{"max_memory": {"cuda:77": 1}}': "limits cuda:77, which this machine does not have",
}


class TestMaps:
    @pytest.mark.parametrize("text", WRONG)
    def test_that_are_refused(self, tiny, tmp_path, text):
        path = tmp_path / "map.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=WRONG[text]):
            tiny("llama").split(path)

    def test_that_are_no_files(self, tmp_path):
        with pytest.raises(UsageError, match=r"device_map must be auto or a JSON file; .*nowhere\.json can't be read"):
            read_device_map(tmp_path / "nowhere.json")
        with pytest.raises(UsageError, match="can't be read"):
            read_device_map(tmp_path)
        (tmp_path / "bytes").write_bytes(b"\xff{}")
        with pytest.raises(UsageError, match="is no JSON"):
            read_device_map(tmp_path / "bytes")
        (tmp_path / "large").write_text(" " * 4_000_001)
        with pytest.raises(UsageError, match=r"has more than 4,000,000 bytes"):
            read_device_map(tmp_path / "large")

    def test_parameters_that_are_shared_have_one_device(self, tiny):
        with pytest.raises(UsageError, match=r"wte\.weight on disk and lm_head\.weight on cpu, and the two share"):
            tiny("gpt2").split({"": "disk", "lm_head": "cpu"})

    def test_paths_numbers_and_parts_of_layers(self, tiny):
        network = tiny("llama").split({"": "disk", "0,2": "cpu", "model.layers.2.mlp": "disk", "lm_head": "cpu"})
        kept = {name for name, one in network.model.named_parameters() if one.isnan().any()}
        assert {name.rpartition(".")[0] for name in kept if ".layers." in name} == {
            *(f"model.layers.1.self_attn.{one}_proj" for one in "qkvo"),
            *(f"model.layers.{layer}.mlp.{one}_proj" for layer in (1, 2) for one in ("gate", "up", "down")),
        }
        assert "lm_head.weight" not in kept

    def test_auto_fills_the_memory_that_it_may(self, tiny):
        case = tiny("llama")
        everything = case.split("auto")
        assert not any(one.isnan().any() for one in everything.model.parameters())
        size = sum(one.nbytes for one in everything.model.parameters())
        some = case.split({"max_memory": {"cpu": size // 2}})
        there = sum(one.nbytes for one in some.model.parameters() if not one.isnan().any())
        assert 0 < there < size
        assert alike(case.scores(some), case.scores(case.whole), 3e-6)
        assert free_memory(CPU)["cpu"] > 0

    @pytest.mark.parametrize(
        ("text", "size"), [("300MB", 300 * 10**6), ("1.5GiB", 3 * 2**29), ("7", 7), ("2 KiB", 2048)]
    )
    def test_sizes(self, text, size):
        assert read_device_map({"max_memory": {"cpu": text}}).memory == {"cpu": size}

    def test_weights_that_the_files_lack(self, tiny, tmp_path):
        from safetensors.torch import load_file, save_file

        case = Tiny(tmp_path, "llama")
        path = case.folder / "model.safetensors"
        tensors = load_file(path)
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
        save_file(tensors, path, {"format": "pt"})
        with pytest.raises(
            ModelError, match=r"no weights of the name and shape of model\.layers\.1\.mlp\.up_proj\.weight"
        ):
            case.split()

    def test_without_accelerate(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
        from kndb.models.split_loading import require_accelerate

        with pytest.raises(UsageError, match=r"needs the package accelerate; install it: pip install 'kndb\[map\]'"):
            require_accelerate()
