"""Edits of many facts by keys or by fine-tuning one layer: ROME, MEMIT, AlphaEdit, EMMET, FT-M, from the store's facts.

What such a plan is computed on: the facts' prompts with their new answers (held-out ones left out), up to three prompts
of each other fact of their subjects, whose answers are kept while targets are looked for, and the covariances of the
layers' keys. AlphaEdit also takes the keys of the facts that the edits of the version gave answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...advice import option
from ...editing.many.covariance import Covariance
from ...editing.many.methods import METHODS, keys_of, plan_many, settled
from ...editing.many.sentences import Rewrite
from ...editing.many.targets_file import TargetsFile
from ...editing.many.texts import digest
from ...editing.many.workspace import widened
from ...editing.objects.diff_file import EditObject, slot_bytes
from ...errors import EditError
from ...models.network import Network
from ...records.edits import Edit
from ...records.facts import Fact, Prompt
from ...records.many_recipes import MANY_RECIPES, ManyRecipe, RecipeAnswer, RecipeCovariance, TriedSettings
from ...records.many_settings import FinetuneSettings, LayerChoice, ManySettings, Token
from ...records.progress import Progress
from ...records.recipe_facts import RecipeFact
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .batch import Target, Unusable, listed
from .draft import Draft
from .group_report import with_group_report
from .kept_prompts import kept_of, local_fact, own_prompts, prompts_of_others
from .many_layers import choose_layers
from .many_prompts import OTHERS_EACH, answers_there, earlier_rewrites, others_of_subjects, rewrites_of
from .statistics import count_from_facts, covariances_for
from .together import encode_new_answers, present_answers, require_one_answer_each


def draft_many(
    store: Store,
    models: ModelCommands,
    model: str,
    targets: Sequence[Target],
    settings: ManySettings,
    *,
    choose: LayerChoice | TriedSettings | None = None,
    covariances: Mapping[int, Covariance] | None = None,
    seed: int = 0,
    targets_file: Path | None = None,
    skip_unusable: bool = False,
    progress: Progress | None = None,
    on: ModelVersion | None = None,
    before: Sequence[Draft] = (),
    report: bool = True,
    within: Collection[int] | None = None,
) -> Draft:
    """Changes layers so that many facts get their new answers, by the method that the settings are of.

    Args:
        store: the store.
        models: loads the model.
        model: a registered model.
        targets: the facts and their new answers, of one token or several; at least one, each fact once.
        settings: the method's.
        choose: try layers and token on a share of the facts, or take those that were tried before; None takes those of
            the settings, or the usual ones.
        covariances: of the keys of the layers; None takes those that are kept, or counts other facts' prompts.
        seed: of the draw of these prompts.
        targets_file: keeps the targets found, so that a plan that was stopped goes on; whoever stores the edit removes
            it. FT-M looks for none.
        skip_unusable: pass over facts that can't be planned; the draft has them as `unusable`.
        progress: told how far the plan is.
        on: the model in memory, to plan on its weights as they are; None loads the current version.
        before: drafts that these weights have beside the version's edits, in order.
        report: whether to try the edit in memory and put what it does in the recipe.
        within: only these facts' answers may be kept, and their keys counted; None for all.

    Raises:
        UsageError: if there is no target, or a question gets two answers.
        NotFoundError: if there is no such fact or model.
        EditError: if facts can't be planned, or the method can't.
    """
    with store.reading() as connection:
        wanted = [store_facts.fact(connection, target.fact) for target in targets]
        require_one_answer_each(wanted, targets)
        facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
        prompts = store_facts.prompts(connection, fact_ids=[fact.id for fact in wanted])
    version = on or models.load(model)
    seen = [prompt for prompt in prompts if not prompt.held_out]
    usable, unusable = _usable(version, targets, seen, skip_unusable=skip_unusable)
    if isinstance(choose, LayerChoice):
        choose = choose_layers(store, version, settings, usable, facts, prompts, choose, covariances, progress)
    tried = None if choose is None else choose.tried
    settings = settings if choose is None else choose.settings
    settings = settled(settings, version.network)
    token = _token(settings)
    with store.reading() as connection:
        same = others_of_subjects(connection, [target.fact for target in usable], facts.values())
        kept = [one for one in same if within is None or one in within] if token == "subject" else []  # noqa: S105
        others = prompts_of_others(connection, [target.fact for target in usable], kept, OTHERS_EACH)
    found, more = rewrites_of(version, usable, facts, seen, others, token)
    _refuse(more, len(targets), skip_unusable=skip_unusable, some=bool(found))
    planned = [target for target in usable if target.fact in found]
    own = [one for target in planned for one in found[target.fact]]
    edited = {target.fact for target in planned}
    present = present_answers(version, [prompt for prompt in seen if prompt.fact_id in edited])
    recipe = MANY_RECIPES[settings.method](
        answers=tuple(_answer(facts[target.fact], target, version, present) for target in planned),
        settings=settings,
        seed=seed,
        **_given(tried=tried, kept_facts=tuple(kept) or None, prompts_each=OTHERS_EACH if kept else None),
    )
    with store.reading() as connection:
        history = answers_there(connection, version, before=before) if METHODS[settings.method].history else {}
    if within is not None and covariances is None and METHODS[settings.method].covariances:
        covariances = count_from_facts(store, version, recipe.layers, leaving_out=facts.keys() - set(within), seed=seed)
    content = _planned(store, version, recipe, own, edited, history, covariances, targets_file, progress)
    if report:
        content = with_group_report(store, version, content)
    return Draft(version, content, None, None, None, (*unusable, *more))


def try_layers(
    store: Store,
    version: ModelVersion,
    targets: Sequence[Target],
    settings: ManySettings,
    choice: LayerChoice,
    *,
    skip_unusable: bool = False,
    progress: Progress | None = None,
) -> TriedSettings:
    """Chooses layers and token for some facts, and plans nothing; see `many_layers`.

    Args:
        store: the store.
        version: the model in memory; it is as it was when this returns.
        targets: the facts and their new answers, at least one.
        settings: the method's.
        choice: how many facts are tried.
        skip_unusable: pass over facts that the model can't be asked for their new answers.
        progress: told how many candidates were tried.

    Raises:
        UsageError: if there is no target, or a question gets two answers.
        NotFoundError: if there is no such fact.
        EditError: if facts can't be asked, or no candidate can be planned.
    """
    with store.reading() as connection:
        require_one_answer_each([store_facts.fact(connection, target.fact) for target in targets], targets)
        facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
        prompts = store_facts.prompts(connection, fact_ids=[target.fact for target in targets])
    seen = [prompt for prompt in prompts if not prompt.held_out]
    usable, _ = _usable(version, targets, seen, skip_unusable=skip_unusable)
    return choose_layers(store, version, settings, usable, facts, prompts, choice, progress=progress)


def many_anew(
    store: Store,
    edit: Edit,
    recipe: ManyRecipe,
    version: ModelVersion,
    prompts: Sequence[Prompt],
    history: Mapping[int, str],
) -> EditObject:
    """An edit of many facts once more, on other weights; covariances are counted on these.

    Args:
        store: the store.
        edit: the edit.
        recipe: of the result: the edit's own, with another note of where it is from.
        version: the model version, with the weights to start from.
        prompts: those of `prompts_in_recipe` for the edit.
        history: the answers that the edits in these weights gave to facts, for AlphaEdit.

    Raises:
        EditError: if one of the facts can't be planned, or no slot would change.
    """
    targets = [Target(local_fact(edit, fact.id), fact.to) for fact in recipe.facts]
    with store.reading() as connection:
        facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
    settings = settled(recipe.settings, version.network)
    own, others = own_prompts(edit, prompts), kept_of(edit, prompts)
    found, unusable = rewrites_of(version, targets, facts, own, others, _token(settings))
    _refuse(unusable, len(targets), skip_unusable=False, some=bool(found))
    every = [one for target in targets for one in found[target.fact]]
    fresh = replace(recipe, settings=settings, outcome=None, covariances=None, earlier=None)
    return _planned(store, version, fresh, every, {target.fact for target in targets}, history)


def _planned(
    store: Store,
    version: ModelVersion,
    recipe: ManyRecipe,
    own: Sequence[Rewrite],
    edited: Collection[int],
    history: Mapping[int, str],
    covariances: Mapping[int, Covariance] | None = None,
    targets_file: Path | None = None,
    progress: Progress | None = None,
) -> EditObject:
    """The edit of a recipe whose settings are settled; its recipe says by which covariances and earlier keys."""
    method, layers = METHODS[recipe.kind], recipe.layers
    if method.covariances and covariances is None:
        covariances = covariances_for(store, version, layers, edited, seed=recipe.seed)
    if covariances is not None and method.covariances:
        recipe = replace(recipe, covariances=_said(covariances, layers))
    earlier = None
    if method.history:
        earlier = _earlier_keys(store, version, history, edited, recipe)
        recipe = replace(recipe, earlier=len(history.keys() - edited))
    saved = None
    if targets_file is not None:
        saved = TargetsFile(targets_file, _key(version, recipe, own))
    return plan_many(
        version.network,
        own,
        recipe,
        fingerprint=version.record.fingerprint,
        covariances=covariances if method.covariances else None,
        earlier=earlier,
        progress=progress,
        saved=saved,
    ).edit


def _earlier_keys(
    store: Store, version: ModelVersion, history: Mapping[int, str], edited: Collection[int], recipe: ManyRecipe
) -> dict[int, torch.Tensor] | None:
    with store.reading() as connection:
        earlier = earlier_rewrites(connection, version, history, edited, _token(recipe.settings))
    return keys_of(widened(version.network), earlier, recipe.layers) if earlier else None


def _token(settings: ManySettings) -> Token:
    return "answer" if isinstance(settings, FinetuneSettings) else settings.token or "subject"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _answer(fact: Fact, target: Target, version: ModelVersion, present: Mapping[int, int]) -> RecipeAnswer:
    named = RecipeFact(id=fact.id, relation=fact.relation, subject=fact.subject, object=fact.object)
    return RecipeAnswer(fact=named, to=target.to.strip(), old_answer=version.loaded.decode(present[fact.id]))


def _said(covariances: Mapping[int, Covariance], layers: Iterable[int]) -> tuple[RecipeCovariance, ...]:
    return tuple(
        RecipeCovariance(
            layer=layer,
            source=one.origin.source,
            tokens=one.origin.tokens,
            texts=one.origin.texts,
            keys=one.keys,
            digest=one.origin.digest,
        )
        for layer, one in ((layer, covariances[layer]) for layer in layers if layer in covariances)
    )


def _key(version: ModelVersion, recipe: ManyRecipe, own: Sequence[Rewrite]) -> str:
    """What decides the targets of a plan: the recipe, the sentences, and the weights."""
    sentences = [sentence for one in own for sentence in (*one.sentences, *one.kept)]
    asked = [[one.fact, len(one.sentences), *(list(sentence.answers) for sentence in one.sentences)] for one in own]
    values = {
        "recipe": recipe.as_json(),
        "fingerprint": version.record.fingerprint,
        "weights": _weights(version.network),
        "sentences": digest(sentences),
        "asked": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
    }
    return json.dumps(values, sort_keys=True)


def _weights(network: Network) -> str:
    """The sha256 of all value slots as they are, in hex."""
    found = hashlib.sha256()
    for layer in network.layers:
        found.update(slot_bytes(layer.slots).numpy().tobytes())
    return found.hexdigest()


def _usable(
    version: ModelVersion, targets: Sequence[Target], prompts: Sequence[Prompt], *, skip_unusable: bool
) -> tuple[list[Target], list[Unusable]]:
    """The targets that the model can be asked, and the others."""
    asked, unusable = encode_new_answers(version, targets, prompts, skip_unusable=skip_unusable)
    return [target for target in targets if target.fact in asked], unusable


def _refuse(unusable: Sequence[Unusable], count: int, *, skip_unusable: bool, some: bool) -> None:
    """Refuses facts without rewrites, all of them named.

    Raises:
        EditError: if there are such facts, and they are not to be skipped or nothing else is left.
    """
    if not unusable or (skip_unusable and some):
        return
    rows = listed(f"{one.target.place or f'fact {one.target.fact}'}: {one.text}" for one in unusable)
    hint = f"; or pass over them with {option('skip_unusable', True)}" if some else ""
    raise EditError(f"{len(unusable)} of {count} facts can't be planned: {rows}{hint}")
