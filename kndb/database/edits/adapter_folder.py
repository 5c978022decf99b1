"""The folder of an adapter that edits were exported to, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...editing.objects import adapter_tensors
from ...editing.objects.low_rank import LowRank
from ...exchange import peft_config
from ...files import making_folder, output_errors
from ...models.sources import REVISION
from ...records.edits import Edit
from ..models import ModelVersion

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
        values: numbers in these slots.
        values_equal: of these, those that come out with the edits' very bytes.
        largest_difference: the largest difference of a value that is left then.
        relative_error: ‖merged − edited‖ ÷ ‖edited − unedited‖, over the whole parameter.
        lost: the largest value of the change that was left out to keep the rank low.
    """

    module: str
    layer: int
    rank: int
    slots: int
    slots_equal: int
    values: int
    values_equal: int
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


def written(
    out: Path,
    done: ExportedAdapter,
    version: ModelVersion,
    records: Sequence[Edit],
    changes: Mapping[str, LowRank],
) -> ExportedAdapter:
    """Writes the folder, whole or not at all.

    Args:
        out: the folder.
        done: what is said of it, without its size.
        version: the version that it belongs on.
        records: the edits.
        changes: by module.

    Raises:
        OutputError: if it can't be written.
    """
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
    return replace(done, size=len(content))


def exactness(done: ExportedAdapter) -> list[str]:
    """What of an adapter is not bit-exact, in sentences with what was measured."""
    slots, equal, values, values_equal = (
        sum(getattr(one, name) for one in done.modules) for name in ("slots", "slots_equal", "values", "values_equal")
    )
    largest = max(one.largest_difference for one in done.modules)
    error = max(one.relative_error for one in done.modules)
    merged = (
        f"Merged into the weights in float32, {equal:,} of {slots:,} value slots have the very bytes of the edit "
        f"({values_equal:,} of {values:,} values)"
    )
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
