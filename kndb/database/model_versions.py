"""A version of a model: in memory, and as it travels to processes elsewhere, which load it as this one would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..advice import Placeholder, call
from ..errors import FingerprintError, ModelError
from ..models.sources import locate
from ..records.models import Model

if TYPE_CHECKING:
    from ..editing.objects.diff_file import EditObject
    from ..models.adapter import Adapter
    from ..models.device_maps import Split
    from ..models.loading import LoadedModel
    from ..models.network import Network
    from ..models.prompting import Encoder


@dataclass(frozen=True)
class ModelVersion:
    """A checkpoint in memory, patched to a version.

    Attributes:
        record: what the store knows of the model.
        version: the version's id.
        folder: the base checkpoint, which was compared with its fingerprint.
        loaded: the model with its tokenizer and adapter.
    """

    record: Model
    version: str
    folder: Path
    loaded: LoadedModel

    def __repr__(self) -> str:
        return f"ModelVersion({self.record.name}, {self.version})"

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.loaded.tokenizer

    @property
    def adapter(self) -> Adapter:
        """What kndb knows of its family."""
        return self.loaded.adapter

    @property
    def encoder(self) -> Encoder:
        """Prompts to token ids."""
        return self.loaded.encoder

    @property
    def network(self) -> Network:
        """The model in pieces, made once."""
        return self.loaded.network


@dataclass(frozen=True)
class VersionSource:
    """A model's version as it travels to a process elsewhere, which has the checkpoint in the same place.

    Attributes:
        record: what the store knows of the model.
        version: the version's id.
        edits: the edits that make it, in order.
    """

    record: Model
    version: str
    edits: tuple[EditObject, ...]

    def load(self, split: Split | None = None) -> ModelVersion:
        """Loads it, all checks included.

        Args:
            split: how to keep its weights in other places than where it is computed; None loads all of them.

        Raises:
            ModelError: if its checkpoint is not there.
            FingerprintError: if the checkpoint's files are others than those that were registered.
            UsageError: if the device map is not one of this model.
        """
        folder = locate(self.record.source)
        require_fingerprint(self.record, folder, folder)
        return load_version(self.record, self.version, folder, self.edits, split)

    def encoder(self) -> Encoder:
        """Its encoder; the weights are not read.

        Raises:
            ModelError: if the checkpoint is not there.
        """
        from ..models.loading import load_encoder

        return load_encoder(locate(self.record.source), self.record.chat_template)


def load_version(
    record: Model, version: str, folder: Path, edits: Iterable[EditObject], split: Split | None = None
) -> ModelVersion:
    """Loads a checkpoint that was compared with its fingerprint, and patches it; every edited slot is checked."""
    # Not sooner: a checkpoint that is gone or changed is refused at once.
    from ..editing.objects.slots import apply_object, check_fingerprint
    from ..models import loading

    if split is None:
        loaded = loading.load(folder, record.name, record.chat_template)
    else:
        from ..models.split_loading import load_split

        loaded = load_split(folder, split, record.name, record.chat_template)
    for edit_object in edits:
        check_fingerprint(edit_object, record.fingerprint)
        apply_object(loaded.parameters(edit_object.touched), edit_object)
    return ModelVersion(record, version, folder, loaded)


def require_fingerprint(record: Model, folder: Path, named: Path) -> None:
    """Compares the files in a folder with a registered checkpoint's fingerprint.

    Args:
        record: the model.
        folder: the files to hash: the checkpoint, or a copy of it.
        named: the checkpoint's folder, for the message.

    Raises:
        FingerprintError: if they differ.
    """
    # Safetensors, which asks for numpy, is imported only to hash.
    from ..models.fingerprint import fingerprint

    found = fingerprint(folder)
    if found != record.fingerprint:
        raise FingerprintError(
            f"{named}: this is not the checkpoint registered as {record.name!r}: its fingerprint is {found[:12]}, and "
            f"{record.fingerprint[:12]} was registered. Put the registered files back, or register these as another "
            f"model: {call('models.add', Placeholder('PATH'), name=Placeholder('NAME'))}"
        )


def require_checkpoint(record: Model) -> None:
    """Refuses a model of which only results were imported.

    Raises:
        ModelError: if there is no checkpoint.
    """
    if not record.has_checkpoint:
        raise ModelError(
            f"model {record.name!r} has no checkpoint to load: the store has only imported results of it. Register "
            f"the checkpoint with: {call('models.add', Placeholder('PATH'), name=record.name)}"
        )
