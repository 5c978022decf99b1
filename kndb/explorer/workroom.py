"""What computes with models: one thing at a time, with the versions used last kept in memory.

What a version answers never changes, as a version is its bytes; so answers are kept, too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..errors import EditError, KndbError
from ..records.edits import Edit
from ..records.models import ActivatingPrompt, Answer, Neuron, TokenEffect

if TYPE_CHECKING:
    from ..database import Database
    from ..database.activating import KeptActivations
    from ..database.edits.preview_stored import StoredPreview

KEPT_VERSIONS = 2
"""Versions of models in memory."""
KEPT_ANSWERS = 512
"""Answers and matrices in memory."""
Found = TypeVar("Found")


class VersionKey(NamedTuple):
    """A version in memory.

    Attributes:
        model, version: the model's name, and the version's id.
        moved: whether it is on the device that computes and in float32, as what is asked takes it; edits fit only
            weights in the dtype in which they are stored.
    """

    model: str
    version: str
    moved: bool


@dataclass(frozen=True)
class Work(Generic[Found]):
    """Something that a model gives, and that never changes.

    Attributes:
        key: what it is known by once it is done.
        compute: does it; nothing else computes meanwhile.
        version: the version that it takes in memory, if it is one of those that are kept there.
    """

    key: Hashable
    compute: Callable[[], Found]
    version: VersionKey | None = None


class Workroom:
    """Computes with a database's models, one thing at a time.

    Args:
        database: the store.
        patient: whether a version that could not be loaded is tried again when it is next asked for. Not where
            thousands of pages are written, each of which would wait for the same refusal.
    """

    def __init__(self, database: Database, *, patient: bool = True) -> None:
        self._database = database
        self._patient = patient
        self._refused: dict[VersionKey, KndbError] = {}
        self._busy = threading.Lock()
        self._counting: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()
        self._versions: OrderedDict[VersionKey, Any] = OrderedDict()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._read: OrderedDict[Hashable, KeptActivations] = OrderedDict()
        self._drafts: OrderedDict[Hashable, Any] = OrderedDict()
        self._stored: dict[Hashable, int] = {}

    def loaded(self, model: str, version: str) -> bool:
        """Whether a version is in memory: then asking it takes no loading."""
        key = VersionKey(model, self._database.models.resolve_version(model, version), moved=True)
        with self._guard:
            return key in self._versions

    def ready(self, work: Work[Any]) -> bool:
        """Whether some work takes no loading."""
        with self._guard:
            return work.version in self._versions

    def ask(self, model: str, text: str, version: str, top: int) -> Sequence[Answer]:
        """The most probable answers of a version; see `ModelCommands.ask`."""
        key = VersionKey(model, self._database.models.resolve_version(model, version), moved=True)
        return self._kept_result(
            ("ask", key, text, top),
            lambda: self._database.models.ask(model, text, top=top, on=self._version(key)),
            self._busy,
        )

    def token_effects(
        self, model: str, neuron: Neuron, version: str, top: int
    ) -> Work[tuple[Sequence[TokenEffect], Sequence[TokenEffect]]]:
        """The tokens that a value slot promotes and demotes; see `ModelCommands.token_effects`."""
        key = VersionKey(model, self._database.models.resolve_version(model, version), moved=True)
        return Work(
            ("effects", key, neuron, top),
            lambda: self._database.models.token_effects(model, neuron, top=top, on=self._version(key)),
            key,
        )

    def activating_prompts(
        self, model: str, neuron: Neuron, version: str, refinement: int, holders: Sequence[int], top: int, sample: int
    ) -> Work[tuple[Sequence[ActivatingPrompt], Sequence[ActivatingPrompt]]]:
        """The prompts, of a sample, that activate a neuron most and least; see `ModelCommands.activating_prompts`."""
        models = self._database.models
        key = VersionKey(model, models.resolve_version(model, version), moved=True)
        state = self.store_state()

        def compute() -> tuple[Sequence[ActivatingPrompt], Sequence[ActivatingPrompt]]:
            on, kept = self._version(key), self._activations(key, refinement, state)
            return models.activating_prompts(model, neuron, holders=holders, top=top, sample=sample, on=on, kept=kept)

        return Work(("activating", key, neuron, refinement, top, sample, state), compute, key)

    def answers(self, edit: Edit, top: int) -> Work[StoredPreview]:
        """What an edit does to its own facts' answers, on the version that it was planned on."""
        return self._previewed(edit, top, 0)

    def flips(self, edit: Edit, others: int) -> Work[StoredPreview]:
        """What it does to the answers to other facts, which takes much longer; see `EditCommands.preview_stored`."""
        return self._previewed(edit, 1, others)

    def _previewed(self, edit: Edit, top: int, others: int) -> Work[StoredPreview]:
        key, edits = VersionKey(edit.model, edit.base_version, moved=False), self._database.edits
        return Work(
            ("answers", key, edit.object_hash, top, others, self.store_state()),
            lambda: edits.preview_stored(edit.id, top=top, others=others, on=self._version(key)),
            key,
        )

    def store_state(self) -> Hashable:
        """What is another once facts, prompts or refinements were added, by whatever process.

        What is computed from a store's prompts and sets is kept by it.
        """
        refinements = tuple((one.id, one.complete) for one in self._database.query.refinements())
        return self._database.facts.state(), refinements

    def computed(self, compute: Callable[[], Found]) -> Found:
        """Computes something with a model, alone."""
        with self._busy:
            return compute()

    def known(self, work: Work[Found]) -> Found | None:
        """What some work gave when it was done; None if it was not, or too long ago."""
        return self._get(work.key)  # type: ignore[no-any-return]

    def done(self, work: Work[Found]) -> Found:
        """Does some work that always gives the same, once, while nothing else computes."""
        return self._kept_result(work.key, work.compute, self._busy)

    def drafted(self, key: Hashable, draft: Callable[[], Found]) -> Found:
        """A draft of an edit, computed once while it is looked at; only the last ones are kept."""
        with self._busy:
            if key not in self._drafts:
                self._drafts[key] = draft()
                while len(self._drafts) > KEPT_VERSIONS:
                    self._drafts.popitem(last=False)
            return self._drafts[key]  # type: ignore[no-any-return]

    def stored_once(self, key: Hashable, store: Callable[[], Edit]) -> Edit:
        """Stores a plan, alone; one that was stored, and is still there, is not stored twice.

        Raises:
            EditError: if it was.
        """
        with self._busy:
            number = self._stored.get(key)
            if number is not None and number in {one.id for one in self._database.edits.all()}:
                raise EditError(f"this plan is stored already, as edit {number}")
            made = store()
            self._stored[key] = made.id
            return made

    def counted(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """Something that the store's rows give and that never changes, computed once; nothing else is waited for."""
        with self._guard:
            alone = self._counting.setdefault(key, threading.Lock())
        try:
            return self._kept_result(key, compute, alone)
        finally:
            with self._guard:
                self._counting.pop(key, None)

    def _kept_result(self, key: Hashable, compute: Callable[[], Found], alone: threading.Lock) -> Found:
        """What was computed before; else computes it. What fails is computed again."""
        found = self._get(key)
        if found is None:
            with alone:
                found = self._get(key)  # Another thread may have computed it meanwhile.
                if found is None:
                    found = compute()
                    with self._guard:
                        self._kept[key] = found
                        while len(self._kept) > KEPT_ANSWERS:
                            self._kept.popitem(last=False)
        return found  # type: ignore[no-any-return]

    def _get(self, key: Hashable) -> Any:
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _activations(self, key: VersionKey, refinement: int, state: Hashable) -> KeptActivations:
        """What was read of a version's activations, for all neurons that a refinement holds; as for `_version`."""
        wanted = key, refinement, state
        if wanted not in self._read:
            held = self._database.query.held_neurons(refinement=refinement)
            self._read[wanted] = self._database.models.keep_activations(Neuron(one.layer, one.neuron) for one in held)
        self._read.move_to_end(wanted)
        while len(self._read) > KEPT_VERSIONS:
            self._read.popitem(last=False)
        return self._read[wanted]

    def _version(self, key: VersionKey) -> Any:
        """A version in memory; only called by the one that computes."""
        with self._guard:
            if key in self._versions:
                self._versions.move_to_end(key)
                return self._versions[key]
        if key in self._refused:
            raise self._refused[key]
        try:
            version = self._database.models.load(key.model, key.version)
        except KndbError as error:
            if not self._patient:
                self._refused[key] = error
            raise
        with self._guard:
            self._versions[key] = version
            while len(self._versions) > KEPT_VERSIONS:
                self._versions.popitem(last=False)
        return version
