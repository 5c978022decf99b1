"""The methods for edits of many facts, by name: what each is told, what it needs, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ...advice import option
from ...errors import EditError, UsageError
from ...models.adapter import Blank
from ...models.network import Network
from ...records.many_recipes import ManyOutcome, ManyRecipe
from ...records.many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    ManySettings,
    MemitSettings,
    RomeSettings,
    Token,
)
from ...records.progress import Progress
from ..objects.diff_file import EditObject
from .covariance import Covariance
from .finetune import finetune
from .keys import all_sentences, at_places, mean_of_each
from .layerwise import change_layers
from .sentences import Rewrite
from .targets_file import TargetsFile
from .workspace import Workspace

_Settings = TypeVar("_Settings", bound=ManySettings)


@dataclass(frozen=True)
class Method:
    """One way to plan an edit of many facts.

    Attributes:
        settings: what it is told.
        about: what it does, in a line.
        covariances: whether it needs the covariances of its layers' keys.
        history: whether it takes the keys of earlier edits.
        most_facts: how many facts it can change at once; None for any number.
    """

    settings: type[ManySettings]
    about: str
    covariances: bool = True
    history: bool = False
    most_facts: int | None = None

    @property
    def name(self) -> str:
        """The name by which a user asks for it."""
        return self.settings.method


METHODS: Mapping[str, Method] = {
    one.name: one
    for one in (
        Method(
            RomeSettings, "one fact, one layer: its new output exactly, at the least change of others", most_facts=1
        ),
        Method(MemitSettings, "many facts over some layers, by least squares against what other keys give"),
        Method(AlphaEditSettings, "as memit, in directions alone that other keys hardly have", history=True),
        Method(EmmetSettings, "many facts, their new outputs exactly, at the least change of others"),
        Method(FinetuneSettings, "gradient steps on one layer, the loss on the answers alone", covariances=False),
    )
}
"""By name."""


def settled(settings: _Settings, network: Network) -> _Settings:
    """Settings with the layers and the token that the model's kind has for a default, where none are said.

    As measured: masked models have what they know of a subject in their lowest layer (lab-bert); decoders have it from
    a tenth to a quarter of their depth, and a change that is spread over these layers harms others least (SmolLM2,
    layers 3 to 7 of 30). A method for one layer takes one in the middle of them.

    Args:
        settings: the method's.
        network: the model.

    Raises:
        EditError: if the model lacks one of the layers.
    """
    count = len(network.layers)
    layers = settings.layers
    if layers is None:
        layers = _default_layers(settings, network)
    if layers[-1] >= count:
        raise EditError(f"the model has no layer {layers[-1]}; it has layers 0 to {count - 1}")
    if isinstance(settings, FinetuneSettings):
        return replace(settings, layers=layers)
    token: Token = settings.token or "subject"
    return replace(settings, layers=layers, token=token)


def _default_layers(settings: ManySettings, network: Network) -> tuple[int, ...]:
    count = len(network.layers)
    if isinstance(settings, FinetuneSettings):
        return (count // 2,)
    if network.adapter.blank is Blank.MASK:
        return (0,)
    alone = isinstance(settings, RomeSettings) or network.adapter.norms.ffn_output is not None
    return (count // 6,) if alone else tuple(range(count // 10, max(count // 4, count // 10) + 1))


@dataclass(frozen=True, eq=False)
class Planned:
    """An edit, and by layer the keys that it edited, [n, U]; FT-M has none."""

    edit: EditObject
    keys: Mapping[int, torch.Tensor]


def plan_many(
    network: Network,
    rewrites: Sequence[Rewrite],
    recipe: ManyRecipe,
    *,
    fingerprint: str,
    covariances: Mapping[int, Covariance] | None = None,
    earlier: Mapping[int, torch.Tensor] | None = None,
    progress: Progress | None = None,
    saved: TargetsFile | None = None,
) -> Planned:
    """Plans an edit on a model's present weights, and changes nothing.

    Args:
        network: the model, in the dtype in which it is stored.
        rewrites: what is wanted, at least one.
        recipe: what the edit's recipe is to say; its settings are `settled`, and the outcome is added.
        fingerprint: of the model's checkpoint.
        covariances: of the keys of each of the layers, where the method needs them.
        earlier: by layer the keys of earlier edits, [n, E], where the method takes them; see `keys_of`.
        progress: told how far it is.
        saved: keeps the targets as they are found, and has those that were found before; FT-M has none.

    Raises:
        EditError: if a covariance is missing or of something else, the method can't take so many facts, or what is
            wanted can't be planned.
        UsageError: if the settings are not settled.
    """
    settings, method = recipe.settings, METHODS[recipe.kind]
    if settings.layers is None or (not isinstance(settings, FinetuneSettings) and settings.token is None):
        raise UsageError("a plan needs the layers and the token; see settled")
    _require(method, rewrites, settings.layers, covariances or {}, fingerprint, network)
    keys: Mapping[int, torch.Tensor] = {}
    with Workspace(network) as workspace:
        if isinstance(settings, FinetuneSettings):
            made = finetune(workspace, rewrites, settings.layers[0], settings, progress)
            outcome = ManyOutcome(rounds=(made.won,), asked=made.questions, steps=made.steps)
        else:
            found = change_layers(
                workspace, rewrites, settings.layers, settings, covariances or {}, earlier, progress, saved
            )
            keys = found.keys
            ranks = tuple(found.ranks[layer] for layer in settings.layers if layer in found.ranks)
            outcome = ManyOutcome(rounds=found.won, asked=len(rewrites), ranks=ranks or None)
        edit = workspace.edit(fingerprint=fingerprint, recipe=replace(recipe, outcome=outcome))
    return Planned(edit, keys)


def keys_of(network: Network, rewrites: Sequence[Rewrite], layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """The keys of edits by layer, [n, U], on the weights as they are: what AlphaEdit calls K_p.

    Args:
        network: the model.
        rewrites: what the edits were for, at least one.
        layers: which layers.
    """
    found = at_places(network, all_sentences(rewrites), layers)
    return {layer: mean_of_each(one.keys, rewrites).T for layer, one in found.items()}


def _require(
    method: Method,
    rewrites: Sequence[Rewrite],
    layers: Sequence[int],
    covariances: Mapping[int, Covariance],
    fingerprint: str,
    network: Network,
) -> None:
    facts = len({one.fact for one in rewrites})
    if method.most_facts is not None and facts <= method.most_facts < len(rewrites):
        raise EditError(
            f"{option('token', 'answer')} has an output to change for each token of a new answer ({len(rewrites)}), "
            f"and {method.name} changes one; take {option('token', 'subject')}, or memit or alphaedit"
        )
    if not facts or (method.most_facts is not None and len(rewrites) > method.most_facts):
        raise EditError(
            f"{method.name} changes {method.most_facts or 'one or more'} fact at once (got {facts}, with "
            f"{len(rewrites)} outputs to change); use memit or alphaedit"
        )
    if not method.covariances:
        return
    for layer in layers:
        if layer not in covariances:
            raise EditError(f"{method.name} needs the covariance of layer {layer}'s keys; count it first")
        covariances[layer].require(fingerprint, layer, network.neurons)
