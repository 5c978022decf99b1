"""Use cases of checkpoints: register, load a version, ask.

Imports no torch until a model is to be described or loaded: commands that only look at what the store knows of models
start at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..advice import Placeholder, call, option
from ..errors import NotFoundError, UsageError
from ..models.checkpoint_files import checkpoint_files
from ..models.sources import REVISION, lasting_source, locate
from ..records.display import Rows
from ..records.edits import Edit
from ..records.facts import BLANK
from ..records.models import LAB_MODELS, ActivatingPrompt, Answer, FedToken, Model, Neuron, TokenEffect
from ..sentences import with_blank_at_end
from ..store import models as store_models
from ..store import versions as store_versions
from ..store.edits import edit as store_edits
from ..store.engine import Store
from ..versions import version_id
from .model_versions import ModelVersion as ModelVersion
from .model_versions import VersionSource as VersionSource
from .model_versions import load_version
from .model_versions import require_checkpoint as require_checkpoint
from .model_versions import require_fingerprint as require_fingerprint

if TYPE_CHECKING:
    from ..editing.objects.diff_file import EditObject
    from ..models.acceptance import CheckpointDescription
    from ..models.adapter import Blank
    from ..models.device_maps import DeviceMapChoice, Split
    from .activating import KeptActivations

_MOST_QUOTED = 200
"""Letters of a typed text that a message repeats."""


def convert_checkpoint(source: str | Path, out: str | Path) -> CheckpointDescription:
    """What `ModelCommands.convert` does; takes no database."""
    from ..models.other_formats import convert

    return convert(Path(source), Path(out))


class ModelCommands:
    """Register, load and ask checkpoints."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, source: str, name: str | None = None, *, chat: bool = False) -> Model:
        """Registers a checkpoint; again the same changes nothing. Its files are only ever read.

        Args:
            source: a folder, a hub name or a lab model's name.
            name: what to call it; by default the last part of the source.
            chat: wrap every prompt that this model is ever fed in the checkpoint's own chat template: what stands
                before a prompt's blank is what a user says, and the answer is what the assistant says first.

        Raises:
            UsageError: if the name can't be one, or prompts for this kind of model can't be wrapped.
            ModelError: if it is no checkpoint, or the name stands for another one; UnsupportedModelError if no
                adapter fits.
        """
        from ..models.acceptance import describe

        chosen_name = Path(source.rstrip("/")).name.partition(REVISION)[0] if name is None else name
        if not chosen_name.strip() or not chosen_name.isprintable():
            raise UsageError(f"{chosen_name!r} can't name a model: a name is text that can be printed, and not empty")
        folder = locate(source)
        description = describe(folder, chat=chat)
        base = version_id(description.fingerprint, {})
        with self._store.writing() as connection:
            record = store_models.add_model(
                connection,
                name=chosen_name,
                source=lasting_source(source, folder),
                fingerprint=description.fingerprint,
                family=description.family,
                layers=description.layers,
                neurons=description.neurons,
                version=base,
                chat_template=description.chat_template,
            )
            store_versions.register_base(connection, record.id, base)
            return record

    def convert(self, source: str | Path, out: str | Path) -> CheckpointDescription:
        """Writes a checkpoint with pickled weights, or a GGUF file, as safetensors, so that it can be edited.

        Args:
            source: the checkpoint's folder, or the file. Only read.
            out: the folder to make.

        Returns:
            What the new checkpoint is. It is not registered.

        Raises:
            UsageError: if there is nothing to convert, the folder exists, or the package for GGUF is not installed.
            ModelError: if the source can't be read, or what was made of it can't be used.
        """
        return convert_checkpoint(source, out)

    def remark(self, name: str) -> str | None:
        """What whoever registered a model should know of it: that pickled weights can't be edited; None if nothing."""
        folder = Path(self.get(name).source)
        # Only folders are stored by their whole paths; of the hub, pickled weights are not fetched.
        if not folder.is_absolute() or not checkpoint_files(folder).pickled:
            return None
        return (
            f"{name} has pickled weights: it can be attributed and asked, and edits of it can't be written. Convert it "
            f"first: {call('models.convert', folder, out=Placeholder('DIR'))}"
        )

    def all(self) -> Rows[Model]:
        """All registered models."""
        with self._store.reading() as connection:
            return Rows(store_models.models(connection), Model)

    def get(self, name: str) -> Model:
        """A registered model; a lab model that is not registered yet is registered now.

        Raises:
            NotFoundError: if there is none of that name.
        """
        try:
            with self._store.reading() as connection:
                return store_models.model(connection, name)
        except NotFoundError:
            if name not in LAB_MODELS:
                raise
        return self.add(name)

    def resolve_version(self, name: str, version: str = "current") -> str:
        """The version id that a version id, a start of one, a snapshot's name, `base` or `current` stands for.

        Raises:
            NotFoundError: if there is no such model or version.
        """
        record = self.get(name)
        with self._store.reading() as connection:
            return store_versions.resolve_version(connection, record.id, version)

    def load(self, name: str, version: str = "current", *, split: Split | None = None) -> ModelVersion:
        """Loads a model at a version, in the dtype of its checkpoint; every edited slot is checked bit for bit.

        Args:
            name: a registered model, or a lab model.
            version: `current`, `base`, a version id or an unambiguous start of one, or a snapshot's name.
            split: how to keep its weights in other places than where it is computed; parameters that edits changed are
                kept in the CPU's memory where they would be on the disk. None loads all of them.

        Raises:
            NotFoundError: if there is no such model or version.
            ModelError: if only results of the model were imported, or its checkpoint is gone.
            FingerprintError: if the checkpoint's files changed since it was registered.
            DiffFileError: if an edit's object file is damaged or missing.
            UsageError: if the device map is not one of this model.
        """
        record, resolved, edits = self._version(name, version)
        folder = self._verified_folder(record)
        return load_version(record, resolved, folder, self._objects(edits), split)

    def source(self, name: str, version: str = "current") -> VersionSource:
        """What a process elsewhere needs to load a model at a version as `load` does; its weights are not read.

        Raises:
            NotFoundError, ModelError, DiffFileError: as `load`.
        """
        record, resolved, edits = self._version(name, version)
        return VersionSource(record, resolved, tuple(self._objects(edits)))

    def _version(self, name: str, version: str) -> tuple[Model, str, list[Edit]]:
        """A model, the id of a version of it, and the edits that make that."""
        record = self.get(name)
        require_checkpoint(record)
        with self._store.reading() as connection:
            resolved = store_versions.resolve_version(connection, record.id, version)
            edit_ids = store_versions.version_edits(connection, record.id, resolved)
            return record, resolved, [store_edits.edit(connection, edit_id) for edit_id in edit_ids]

    def _objects(self, edits: Iterable[Edit]) -> Iterator[EditObject]:
        from ..editing.objects import diff_file

        for edit in edits:
            yield diff_file.read(self._store.objects, edit.object_path, edit.object_hash)

    def verify_checkpoint(self, name: str) -> Path:
        """Compares a checkpoint's bytes with the registered fingerprint, and gives its folder.

        Raises:
            NotFoundError: if there is no such model.
            ModelError: if only results of the model were imported, or its checkpoint is gone.
            FingerprintError: if the checkpoint's files changed since it was registered.
        """
        record = self.get(name)
        require_checkpoint(record)
        return self._verified_folder(record)

    def _verified_folder(self, record: Model) -> Path:
        """The folder of a registered checkpoint, its bytes checked against the fingerprint.

        Raises:
            ModelError: if it is gone.
            FingerprintError: if it changed.
        """
        folder = locate(record.source)
        require_fingerprint(record, folder, folder)
        return folder

    def tokens(self, name: str, text: str, answer: str | None = None) -> Rows[FedToken]:
        """What the model is fed for a sentence with a blank, token by token, whatever asks it.

        Args:
            name: a registered model, or a lab model. Its weights are not loaded.
            text: as for `ask`.
            answer: the answer whose tokens are asked for; None to leave it open.

        Returns:
            The tokens in the order in which they are fed, then the answer's.

        Raises:
            UsageError: if the text, or the answer after it, can't be asked.
            NotFoundError: if there is no such model.
            ModelError: if only results of the model were imported, or its checkpoint is gone.
            FingerprintError: if the checkpoint's files changed since it was registered.
        """
        from ..models.fed_tokens import fed_tokens
        from ..models.loading import load_encoder
        from ..models.prompting import Skipped
        from ..records.skip_reasons import SKIP_REASONS

        folder, record = self.verify_checkpoint(name), self.get(name)
        encoder = load_encoder(folder, record.chat_template)
        example = call("models.tokens", name=name, text=f"The capital of France is {BLANK}.")
        found = fed_tokens(encoder, question_text(text, encoder.blank, example), answer)
        if isinstance(found, Skipped):
            asked = "" if answer is None else f" for {answer!r}"
            raise UsageError(f"{_shown(text)} can't be asked{asked}: {SKIP_REASONS[found.reason]}")
        return Rows(found, FedToken)

    def ask(
        self,
        name: str,
        text: str,
        *,
        version: str = "current",
        top: int = 5,
        device: str = "auto",
        sum_alike: bool = False,
        on: ModelVersion | None = None,
        device_map: DeviceMapChoice = None,
    ) -> Rows[Answer]:
        """The model's most probable answers to a sentence with a blank.

        Args:
            name: a registered model, or a lab model.
            text: a sentence with one `[Y]` or `[MASK]`; a causal model also takes one that just ends.
            version: as for `load`.
            top: how many answers, at least 1.
            device: where to compute.
            sum_alike: sum up the probabilities of tokens that are the same but for the space before them and for
                capital letters (` Rome`, `Rome`, `rome`).
            on: the model in memory, as `load` gave it; `version` is not heeded then. None loads it.
            device_map: where the model's weights are kept, as for `AttributionSettings`.

        Raises:
            UsageError: if the text can't be asked.
            ModelError: if the model's probabilities are not numbers.
        """
        import torch

        from ..models.answers import batched_log_probabilities, most_probable
        from ..models.device_maps import split_for
        from ..models.loading import choose_device
        from ..models.prompting import Skipped
        from ..records.skip_reasons import SKIP_REASONS

        if top < 1:
            raise UsageError(f"{option('top')} must be at least 1 (got {top})")
        chosen = choose_device(device)
        loaded = (on or self.load(name, version, split=split_for(device_map, chosen, torch.float32))).loaded
        example = call("models.ask", name=name, text=f"The capital of France is {BLANK}.")
        question = question_text(text, loaded.adapter.blank, example)
        encoded = loaded.encoder.encode(0, question, None)
        if isinstance(encoded, Skipped):
            raise UsageError(f"{_shown(text)} can't be asked: {SKIP_REASONS[encoded.reason]}")
        network = loaded.moved(chosen, torch.float32)
        ((_, log_probabilities),) = batched_log_probabilities(network, [encoded])
        answers = most_probable(log_probabilities[0].exp(), loaded.encoder.texts, top, sum_alike=sum_alike)
        return Rows(answers, Answer)

    def token_effects(
        self,
        name: str,
        neuron: Neuron,
        *,
        version: str = "current",
        top: int = 10,
        device: str = "auto",
        on: ModelVersion | None = None,
    ) -> tuple[list[TokenEffect], list[TokenEffect]]:
        """The tokens that a neuron's value slot makes more likely, and those that it makes less likely.

        The effect is head(slot) − head(0) in float32, with the whole head of the model (see
        `kndb.analysis.token_effects`).

        Args:
            name: a registered model, or a lab model.
            neuron: one of its neurons.
            version: as for `load`.
            top: how many tokens of each kind, at least 1.
            device: where to compute.
            on: the model in memory, as for `ask`.

        Returns:
            The promoted tokens, the largest effect first, and the demoted ones, the most negative first. Only tokens of
            the tokenizer count: a model may have more, to fill up its vocabulary. A token without an effect is in
            neither list.

        Raises:
            UsageError: if the model has no such neuron.
            NotFoundError: if there is no such model or version.
            ModelError: if only results of the model were imported, or its checkpoint is gone.
        """
        import torch

        from ..analysis.token_effects import token_effects
        from ..models.loading import choose_device

        if top < 1:
            raise UsageError(f"{option('top')} must be at least 1 (got {top})")
        chosen = choose_device(device)
        store_models.require_neuron(self.get(name), neuron)
        loaded = (on or self.load(name, version)).loaded
        effects = token_effects(loaded.moved(chosen, torch.float32), neuron)[: len(loaded.tokenizer)]

        def ranked(sign: int) -> list[TokenEffect]:
            order = effects.sort(descending=sign > 0, stable=True)
            pairs = zip(order.indices[:top].tolist(), order.values[:top].tolist(), strict=True)
            return [TokenEffect(loaded.decode(token), effect) for token, effect in pairs if effect * sign > 0]

        return ranked(1), ranked(-1)

    def activating_prompts(
        self,
        name: str,
        neuron: Neuron,
        *,
        holders: Sequence[int] = (),
        version: str = "current",
        top: int = 10,
        sample: int = 500,
        seed: int = 0,
        device: str = "auto",
        on: ModelVersion | None = None,
        kept: KeptActivations | None = None,
    ) -> tuple[Rows[ActivatingPrompt], Rows[ActivatingPrompt]]:
        """The prompts of the store with a neuron's highest activations and its lowest, of a sample that are asked.

        One prompt each is asked of the facts that hold the neuron, of at most half as many as the sample has, and of
        other facts drawn at random. What is read is the activation at the answer position, in float32.

        Args:
            name: a registered model, or a lab model.
            neuron: one of its neurons.
            holders: the numbers of facts that hold it, as `db.query.neuron` finds them.
            version: as for `load`.
            top: how many prompts to give of each kind, at least 1.
            sample: how many to ask, at least 1.
            seed: of the draw.
            device: where to compute.
            on: the model in memory, as for `ask`.
            kept: what was read for other neurons, made by `keep_activations`: of use where `on` is the same, too.

        Returns:
            The prompts with the highest activations, the highest first, and those with the lowest, the lowest first.
            Below zero, a GELU or SiLU is not silent: a neuron may act by its lowest.

        Raises:
            UsageError: if the model has no such neuron, or a number is out of range.
            NotFoundError: if there is no such model or version.
            ModelError: if only results of the model were imported, or its checkpoint is gone.
        """
        import torch

        from ..models.loading import choose_device
        from .activating import activating_prompts
        from .probes.draws import require_seed

        for option_name, number in (("top", top), ("sample", sample)):
            if number < 1:
                raise UsageError(f"{option(option_name)} must be at least 1 (got {number})")
        require_seed(seed)
        chosen = choose_device(device)
        store_models.require_neuron(self.get(name), neuron)
        loaded = (on or self.load(name, version)).loaded
        network = loaded.moved(chosen, torch.float32)
        found = activating_prompts(self._store, network, loaded.encoder, neuron, holders, top, sample, seed, kept)
        return Rows(found[0], ActivatingPrompt), Rows(found[1], ActivatingPrompt)

    def keep_activations(self, neurons: Iterable[Neuron]) -> KeptActivations:
        """Room for what `activating_prompts` reads, for those that ask about several neurons of a model in memory.

        A forward pass tells as much of thousands of neurons as of one, so each prompt is asked once for all of them.
        What was read of another model in memory, or before facts or prompts were added, is read again.

        Args:
            neurons: those that will be asked about; others may be, too, and gain nothing.
        """
        from .activating import KeptActivations

        return KeptActivations(neurons)


def question_text(text: str, blank: Blank, example: str) -> str:
    """A sentence with one `[Y]`, from one with `[Y]` or `[MASK]`; for a causal model, its end may be the blank.

    Args:
        text: what the user gave.
        blank: how the model is shown the blank.
        example: a command that is right, for the message.

    Raises:
        UsageError: if there is not exactly one blank.
    """
    from ..models.adapter import Blank as Kinds

    question = text.replace("[MASK]", BLANK)
    blanks = question.count(BLANK)
    if blanks == 1:
        return question
    if blanks == 0 and blank is Kinds.CUT and text.strip():
        return with_blank_at_end(question)
    raise UsageError(f"{_shown(text)} has {blanks} blanks; there must be one, as in: {example}")


def _shown(text: str) -> str:
    """A text as a message quotes it: its beginning, if it is long."""
    return repr(text) if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]!r}…"
