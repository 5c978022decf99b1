"""docs/architectures.md: its example works as it stands, and its table has every family."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from causal_families import SIZES
from tiny_models import POSITIONS, VOCABULARY, brute_force, doubled, relative_error
from transformers import NemotronConfig, NemotronForCausalLM

from kndb.attribution.base_pass import continue_from, freeze
from kndb.attribution.batches import to_tensors
from kndb.attribution.engine import Engine
from kndb.attribution.integrated_gradients import integrated_gradients
from kndb.attribution.quadrature import Quadrature
from kndb.attribution.settings import AttributionSettings
from kndb.models import registry
from kndb.models.adapter import Adapter, Attention, Experts, FeedForward, Norms
from kndb.models.network import Network
from kndb.models.prompting import EncodedPrompt

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
TEXT = PAGE.read_text(encoding="utf-8")
MODULE = "kndb.models.families.nemotron"
DOWN = "model.layers.{}.mlp.down_proj"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(params=[0, 1], ids=["whole", "by-replacing"])
def example(request, monkeypatch) -> Adapter:
    """The page's adapter, registered."""
    module = ModuleType(MODULE)
    module.__package__ = "kndb.models.families"
    exec(compile(blocks()[request.param], f"{MODULE}.py", "exec"), module.__dict__)
    monkeypatch.setattr(registry, "ADAPTERS", (*registry.ADAPTERS, module.NEMOTRON))
    return module.NEMOTRON


def tiny(**settings: Any) -> Any:
    torch.manual_seed(5)
    model = NemotronForCausalLM(NemotronConfig(**{**SIZES, "num_key_value_heads": 2, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def prompts(tokens: int) -> list[EncodedPrompt]:
    chance = torch.Generator().manual_seed(tokens)
    drawn = torch.randint(1, VOCABULARY, (3, tokens + 1), generator=chance).tolist()
    return [EncodedPrompt(number, tuple(ids[:-1]), tokens - 1, ids[-1]) for number, ids in enumerate(drawn)]


def test_the_examples_are_short():
    for block in blocks():
        assert len(block.partition("NEMOTRON = ")[2].splitlines()) < 40


def test_the_example_works(example, monkeypatch):
    model = tiny()
    exact = doubled(model)
    freeze(model)
    assert registry.adapter_for(model.config) is example
    network = Network(model, example)
    settings = AttributionSettings(Quadrature.choose("gauss-legendre", 3))
    results = [result for batch in Engine(network, str, settings).run(prompts(6)) for result in batch.results]
    assert len(results) == 3
    monkeypatch.setitem(sys.modules["tiny_models"].DOWN, "nemotron", DOWN)
    rule = ([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], [5 / 18, 4 / 9, 5 / 18])
    batch = to_tensors(prompts(4), torch.device("cpu"))
    found = integrated_gradients(continue_from(network, batch), torch.arange(3), settings.quadrature, 64)
    for prompt, scores in zip(prompts(4), found.scores, strict=True):
        assert relative_error(scores, brute_force(exact, prompt.ids, prompt.position, prompt.answer, rule)) <= 1e-4
    assert network.down_parameter(2) == f"{DOWN.format(2)}.weight"


def test_the_example_is_refused_where_it_would_be_wrong(example):
    config = tiny().config
    assert example.max_tokens(config) == POSITIONS
    config.rope_parameters["rope_type"] = "longrope"
    with pytest.raises(registry.UnsupportedModelError, match=r"rope_parameters\.rope_type='longrope'"):
        registry.adapter_for(config)


def test_the_example_is_not_in_kndb_already():
    assert "nemotron" not in {adapter.family for adapter in registry.ADAPTERS}


def test_the_table_has_every_family():
    rows = re.findall(r"^\| `([a-z0-9_-]+)` \| (.*?) \|.*\| `([a-z0-9_]+\.py)` \|$", TEXT, flags=re.MULTILINE)
    stated = {family: (set(re.findall(r"`([\w-]+)`", types)), file) for family, types, file in rows}
    known = {adapter.family: set(adapter.model_types) for adapter in registry.ADAPTERS}
    assert {family: types for family, (types, _) in stated.items()} == known
    for _, file in stated.values():
        assert (Path(registry.__file__).parent / "families" / file).is_file()


@pytest.mark.parametrize(
    ("part", "prefix"),
    [(Adapter, ""), (Attention, "attention."), (FeedForward, "ffn."), (Norms, "norms."), (Experts, "experts.")],
)
def test_the_page_explains_every_field(part, prefix):
    section = TEXT.partition("## What an adapter states")[2].partition("## Adding one")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    cells = [cell for cell in first_cells if f"`{prefix}" in cell and (prefix or "." not in cell)]
    explained = {name.removeprefix(prefix) for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}
    fields = set(part.__dataclass_fields__) - {"attention", "ffn", "norms"}
    assert fields == explained
