"""Covariances of the keys of a model's layers: counted, kept beside the database, and found again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ...advice import option
from ...editing.many.covariance import Covariance, count_keys, empty, read, write
from ...editing.many.covariance_file import CovarianceHeader, Origin, check_file, read_header
from ...editing.many.methods import settled
from ...editing.many.passes import refuse_unfit
from ...editing.many.texts import taken
from ...editing.many.workspace import widened
from ...errors import EditError, StoreError, UsageError
from ...records.display import Rows
from ...records.many_recipes import UNEDITED
from ...records.many_settings import MemitSettings
from ...records.progress import Progress
from ...records.statistics import MOST_MEMORY, TOKENS_PER_NEURON, LayerStatistics, StatisticsSettings
from ...store.engine import Store
from ...versions import version_id
from ..models import ModelCommands, ModelVersion
from .kept_statistics import file_of, kept_statistics, mismatch, remedy
from .statistics_texts import is_causal, of_facts, origin_of, sentences_and_source

_T = TypeVar("_T")
_SECONDS = 20.0
"""Between two saves of what was counted."""
_BESIDE = 3
"""Matrices of a layer's size that are held beside the sums, while eigenvalues are computed."""


# --- counting ---------------------------------------------------------------------------------------------------


def count_statistics(
    store: Store,
    models: ModelCommands,
    model: str,
    settings: StatisticsSettings,
    *,
    version: str = "current",
    replaced: bool = False,
    progress: Progress | None = None,
) -> Rows[LayerStatistics]:
    """Counts the covariances of some layers' keys, and keeps them; what is kept of the same texts stays.

    Safe to interrupt: the same call resumes, and ends in the same bytes.

    Args:
        store: the store.
        models: loads the model.
        model: a registered model.
        settings: of which layers and texts.
        version: of the model, as for `ModelCommands.load`.
        replaced: whether what is kept of other texts is replaced; it stays until the new count is whole.
        progress: told how many texts were counted.

    Returns:
        What is kept of these layers.

    Raises:
        UsageError: if the model has no such layer, the sums would take too much memory, or other texts' are kept.
        NotFoundError: if there is no such model or version.
        InputError: if the file of texts can't be used.
        EditError: if the model or source can't be counted, or what is kept is damaged.
    """
    loaded = models.load(model, version)
    layers = _layers(loaded, settings)
    require_memory(loaded, len(layers), settings.most_memory)
    sentences, source = sentences_and_source(store, loaded, settings)
    origin = origin_of(loaded, sentences, source)
    begun: dict[int, Covariance] = {}
    for layer in layers:
        if _is_kept(store, loaded, layer, origin, replaced=replaced):
            _remove_begun(store, origin, layer)
        else:
            begun[layer] = _begun(store, loaded, layer, origin, replaced=replaced)
    if begun:
        _make_folder(store.statistics)
        count_keys(widened(loaded.network), sentences, begun, keep=_Saver(store), progress=progress)
    kept = kept_statistics(store, model)
    finished = {str(file_of(store, loaded.record.fingerprint, loaded.version, layer)) for layer in layers}
    return Rows([one for one in kept if one.file in finished], LayerStatistics)


def count_from_facts(
    store: Store,
    version: ModelVersion,
    layers: Sequence[int],
    *,
    leaving_out: Collection[int] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[int, Covariance]:
    """Counts the covariances of some layers' keys on the prompts of the store's facts, and keeps nothing.

    Args:
        store: the store.
        version: the model in memory, on its weights as they are.
        layers: which layers.
        leaving_out: facts to be edited: neither their prompts count, nor others that ask the same.
        seed: of the prompts' order.
        progress: told how many texts were counted.

    Raises:
        UsageError: if the sums would take too much memory.
        EditError: if the model can't be counted, or there is no other fact that it can be asked.
    """
    require_memory(version, len(layers), MOST_MEMORY)
    most = TOKENS_PER_NEURON * version.record.neurons
    sentences = taken(of_facts(store, version, leaving_out, seed), most, causal=is_causal(version))
    source = UNEDITED if leaving_out else "facts"
    origin = origin_of(version, sentences, source)
    begun = {layer: empty(layer, version.record.neurons, origin) for layer in layers}
    return count_keys(widened(version.network), sentences, begun, progress=progress)


def require_memory(version: ModelVersion, layers: int, most: int) -> None:
    """Refuses sums that would take more memory than is allowed.

    Raises:
        UsageError: if they would; says how many layers fit, or how much is needed.
        EditError: if the model has an encoder or experts.
    """
    refuse_unfit(version.network)
    each = 8 * version.record.neurons**2
    needed = each * (layers + _BESIDE)
    if needed <= most:
        return
    fit = most // each - _BESIDE
    fewer = (
        f"name at most {fit} of them with {option('layers')} and count the others in a second call, or "
        if fit > 0
        else ""
    )
    raise UsageError(
        f"the covariances of {layers} layers of {version.record.neurons:,} neurons take {needed:,} bytes of memory, "
        f"and {most:,} are allowed; {fewer}allow more with {option('most_memory', needed)}"
    )


class _Saver:
    """Keeps what was counted, now and then, and when it is whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = time.monotonic()

    def __call__(self, found: Mapping[int, Covariance]) -> None:
        whole_now = all(one.complete for one in found.values())
        if not whole_now and time.monotonic() - self._last < _SECONDS:
            return
        for one in found.values():
            begun, finished = (
                file_of(self._store, one.origin.fingerprint, one.origin.version, one.layer, begun=part)
                for part in (True, False)
            )
            write(one, finished if one.complete else begun)
            if one.complete:
                begun.unlink(missing_ok=True)
        self._last = time.monotonic()


def _layers(version: ModelVersion, settings: StatisticsSettings) -> tuple[int, ...]:
    refuse_unfit(version.network)
    count = version.record.layers
    if settings.layers is None:
        return settled(MemitSettings(), version.network).layers or ()
    if isinstance(settings.layers, str):
        return tuple(range(count))
    for layer in settings.layers:
        if not 0 <= layer < count:
            raise UsageError(
                f"{option('layers')} must be from 0 to {count - 1} for model {version.record.name} (got {layer})"
            )
    return tuple(sorted(set(settings.layers)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} can't be made: {error.strerror or error}") from error


# --- what is kept -----------------------------------------------------------------------------------------------


def kept_covariances(store: Store, version: ModelVersion, layers: Sequence[int]) -> dict[int, Covariance]:
    """What is kept of some layers of a checkpoint: of this version, or else of its base version.

    Args:
        store: the store.
        version: the model in memory.
        layers: which layers; one of which nothing is kept, or only a part of the texts was counted, is missing in the
            answer.

    Raises:
        EditError: if a file is damaged, or not of this checkpoint.
    """
    record = version.record
    base = version_id(record.fingerprint, {})
    found: dict[int, Covariance] = {}
    for layer in layers:
        for number in dict.fromkeys((version.version, base)):
            path = file_of(store, record.fingerprint, number, layer)
            if os.path.lexists(path):
                found[layer] = _sound(version, path, number, layer)
                break
    return found


def covariances_for(
    store: Store, version: ModelVersion, layers: Sequence[int], edited: Collection[int], *, seed: int
) -> dict[int, Covariance]:
    """What is kept of some layers; of a layer of which nothing is, counted on the prompts of facts that are not edited.

    Args:
        store: the store.
        version: the model in memory, on its weights as they are.
        layers: which layers.
        edited: facts whose sentences don't count.
        seed: of the prompts' order.

    Raises:
        EditError: if a file is damaged, or there is no other fact that the model can be asked.
        UsageError: if the sums would take too much memory.
    """
    found = kept_covariances(store, version, layers)
    missing = [layer for layer in layers if layer not in found]
    return found | (count_from_facts(store, version, missing, leaving_out=edited, seed=seed) if missing else {})


def _sound(version: ModelVersion, path: Path, number: str, layer: int) -> Covariance:
    """The covariance that a file holds.

    Raises:
        EditError: if it is damaged, not whole, or of something else.
    """
    with _refusing(version, path, layer):
        _header(version, path, number, layer)
        found = read(path)
        found.require(version.record.fingerprint, layer, version.record.neurons)
    return found


def _header(version: ModelVersion, path: Path, number: str, layer: int) -> CovarianceHeader:
    header = read_header(path)
    wrong = mismatch(header, version.record, number, layer)
    if wrong is not None:
        raise EditError(wrong)
    return header


@contextmanager
def _refusing(version: ModelVersion, path: Path, layer: int) -> Iterator[None]:
    """Says of the block's errors which statistics can't be used, and how to get rid of them."""
    try:
        yield
    except EditError as error:
        why = error.text if str(path) in error.text else f"{path}: {error.text}"
        raise EditError(
            f"the kept statistics of layer {layer} can't be used: {why}; {remedy(version.record.name, layer)}"
        ) from error


def _is_kept(store: Store, version: ModelVersion, layer: int, origin: Origin, *, replaced: bool) -> bool:
    """Whether a layer's covariance over these texts is kept.

    Raises:
        UsageError: if that over other texts is, and is not to be replaced.
        EditError: if the file is damaged, and is not to be replaced.
    """
    path = file_of(store, origin.fingerprint, origin.version, layer)
    complete = _of_these_texts(version, path, layer, origin, lambda: check_file(path).complete, replaced=replaced)
    return complete is True


def _remove_begun(store: Store, origin: Origin, layer: int) -> None:
    """Removes what is left of a count that was killed once its whole was written."""
    path = file_of(store, origin.fingerprint, origin.version, layer, begun=True)
    try:
        if os.path.lexists(path) and read_header(path).origin.same_count(origin):
            path.unlink(missing_ok=True)
    except EditError:
        return  # It is damaged: `kndb db check` names it.
    except OSError as error:
        raise StoreError(f"{path} can't be removed: {error.strerror or error}") from error


def _begun(store: Store, version: ModelVersion, layer: int, origin: Origin, *, replaced: bool) -> Covariance:
    """Where the count of a layer stands.

    Raises:
        UsageError: if a count of other texts was begun, and is not to be replaced.
        EditError: if the file is damaged, and is not to be replaced.
    """
    path = file_of(store, origin.fingerprint, origin.version, layer, begun=True)
    stands = _of_these_texts(version, path, layer, origin, lambda: read(path), replaced=replaced)
    # What the texts are called is this call's to say.
    return empty(layer, version.record.neurons, origin) if stands is None else replace(stands, origin=origin)


def _of_these_texts(
    version: ModelVersion, path: Path, layer: int, origin: Origin, look: Callable[[], _T], *, replaced: bool
) -> _T | None:
    """What a file of a layer's statistics says, if they are of these texts.

    Args:
        version: the model.
        path: the file.
        layer: the layer.
        origin: the texts, and whose keys are counted.
        look: reads the file.
        replaced: whether a file that is damaged, or of other texts, may be replaced.

    Returns:
        What `look` gives; None if there is no file, or another one, which is replaced.

    Raises:
        UsageError: if they are of other texts, and not to be replaced.
        EditError: if the file is damaged, and not to be replaced.
    """
    if not os.path.lexists(path):
        return None
    try:
        with _refusing(version, path, layer):
            header = _header(version, path, origin.version, layer)
            if header.origin.same_count(origin):
                return look()
    except EditError:
        if replaced:
            return None
        raise
    if not replaced:
        raise _of_other_texts(version, header, layer)
    return None


def _of_other_texts(version: ModelVersion, header: CovarianceHeader, layer: int) -> UsageError:
    what = "are kept" if header.complete else "were begun, and interrupted"
    return UsageError(
        f"statistics of layer {layer} of {version.record.name} over {header.origin.texts:,} other texts "
        f"({header.origin.source}) {what}; replace them with {option('replace', True)}, or leave this layer out"
    )
