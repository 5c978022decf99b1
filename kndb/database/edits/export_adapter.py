"""Edits as a LoRA adapter that peft loads, with what it does measured against the edits' own bytes.

An adapter is added to the weights, or to what they compute, in floating point: it comes close to an edit, and only a
version of kndb's has its very bytes. So every export says how close it comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...advice import Placeholder, call, option
from ...editing.objects import adapter_tensors, diff_file
from ...editing.objects.diff_file import EditObject
from ...editing.objects.low_rank import Closeness, LowRank, closeness, low_rank
from ...editing.objects.slots import apply_object
from ...errors import ConflictError, EditError, UsageError
from ...exchange import peft_config
from ...files import making_folder, output_errors
from ...models.answers import batched_log_probabilities
from ...models.feed_forward import DenseBlock
from ...models.prompting import EncodedPrompt
from ...models.sources import REVISION
from ...records.edits import Edit
from ...records.recipes import facts_of
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .kept_prompts import encode_open

_ASKED = 50
"""Facts that the edits are for, and as many others, whose prompts are asked to compare answers."""
_TASKS = {"AutoModelForCausalLM": "CAUSAL_LM", "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM"}
"""What peft calls what a model is for, by the class that loads it; it has no word for masked models."""


@dataclass(frozen=True)
class AdaptedModule:
    """A down projection that an adapter changes.

    Attributes:
        module: its name in the model.
        layer: its layer; where layers share it, the lowest.
        rank: of its factors.
        slots: value slots that the edits change.
        slots_equal: of these, those that come out with the edits' very bytes when the adapter is merged into the
            weights in float32.
        largest_difference: the largest difference of a value that is left then.
        relative_error: ‖merged − edited‖ ÷ ‖edited − unedited‖, over the whole parameter.
        lost: the largest value of the change that was left out to keep the rank low.
    """

    module: str
    layer: int
    rank: int
    slots: int
    slots_equal: int
    largest_difference: float
    relative_error: float
    lost: float


@dataclass(frozen=True)
class ExportedAdapter:
    """An adapter folder that was written.

    Attributes:
        folder: its path.
        model: the model.
        edits: the edits, in order.
        version: the version that the adapter belongs on.
        builds_on: the edits that this version has; none if it is the checkpoint as it was registered.
        rank: the highest rank of a module.
        size: bytes of its tensors' file.
        modules: what changes.
        exact_when_merged: whether every slot comes out with the edits' very bytes when it is merged in float32.
        prompts: prompts that the edited model and the model with the adapter beside its weights were asked; 0 if the
            store has none that it can be asked.
        log_probability_difference: the largest difference of a token's log-probability there, in nats; None without
            prompts.
        answers_differing: prompts at which the most probable token differs; None without prompts.
    """

    folder: str
    model: str
    edits: tuple[int, ...]
    version: str
    builds_on: tuple[int, ...]
    rank: int
    size: int
    modules: tuple[AdaptedModule, ...]
    exact_when_merged: bool
    prompts: int
    log_probability_difference: float | None
    answers_differing: int | None


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
    return _written(out, done, version, records, {slots.module(name): one for name, one in changes.items()})


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


# --- writing --------------------------------------------------------------------------------------


def _written(
    out: Path,
    done: ExportedAdapter,
    version: ModelVersion,
    records: Sequence[Edit],
    changes: Mapping[str, LowRank],
) -> ExportedAdapter:
    source = version.record.source
    name, _, revision = (Path(source).name, "", "") if Path(source).is_absolute() else source.partition(REVISION)
    described: dict[str, object] = {
        "edits": [{"kind": one.kind, "title": one.title, "object": one.object_hash} for one in records],
        "fingerprint": version.record.fingerprint,
        "version": done.version,
        "modules": [asdict(one) for one in done.modules],
        "exact_when_merged": done.exact_when_merged,
        "prompts": done.prompts,
        "log_probability_difference": done.log_probability_difference,
        "answers_differing": done.answers_differing,
    }
    content = adapter_tensors.encode(changes, described)
    config = peft_config.config_text(
        {module: one.rank for module, one in changes.items()},
        base_model=name,
        revision=revision or None,
        task_type=_TASKS.get(version.adapter.auto_class),
        fan_in_fan_out=version.network.layers[done.modules[0].layer].layout.fan_in_fan_out,
    )
    page = peft_config.readme_text(
        None if Path(source).is_absolute() else name,
        [
            *(f"Edit: {one.title or one.kind}" for one in records),
            f"For version {done.version} of the checkpoint with fingerprint {version.record.fingerprint}.",
            *exactness(done),
        ],
    )
    with output_errors(out), making_folder(out) as folder:
        (folder / adapter_tensors.FILE).write_bytes(content)
        (folder / peft_config.FILE).write_text(config, encoding="utf-8")
        (folder / peft_config.README).write_text(page, encoding="utf-8")
    return ExportedAdapter(**{**vars(done), "size": len(content)})


def exactness(done: ExportedAdapter) -> list[str]:
    """What of an adapter is not bit-exact, in sentences with what was measured."""
    slots, equal = (sum(getattr(one, name) for one in done.modules) for name in ("slots", "slots_equal"))
    largest = max(one.largest_difference for one in done.modules)
    error = max(one.relative_error for one in done.modules)
    merged = f"Merged into the weights in float32, {equal:,} of {slots:,} value slots have the very bytes of the edit"
    found = [
        f"{merged}."
        if done.exact_when_merged
        else f"{merged}; a value is off by at most {largest:.3g}, all by {error:.3g} of the change's length."
    ]
    lost = max(one.lost for one in done.modules)
    if lost:
        found.append(
            f"To keep the rank at most {done.rank}, parts of the change of up to {lost:.3g} a value were left out."
        )
    found.append(
        "Loaded beside the weights, an adapter is added to what they compute, in floating point: that is never "
        "bit-exact, and neither is a merge that rounds the change to half precision first, as peft's own does."
    )
    if done.prompts:
        found.append(
            f"On {done.prompts:,} prompts, log-probabilities then differ from the edited model's by at most "
            f"{done.log_probability_difference:.3g}, and the most probable token at {done.answers_differing:,}."
        )
    return found
