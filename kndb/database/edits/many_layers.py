"""Layers and token of an edit of many facts, chosen by trying: plans of a share of the facts, made in memory.

Candidates are the model's usual layers and single ones from the lowest up, each with both tokens. A share of the facts
is planned, and asked by prompts that the plan does not see: those of held-out templates or, where there are none, the
last prompt of each fact, which is left out of the plan then.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, get_args

from ...advice import option
from ...editing.many.choosing import Tried, try_settings
from ...editing.many.covariance import Covariance
from ...editing.many.methods import METHODS, settled
from ...editing.many.sentences import Rewrite, Sentence, asked
from ...errors import EditError
from ...models.adapter import Blank
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.facts import Fact, Prompt
from ...records.many_recipes import TriedLayers, TriedSettings
from ...records.many_settings import FinetuneSettings, LayerChoice, ManySettings, RomeSettings, Token
from ...records.progress import Progress
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
from .batch import Target
from .edited_sentences import sentences_of_facts
from .many_prompts import rewrites_of
from .statistics import covariances_for

SINGLE = 6
"""Single layers that are tried, evenly from the lowest up; all of a model with fewer."""
_OTHERS = 100
"""Prompts of other facts by which candidates are compared."""


def candidates(settings: ManySettings, network: Network) -> list[ManySettings]:
    """What is tried: settings with layers and token, the model's usual ones first."""
    usual = settled(replace(settings, layers=None), network).layers
    assert usual is not None
    count = len(network.layers)
    single = sorted({place * count // SINGLE for place in range(SINGLE)})
    layers = list(dict.fromkeys([usual, *((layer,) for layer in single)]))
    if isinstance(settings, RomeSettings | FinetuneSettings):
        layers = [some for some in layers if len(some) == 1]
    if isinstance(settings, FinetuneSettings):
        return [replace(settings, layers=some) for some in layers]
    tokens: Sequence[Token] = get_args(Token) if settings.token is None else (settings.token,)
    if settings.token is None and network.adapter.blank is Blank.SENTINEL:
        tokens = ("answer",)
    return [replace(settings, layers=some, token=token) for token in tokens for some in layers]


def choose_layers(
    store: Store,
    version: ModelVersion,
    settings: ManySettings,
    targets: Sequence[Target],
    facts: Mapping[int, Fact],
    prompts: Sequence[Prompt],
    choice: LayerChoice,
    covariances: Mapping[int, Covariance] | None = None,
    progress: Progress | None = None,
) -> TriedSettings:
    """Tries candidates, and gives the settings with the best one's layers and token.

    Args:
        store: the store.
        version: the model in memory; it is as it was when this returns.
        settings: the method's.
        targets: facts with new answers that the model can be asked.
        facts: at least these, by number.
        prompts: theirs, held-out ones included.
        choice: how many facts are tried.
        covariances: of all layers; None takes those that are kept, or counts them on prompts of other facts.
        progress: told how many candidates were tried.

    Raises:
        EditError: if no fact has a prompt left to be asked by, or no candidate can be planned.
    """
    chance = random.Random(f"{choice.seed} validation")  # noqa: S311 - not for secrets
    drawn = chance.sample(list(targets), max(1, round(choice.validation * len(targets))))
    planned, tested = _split(prompts, {target.fact for target in drawn})
    every = candidates(settings, version.network)
    tokens: set[Token] = {one.token or "answer" for one in every if not isinstance(one, FinetuneSettings)}
    by_token, drawn = _rewrites(version, drawn, facts, planned, tokens or {"answer"})
    every = [one for one in every if isinstance(one, FinetuneSettings) or one.token in by_token]
    edited = {target.fact for target in drawn}
    sentences = _asked(version, {target.fact: target.to for target in drawn}, tested)
    with store.reading() as connection:
        others = _others(connection, version, {target.fact for target in targets}, choice.seed)
    if not sentences or not others or not every:
        what = "prompt of another fact" if not others else "prompt beside those that a plan is computed on"
        raise EditError(
            f"{option('layers', 'auto')} needs facts that can be asked by a {what}, and there is none; name the layers"
        )
    if covariances is None and METHODS[settings.method].covariances:
        layers = sorted({layer for one in every for layer in one.layers or ()})
        covariances = covariances_for(store, version, layers, edited, seed=choice.seed)
    tried = try_settings(version.network, every, by_token, sentences, others, covariances or {}, progress)
    return TriedSettings(tried[0].settings, tuple(map(_recorded, tried)))


def _recorded(one: Tried) -> TriedLayers:
    token = None if isinstance(one.settings, FinetuneSettings) else one.settings.token
    return TriedLayers(
        layers=one.settings.layers or (),
        token=token,
        success=round(one.success, 6),
        kept=round(one.kept, 6),
        failed=one.failed,
    )


def _split(prompts: Sequence[Prompt], facts: set[int]) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts that are planned on, and those that are asked."""
    own = [prompt for prompt in prompts if prompt.fact_id in facts]
    held_out = [prompt for prompt in own if prompt.held_out]
    seen = [prompt for prompt in own if not prompt.held_out]
    if held_out:
        return seen, held_out
    last = {prompt.fact_id: prompt.id for prompt in seen}
    first = {prompt.fact_id: prompt.id for prompt in reversed(seen)}
    tested = {last[fact] for fact in last if first[fact] != last[fact]}
    return [prompt for prompt in seen if prompt.id not in tested], [prompt for prompt in seen if prompt.id in tested]


def _rewrites(
    version: ModelVersion,
    targets: Sequence[Target],
    facts: Mapping[int, Fact],
    prompts: Sequence[Prompt],
    tokens: set[Token],
) -> tuple[dict[Token, list[Rewrite]], list[Target]]:
    """By token, the rewrites of the facts that have some for each token that any fact has; and these facts."""
    found = {token: rewrites_of(version, targets, facts, prompts, (), token)[0] for token in sorted(tokens)}
    usable = {token: of_fact for token, of_fact in found.items() if of_fact}
    shared = [target for target in targets if all(target.fact in of_fact for of_fact in usable.values())]
    if not usable or not shared:
        return {}, []
    return {
        token: [one for target in shared for one in of_fact[target.fact]] for token, of_fact in usable.items()
    }, shared


def _asked(version: ModelVersion, answers: Mapping[int, str], prompts: Sequence[Prompt]) -> list[Sentence]:
    pairs: list[Any] = [
        version.encoder.encode(prompt.id, prompt.text, answers[prompt.fact_id].strip())
        for prompt in prompts
        if prompt.fact_id in answers
    ]
    return [asked(one, version.adapter.blank) for one in pairs if isinstance(one, EncodedPrompt)]


def _others(connection: Any, version: ModelVersion, edited: Collection[int], seed: int) -> list[Sentence]:
    """Prompts of other facts as a model sees them, their answers left open, drawn at random; no held-out ones."""
    prompts = sentences_of_facts(connection, edited).others(store_facts.prompts(connection, held_out=False))
    random.Random(f"{seed} others").shuffle(prompts)  # noqa: S311 - not for secrets
    found = (version.encoder.encode(prompt.id, prompt.text, None) for prompt in prompts)
    usable = (asked(one, version.adapter.blank) for one in found if isinstance(one, EncodedPrompt))
    return list(islice(usable, _OTHERS))
