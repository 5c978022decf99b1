"""Edits as a LoRA adapter that peft loads, with what it does measured against the edits' own bytes.

An adapter is added to the weights, or to what they compute, in floating point: it comes close to an edit, and only a
version of kndb's has its very bytes. So every export says how close it comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ...advice import Placeholder, call, option
from ...editing.objects import diff_file
from ...editing.objects.diff_file import EditObject
from ...editing.objects.low_rank import Closeness, LowRank, closeness, low_rank
from ...editing.objects.slots import apply_object
from ...errors import ConflictError, EditError, UsageError
from ...models.answers import batched_log_probabilities
from ...models.feed_forward import DenseBlock
from ...models.prompting import EncodedPrompt
from ...records.edits import Edit
from ...records.recipes import facts_of
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .adapter_folder import AdaptedModule, ExportedAdapter, written
from .kept_prompts import encode_open

_ASKED = 50
"""Facts that the edits are for, and as many others, whose prompts are asked to compare answers."""


def export_adapter(
    store: Store, models: ModelCommands, edits: Sequence[int], out: Path, *, rank: int | None
) -> ExportedAdapter:
    """Writes edits as an adapter; see `EditCommands.export_adapter`."""
    if rank is not None and rank < 1:
        raise UsageError(f"{option('rank')} must be at least 1 (got {rank})")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already and is not an empty folder; choose another {option('out')}")
    records = _records(store, edits)
    contents = [diff_file.read(store.objects, one.object_path, one.object_hash) for one in records]
    _require_slots(records, contents)
    first = records[0]
    version = models.load(first.model, first.base_version)
    slots = _Slots(version, contents)
    before = slots.copied()
    prompts = _prompts(store, version, records)
    _apply(version, records, contents)
    after = slots.copied()
    changed = [name for name in before if not _same(before[name], after[name])]
    if not changed:
        raise EditError("the edits together change nothing; there is nothing to export")
    wanted = _answers(version, prompts)
    changes = {name: low_rank(before[name], after[name], slots.known_factors(name, contents), rank) for name in changed}
    slots.put(before)
    with slots.with_adapter(changes):
        found = _answers(version, prompts)
    close = {name: closeness(before[name], after[name], changes[name].added_to(before[name])) for name in changed}
    modules = tuple(
        AdaptedModule(slots.module(name), slots.layers[name], changes[name].rank, lost=changes[name].lost, **vars(one))
        for name, one in close.items()
    )
    with store.reading() as connection:
        base = store_versions.version_edits(connection, version.record.id, first.base_version)
    done = ExportedAdapter(
        folder=str(out),
        model=first.model,
        edits=tuple(edits),
        version=version.version,
        builds_on=tuple(base),
        rank=max(one.rank for one in modules),
        size=0,
        modules=modules,
        exact_when_merged=all(_exact(one) for one in close.values()),
        prompts=len(prompts),
        log_probability_difference=float((wanted - found).abs().max()) if prompts else None,
        answers_differing=int((wanted.argmax(-1) != found.argmax(-1)).sum()) if prompts else None,
    )
    return written(out, done, version, records, {slots.module(name): one for name, one in changes.items()})


def _records(store: Store, edits: Sequence[int]) -> list[Edit]:
    if not edits:
        raise UsageError("there is no edit to export; give at least one number")
    if len(set(edits)) < len(edits):
        raise UsageError("an edit is named twice; give each once, in the order in which they were planned")
    with store.reading() as connection:
        records = [store_edits.edit(connection, number) for number in edits]
    names = sorted({record.model for record in records})
    if len(names) > 1:
        raise UsageError(f"the edits are of models {', '.join(names)}; an adapter is for one model")
    return records


def _require_slots(records: Sequence[Edit], contents: Sequence[EditObject]) -> None:
    for record, content in zip(records, contents, strict=True):
        whole = [part.parameter for part in content.tensors if part.slots is None]
        if whole:
            raise EditError(
                f"edit {record.id} changes {whole[0]}, which is no feed-forward down projection; the adapters that are "
                f"written here change value slots alone. {_whole_version(record.model)}"
            )


def _whole_version(model: str) -> str:
    return (
        "Apply the edit, and write the whole version instead: "
        f"{call('snapshots.export', 'current', model, out=Placeholder('DIR'))}"
    )


def _apply(version: ModelVersion, records: Sequence[Edit], contents: Sequence[EditObject]) -> None:
    parameters = dict(version.model.named_parameters())
    for record, content in zip(records, contents, strict=True):
        with _in_order(record, version):
            apply_object(parameters, content)


@contextmanager
def _in_order(record: Edit, version: ModelVersion) -> Iterator[None]:
    try:
        yield
    except ConflictError as error:
        raise EditError(
            f"edit {record.id} doesn't fit the ones before it on version {version.version} ({error.text}); give every "
            "edit that it builds on, too, in the order in which they were planned"
        ) from error


class _Slots:
    """The down projections that edits change, in a model in memory."""

    def __init__(self, version: ModelVersion, contents: Sequence[EditObject]) -> None:
        self._network = version.network
        self._parameters = dict(version.model.named_parameters())
        self.layers: dict[str, int] = {}
        for content in contents:
            self.layers |= content.layers
            self.layers |= {part.parameter: part.slots.layer for part in content.tensors if part.slots is not None}
        self.layers = dict(sorted(self.layers.items(), key=lambda item: item[1]))
        for name, layer in self.layers.items():
            block = self._network.layers[layer].block
            plain = isinstance(block.down, torch.nn.Linear) or type(block.down).__name__ == "Conv1D"
            if not isinstance(block, DenseBlock) or not plain:
                raise EditError(
                    f"{name} holds the down projections of a mixture of experts; an adapter's lora_A and lora_B "
                    f"belong to a module with one matrix. {_whole_version(version.record.name)}"
                )

    def module(self, name: str) -> str:
        """The name of a parameter's module."""
        return name.removesuffix(".weight")

    def copied(self) -> dict[str, torch.Tensor]:
        """Copies of all value slots of each, [n, d]."""
        return {name: self._slots(name).detach().cpu().clone() for name in self.layers}

    def put(self, values: Mapping[str, torch.Tensor]) -> None:
        """Writes all value slots back."""
        for name, slots in values.items():
            self._slots(name).detach().copy_(slots)

    def _slots(self, name: str) -> torch.Tensor:
        return self._network.layers[self.layers[name]].layout.by_neuron(self._parameters[name])

    def known_factors(self, name: str, contents: Sequence[EditObject]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What was added to a parameter, [n, r] and [r, d], if one edit alone changes it and knows that."""
        touching = [part for content in contents for part in content.tensors if part.parameter == name]
        plain = any(diff.parameter == name for content in contents for diff in content.parameters)
        if plain or len(touching) != 1 or touching[0].factors is None or touching[0].slots is None:
            return None
        factors = touching[0].factors
        left = torch.zeros(len(self._slots(name)), factors.rank, dtype=torch.float64)
        left[list(touching[0].slots.indices)] = torch.from_numpy(factors.left.copy())
        return left, torch.from_numpy(factors.right.copy())

    @contextmanager
    def with_adapter(self, changes: Mapping[str, LowRank]) -> Iterator[None]:
        """While open, each module adds what its adapter gives to what it gives itself, as peft computes it."""
        with ExitStack() as hooks:
            for name, change in changes.items():
                module = self._network.layers[self.layers[name]].block.down
                hooks.callback(module.register_forward_hook(_adding(change)).remove)
            yield


def _adding(change: LowRank) -> Any:
    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        beside = inputs[0].float() @ change.left.to(output.device) @ change.right.to(output.device)
        return (output + beside).to(output.dtype)

    return hook


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(diff_file.slot_bytes(one), diff_file.slot_bytes(other))


def _exact(one: Closeness) -> bool:
    return one.slots == one.slots_equal and one.largest_difference == 0


# --- answers --------------------------------------------------------------------------------------


def _prompts(store: Store, version: ModelVersion, records: Sequence[Edit]) -> list[EncodedPrompt]:
    """The prompts of the edits' facts, and of as many others, drawn at random."""
    own: list[int] = []
    for record in records:
        for fact in facts_of(record.recipe):
            here = fact.id if record.fact_numbers is None else record.fact_numbers.get(str(fact.id))
            own += [] if here is None else [here]
    with store.reading() as connection:
        every = [fact.id for fact in store_facts.find_facts(connection)]
        asked = [number for number in dict.fromkeys(own) if number in set(every)][:_ASKED]
        others = sorted(set(every) - set(own))
        asked += random.Random(0).sample(others, min(_ASKED, len(others)))  # noqa: S311 - not for secrets
        every_prompt = store_facts.prompts(connection, fact_ids=asked)
    # One of each: to compare two ways to compute the same sum takes no more.
    return encode_open(version, list({prompt.fact_id: prompt for prompt in reversed(every_prompt)}.values()))


def _answers(version: ModelVersion, prompts: Sequence[EncodedPrompt]) -> torch.Tensor:
    """Log-probabilities [prompts, vocabulary] at the blanks."""
    rows: dict[int, torch.Tensor] = {}
    for indices, found in batched_log_probabilities(version.network, prompts):
        rows |= dict(zip(indices, found, strict=True))
    return torch.stack([rows[place] for place in range(len(prompts))]) if prompts else torch.zeros(0, 1)
