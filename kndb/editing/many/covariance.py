"""Covariances of keys: C = E[k kᵀ], k being what goes into a layer's down projection, over the tokens of some texts.

What a change Δ of the down projection does to other texts is E‖Δk‖² = tr(Δ C Δᵀ): the methods keep it small. Sums are
taken in double precision, text after text. A file holds the sums so far with all that decides them, so that a count
that was interrupted goes on where it stopped, to the same bytes; and it belongs to one model in one version.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save

from ...errors import EditError
from ...models.network import Network
from ...records.progress import Progress
from .keys import at_places, every_key
from .sentences import Sentence

_FORMAT = "kndb-covariance-1"
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Origin:
    """What a covariance is of.

    Attributes:
        fingerprint: of the model's checkpoint; `version`: which of its versions.
        source: where the texts are from, in words that tell one source from another.
        tokens: `every` token of the texts counts, or their `place` alone.
        texts: how many texts there are.
        digest: sha256 of the texts' token ids, in hex.
    """

    fingerprint: str
    version: str
    source: str
    tokens: str
    texts: int
    digest: str


@dataclass(frozen=True, eq=False)
class Covariance:
    """The sum of k kᵀ over some keys of one layer.

    Attributes:
        layer: the layer.
        origin: what it is of.
        total: Σ k kᵀ, [n, n] in double precision.
        keys: how many keys.
        done: how many of the texts.
    """

    layer: int
    origin: Origin
    total: torch.Tensor
    keys: int = 0
    done: int = 0

    @property
    def complete(self) -> bool:
        """Whether all texts were counted."""
        return self.done == self.origin.texts

    def matrix(self, ridge: float = 0.0) -> torch.Tensor:
        """C = E[k kᵀ] with a part of its median diagonal entry added there: [n, n].

        The mean would be that of a few neurons: at the first token, many decoders have some that are a thousand times
        as active as any elsewhere.

        Args:
            ridge: which part.

        Raises:
            EditError: if there is no key.
        """
        if not self.keys:
            raise EditError(f"the covariance of layer {self.layer} is of no key; count it first")
        mean = self.total / self.keys
        return mean + ridge * mean.diagonal().median() * torch.eye(len(mean), dtype=mean.dtype)

    def require(self, fingerprint: str, layer: int, neurons: int) -> None:
        """Refuses a covariance of something else.

        Raises:
            EditError: if it is of another checkpoint, layer or size, or not complete.
        """
        if self.origin.fingerprint != fingerprint:
            raise EditError(
                f"the covariance is of checkpoint {self.origin.fingerprint[:12]}, and the model is "
                f"{fingerprint[:12]}; count it on this model"
            )
        if self.layer != layer or len(self.total) != neurons:
            raise EditError(
                f"the covariance is of layer {self.layer} with {len(self.total)} neurons; layer {layer} with {neurons} "
                "is needed"
            )
        if not self.complete:
            raise EditError(
                f"the covariance of layer {layer} was interrupted after {self.done} of {self.origin.texts} texts; "
                "resume it first"
            )


def count_keys(
    network: Network,
    sentences: Sequence[Sentence],
    begun: Mapping[int, Covariance],
    *,
    keep: Callable[[Mapping[int, Covariance]], None] | None = None,
    progress: Progress | None = None,
) -> dict[int, Covariance]:
    """Counts the keys of sentences that were not counted yet.

    Args:
        network: the model.
        sentences: all of them, in the order in which they are counted.
        begun: by layer, what was counted so far; of one origin, and equally far.
        keep: called with what there is, after each part.
        progress: told how many sentences are done.

    Raises:
        EditError: if the model has an encoder.
    """
    found = dict(begun)
    if not found:
        return found
    done = next(iter(found.values())).done
    for start in range(done, len(sentences), _TEXTS_AT_ONCE):
        part = sentences[start : start + _TEXTS_AT_ONCE]
        for layer, keys in _keys(network, part, found):
            wide = keys.double().cpu()
            one = found[layer]
            found[layer] = replace(one, total=one.total + wide.T @ wide, keys=one.keys + len(wide))
        found = {layer: replace(one, done=start + len(part)) for layer, one in found.items()}
        if keep is not None:
            keep(found)
        if progress is not None:
            progress(start + len(part), len(sentences))
    return found


def _keys(network: Network, sentences: Sequence[Sentence], wanted: Mapping[int, Covariance]) -> Any:
    layers = list(wanted)
    if next(iter(wanted.values())).origin.tokens == "every":
        return every_key(network, sentences, layers)
    return ((layer, found.keys) for layer, found in at_places(network, sentences, layers).items())


def empty(layer: int, neurons: int, origin: Origin) -> Covariance:
    """Nothing counted yet."""
    return Covariance(layer, origin, torch.zeros(neurons, neurons, dtype=torch.float64))


def write(covariance: Covariance, path: Path) -> None:
    """Puts a covariance into a file: a safetensors file of `total`, with the rest as metadata; in one step.

    Raises:
        EditError: if the file can't be written.
    """
    about = {**asdict(covariance.origin), "layer": covariance.layer, "keys": covariance.keys, "done": covariance.done}
    metadata = {_FORMAT: json.dumps(about, sort_keys=True)}  # One entry: the order of several is left to chance.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(save({"total": covariance.total.contiguous()}, metadata))
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EditError(f"{path} can't be written: {error.strerror or error}") from error


def read(path: Path) -> Covariance:
    """Reads a covariance from a file.

    Raises:
        EditError: if there is none, or it is not what `write` writes.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            about: dict[str, Any] = json.loads(metadata[_FORMAT])
            total = content.get_tensor("total")
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise EditError(f"{path} can't be read as a covariance: {error}; remove it and count again") from error
    layer, keys, done = (about.pop(name) for name in ("layer", "keys", "done"))
    found = Covariance(layer, Origin(**about), total, keys, done)
    if total.dtype != torch.float64 or total.ndim != 2 or total.shape[0] != total.shape[1]:
        raise EditError(f"{path} holds {total.dtype} {list(total.shape)}; a covariance is float64 [n, n]")
    return found
