"""Covariances of keys: C = E[k kᵀ], k being what goes into a layer's down projection, over the tokens of some texts.

What a change Δ of the down projection does to other texts is E‖Δk‖² = tr(Δ C Δᵀ): the methods keep it small. Sums are
taken in double precision, text after text. A file holds the sums so far with all that decides them, so that a count
that was interrupted goes on where it stopped, to the same bytes; and it belongs to one model in one version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...errors import EditError
from ...models.network import Network
from ...records.many_settings import RomeSettings
from ...records.progress import Progress
from .covariance_file import CovarianceHeader, Origin, read_file, write_file
from .keys import at_places, every_key
from .sentences import Sentence
from .solving import typical_entry

__all__ = ["Covariance", "Origin", "count_keys", "empty", "read", "write"]

_TEXTS_AT_ONCE = 64


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
        """C = E[k kᵀ] with a part of its `typical_entry` added on the diagonal: [n, n].

        Args:
            ridge: which part.

        Raises:
            EditError: if there is no key.
        """
        if not self.keys:
            raise EditError(f"the covariance of layer {self.layer} is of no key; count it first")
        mean = self.total / self.keys
        mean.diagonal().add_(ridge * typical_entry(mean))
        return mean

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
        begun: by layer, what was counted so far; of one origin. The sums are added to where they stand. Layers that are
            less far catch up first, which gives the same as if all had been counted together.
        keep: called with what there is, after each part.
        progress: told how many sentences are done in all layers.

    Raises:
        EditError: if the model has an encoder.
    """
    found = dict(begun)
    while found:
        done = min(one.done for one in found.values())
        if done == len(sentences):
            break
        behind = [layer for layer, one in found.items() if one.done == done]
        until = min((one.done for one in found.values() if one.done > done), default=len(sentences))
        for start in range(done, until, _TEXTS_AT_ONCE):
            stop = min(start + _TEXTS_AT_ONCE, until)
            for layer, keys in _keys(network, sentences[start:stop], [found[layer] for layer in behind]):
                wide = keys.cpu().double()
                found[layer].total.addmm_(wide.T, wide)
                found[layer] = replace(found[layer], keys=found[layer].keys + len(wide))
            found |= {layer: replace(found[layer], done=stop) for layer in behind}
            if keep is not None:
                keep({layer: found[layer] for layer in behind})
            if progress is not None:
                progress(stop, len(sentences))
    return found


def _keys(
    network: Network, sentences: Sequence[Sentence], wanted: Sequence[Covariance]
) -> Iterator[tuple[int, torch.Tensor]]:
    layers = [one.layer for one in wanted]
    if wanted[0].origin.tokens == "every":
        yield from every_key(network, sentences, layers)
    else:
        yield from ((layer, found.keys) for layer, found in at_places(network, sentences, layers).items())


def empty(layer: int, neurons: int, origin: Origin) -> Covariance:
    """Nothing counted yet."""
    return Covariance(layer, origin, torch.zeros(neurons, neurons, dtype=torch.float64))


def spectrum(covariance: Covariance) -> tuple[int, float | None]:
    """How many dimensions the keys span, and the condition of C with the methods' ridge.

    Returns:
        The number of eigenvalues above rounding, λ > n·ε·λ₁; and the largest eigenvalue of what the methods solve with
        by its smallest, None where that is nothing.

    Raises:
        EditError: if there is no key.
    """
    mean = covariance.matrix()
    values = torch.linalg.eigvalsh(mean)
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1]
    ridge = RomeSettings().ridge * typical_entry(mean)
    least = values[0].clamp_min(0) + ridge
    condition = float((values[-1] + ridge) / least) if least > 0 else None
    return int((values > rounding).sum()), condition


def write(covariance: Covariance, path: Path) -> None:
    """Puts a covariance into a file, in one step; of a whole count, with its `spectrum`.

    Raises:
        EditError: if the file can't be written.
    """
    rank, condition = spectrum(covariance) if covariance.complete and covariance.keys else (None, None)
    header = CovarianceHeader(
        origin=covariance.origin,
        layer=covariance.layer,
        neurons=len(covariance.total),
        keys=covariance.keys,
        done=covariance.done,
        rank=rank,
        condition=condition,
        sha256="",
    )
    write_file(path, header, covariance.total.contiguous().numpy().data.cast("B"))


def read(path: Path) -> Covariance:
    """Reads a covariance from a file.

    Raises:
        EditError: if there is none, or it is not what `write` writes.
    """
    header, content = read_file(path)
    total = torch.frombuffer(content, dtype=torch.float64).reshape(header.neurons, header.neurons)
    if not bool(total.isfinite().all()):
        raise EditError(f"{path} can't be read as a covariance: it has values that are no numbers; remove it")
    return Covariance(header.layer, header.origin, total, header.keys, header.done)
