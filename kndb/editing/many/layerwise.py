"""What the methods by keys share: targets at the last of some layers, spread over them in order.

    for each layer l in order:  K = keys of l,  R = (Z − H) ÷ (layers left),  W_l ← W_l + R·M(K)

H is what the last layer's output is at the places by then, on the weights as they have become, and M the method's map
(`rome`, `memit`, `emmet`, `alphaedit`). A further round looks for targets again from there; rewrites that have won ask
for nothing more, and keep what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ...errors import EditError
from ...models.network import Network
from ...records.many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    KeySettings,
    MemitSettings,
    RomeSettings,
)
from ...records.progress import Progress
from . import alphaedit, emmet, memit, rome
from .covariance import Covariance
from .keys import all_sentences, at_places, mean_of_each
from .sentences import Rewrite
from .targets import find_targets
from .targets_file import TargetsFile
from .workspace import Workspace

Map = Callable[[int, torch.Tensor], torch.Tensor]
"""A layer and K [n, U] to M [U, n]."""


@dataclass(frozen=True, eq=False)
class LayerwiseOutcome:
    """How it went.

    Attributes:
        won: in each round, how many rewrites had targets with which they won.
        ranks: of AlphaEdit, the null space's dimensions by layer.
        keys: by layer, the edited keys of the last round, [n, U]: K_p of later edits.
    """

    won: tuple[int, ...]
    ranks: Mapping[int, int]
    keys: Mapping[int, torch.Tensor]


def change_layers(
    workspace: Workspace,
    rewrites: Sequence[Rewrite],
    layers: Sequence[int],
    settings: KeySettings,
    covariances: Mapping[int, Covariance],
    earlier: Mapping[int, torch.Tensor] | None = None,
    progress: Progress | None = None,
    saved: TargetsFile | None = None,
) -> LayerwiseOutcome:
    """Changes some layers in a workspace.

    Args:
        workspace: the model.
        rewrites: what is wanted, at least one.
        layers: which, rising.
        settings: the method's.
        covariances: of the keys of each of the layers.
        earlier: of AlphaEdit, by layer the keys of earlier edits, [n, E].
        progress: told how many targets were found, over all rounds.
        saved: keeps the targets as they are found, and has those that were found before.

    Raises:
        EditError: if the layers can't be changed so, or a method can't solve.
    """
    network = workspace.network
    _require_layers(network, layers)
    ranks: dict[int, int] = {}
    solve = _map(settings, covariances, earlier or {}, ranks)
    sentences = all_sentences(rewrites)
    won: list[int] = []
    last: dict[int, torch.Tensor] = {}
    for turn in range(settings.rounds):
        part = None if progress is None else _part_of(progress, turn, settings.rounds)
        begun, keep = (None, None) if saved is None else (saved.of_round(turn), partial(saved.keep, turn))
        targets = find_targets(network, layers[-1], rewrites, settings.target, part, begun, keep)
        won.append(int((targets.probability >= settings.target.probability).sum()))
        if not bool(targets.added.any()):
            break
        wanted: torch.Tensor | None = None
        for place, layer in enumerate(layers):
            now = at_places(network, sentences, sorted({layer, layers[-1]}))
            if wanted is None:
                repeated = targets.added.repeat_interleave(_counts(rewrites), 0)
                wanted = now[layers[-1]].stream + repeated
            residual, keys = wanted - now[layers[-1]].stream, now[layer].keys
            if settings.keys == "mean":
                residual, keys = mean_of_each(residual, rewrites), mean_of_each(keys, rewrites)
            last[layer] = keys.T
            workspace.add(layer, residual.T / (len(layers) - place), solve(layer, keys.T))
    return LayerwiseOutcome(tuple(won), ranks, last)


def _counts(rewrites: Sequence[Rewrite]) -> torch.Tensor:
    return torch.tensor([len(one.sentences) for one in rewrites])


def _part_of(progress: Progress, turn: int, rounds: int) -> Progress:
    return lambda done, total: progress(turn * total + done, rounds * total)


def _map(
    settings: KeySettings,
    covariances: Mapping[int, Covariance],
    earlier: Mapping[int, torch.Tensor],
    ranks: dict[int, int],
) -> Map:
    """The method's map; notes the null spaces' ranks."""
    kept: dict[int, torch.Tensor] = {}

    def of_layer(layer: int) -> torch.Tensor:
        """What the method needs of C, computed once for each layer."""
        if layer not in kept:
            if isinstance(settings, AlphaEditSettings):
                kept[layer] = alphaedit.null_space(covariances[layer].matrix(), settings.threshold)
                ranks[layer] = kept[layer].shape[1]
            else:
                kept[layer] = covariances[layer].matrix(settings.ridge)
        return kept[layer]

    def solve(layer: int, keys: torch.Tensor) -> torch.Tensor:
        if isinstance(settings, AlphaEditSettings):
            return alphaedit.solve(keys, of_layer(layer), earlier.get(layer), settings.damping)
        if isinstance(settings, MemitSettings):
            return memit.solve(keys, of_layer(layer), settings.preserve)
        if isinstance(settings, EmmetSettings):
            return emmet.solve(keys, of_layer(layer), settings.slack)
        assert isinstance(settings, RomeSettings)
        return rome.solve(keys, of_layer(layer))

    return solve


def _require_layers(network: Network, layers: Sequence[int]) -> None:
    count = len(network.layers)
    if not layers or not all(0 <= layer < count for layer in layers):
        raise EditError(f"the model has no layers {list(layers)}; it has layers 0 to {count - 1}")
    owners = [network.canonical_layer(layer) for layer in layers]
    if len(set(owners)) < len(owners):
        raise EditError(f"layers {list(layers)} share a parameter; choose one of those that share it")
    if len(layers) > 1 and network.adapter.norms.ffn_output is not None:
        raise EditError(
            f"this {network.adapter.family} model norms what its feed-forward blocks write, so a change can't be "
            "spread over several layers; choose one layer"
        )
