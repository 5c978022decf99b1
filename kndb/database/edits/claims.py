"""What a file says of its edits, compared with what their objects do to a model: a provable untruth is refused.

What can't be told from an object's bytes (what the edit is for, who planned it, when, how its values were found) stays
the sender's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...editing.objects.captured import described
from ...editing.objects.diff_file import EditObject, ParameterDiff
from ...editing.objects.diff_tensors import TensorDiff
from ...editing.planning.recipes import slots_by_layer
from ...exchange.edit_bundle import BundledEdit
from ...models.network import Network
from ...records.edits import EditChange, SlotLength
from ...records.group_recipes import GroupRecipe
from ...records.many_recipes import ManyRecipe
from ...records.models import Neuron
from ...records.recipes import (
    KINDS,
    CaptureRecipe,
    EraseRecipe,
    OptimizeRecipe,
    OtherRecipe,
    Recipe,
    UpdateRecipe,
    facts_of,
    kept_facts_of,
    texts_of,
)
from ...records.together import TogetherRecipe
from ..models import ModelVersion
from .recipe_fits import changed_neurons, misfit

MOST_TEXT = 10_000
"""Letters of a text in a recipe."""


class ClaimError(Exception):
    """Something that a file says is not so; the message is a sentence without its end."""


def check_claims(edit: BundledEdit, content: EditObject, version: ModelVersion) -> None:
    """Compares all that can be compared.

    Args:
        edit: what the manifest says.
        content: what the object holds.
        version: the model in memory, at its base version.

    Raises:
        ClaimError: if something is not so.
    """
    _check_places(content, version.network)
    recipe = content.recipe
    if isinstance(recipe, OtherRecipe):
        later = (
            "A later kndb may have planned it: upgrade this one" if recipe.kind not in KINDS else "Have it sent again"
        )
        raise ClaimError(f"its recipe can't be read: {recipe.flaw}. {later}")
    for text in texts_of(recipe):
        if len(text) > MOST_TEXT:
            raise ClaimError(f"its recipe has a text of {len(text):,} letters; {MOST_TEXT:,} are allowed")
    if isinstance(recipe, CaptureRecipe):
        _check_capture(recipe, content)
    else:
        _check_neurons(recipe, content, version.network)
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)):
        _check_answers(recipe, version)
    if isinstance(recipe, TogetherRecipe):
        _check_tokens(recipe, version)
    _check_facts(edit, recipe)


def _check_places(content: EditObject, network: Network) -> None:
    """Each value slot must be one of the model's, under the name by which the model's other edits know it."""
    lowest = {network.down_parameter(layer): layer for layer in reversed(range(len(network.layers)))}
    for diff in content.parameters:
        _check_place(diff.parameter, content.layers[diff.parameter], diff.layout, lowest, network)
    for part in content.tensors:
        if part.slots is not None:
            _check_place(part.parameter, part.slots.layer, part.slots.layout, lowest, network)
        elif part.parameter in lowest:
            raise ClaimError(f"it changes {part.parameter} as a whole, which holds value slots")


def _check_place(parameter: str, layer: int, layout: str, lowest: dict[str, int], network: Network) -> None:
    if parameter not in lowest:
        raise ClaimError(f"it changes value slots of {parameter}, which is no parameter of the model that holds any")
    here = lowest[parameter]
    if (layer, layout) != (here, network.layers[here].layout.word):
        raise ClaimError(
            f"it calls the value slots of {parameter} each a {layout} of layer {layer}; in the model, each is a "
            f"{network.layers[here].layout.word} of layer {here}"
        )


def _check_neurons(
    recipe: UpdateRecipe | OptimizeRecipe | EraseRecipe | GroupRecipe, content: EditObject, network: Network
) -> None:
    """The slots that change are those of the neurons that the recipe names; those of an erase become zero."""
    for part in content.tensors:
        if part.slots is None or not isinstance(recipe, ManyRecipe):
            raise ClaimError(f"it is of kind {recipe.kind} and changes {part.parameter} as a capture does")
    flaw = misfit(recipe, network)
    if flaw is not None:
        raise ClaimError(f"its recipe {flaw}")
    named = slots_by_layer(network, changed_neurons(recipe, network))
    for part in content.tensors:
        assert part.slots is not None
        beside = set(part.slots.indices) - named.get(part.slots.layer, set())
        if beside:
            raise ClaimError(f"it changes {Neuron(part.slots.layer, min(beside))}, which its recipe does not name")
    for diff in content.parameters:
        layer = content.layers[diff.parameter]
        beside = set(diff.indices.tolist()) - named.get(layer, set())
        if beside:
            raise ClaimError(f"it changes {Neuron(layer, min(beside))}, which its recipe does not name")
        if isinstance(recipe, EraseRecipe) and bool(diff.new.any()):
            raise ClaimError(f"it is of kind erase, and puts other values than zero into slots of {diff.parameter}")


def _check_capture(recipe: CaptureRecipe, content: EditObject) -> None:
    if dict(recipe.tensors) != described(content):
        raise ClaimError("its recipe describes other parameters than it changes")


def _check_answers(recipe: UpdateRecipe | OptimizeRecipe, version: ModelVersion) -> None:
    """The answers that a recipe names are those of the tokens that it names."""
    for what, token, answer in (
        ("old", recipe.old_token, recipe.old_answer),
        ("new", recipe.new_token, recipe.to),
    ):
        here = version.loaded.decode(token)
        if answer is None or _alike(answer, here) or version.encoder.answer_token(answer) == token:
            continue
        raise ClaimError(f"it calls its {what} answer {answer[:60]!r}, and the token that it names is {here!r}")


def _check_tokens(recipe: TogetherRecipe, version: ModelVersion) -> None:
    """The new answers of a joint plan are those of the tokens that it names, whatever spaces are between them."""
    for fact in recipe.facts:
        here = version.loaded.decode(fact.tokens)
        if not _alike("".join(fact.to.split()), "".join(here.split())):
            raise ClaimError(
                f"it calls the new answer of fact {fact.id} {fact.to[:60]!r}, and the tokens that it names are "
                f"{here[:60]!r}"
            )


def _alike(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _check_facts(edit: BundledEdit, recipe: Recipe) -> None:
    """The manifest names the facts of the recipe, and the recipe's own facts as the recipe does."""
    own = {fact.id: fact for fact in facts_of(recipe)}
    numbers = {*kept_facts_of(recipe), *own}
    for fact in edit.facts:
        if fact.number not in numbers:
            raise ClaimError(f"the manifest names fact {fact.number}, and its recipe does not")
        about = own.get(fact.number)
        if about is not None:
            named, said = ((one.relation, one.subject, one.object) for one in (fact, about))
            if named != said:
                raise ClaimError(f"its recipe is for {_fact(*said)}, and the manifest calls that fact {_fact(*named)}")


def _fact(relation: str, subject: str | None, value: str) -> str:
    return repr(f"{subject or '(not named)'} · {relation} · {value}"[:120])


# --- what an object does --------------------------------------------------------------------------


def change_of(content: EditObject) -> EditChange:
    """What an edit's object changes, by its bytes alone."""
    slots = [length for diff in content.parameters for length in _lengths(content.layers[diff.parameter], diff)]
    return EditChange.of(sorted([*slots, *_unknown_lengths(content.tensors)], key=_place), _whole(content.tensors))


def _place(slot: SlotLength) -> tuple[int, int]:
    neuron = Neuron.parse(slot.neuron)
    return neuron.layer, neuron.index


def _lengths(layer: int, diff: ParameterDiff) -> Iterator[SlotLength]:
    before, after = (values.double().norm(dim=1).tolist() for values in (diff.old, diff.new))
    for index, one, other in zip(diff.indices.tolist(), before, after, strict=True):
        yield SlotLength(str(Neuron(layer, index)), one, other)


def _unknown_lengths(tensors: Iterable[TensorDiff]) -> Iterator[SlotLength]:
    for part in tensors:
        if part.slots is not None:
            for index in part.slots.indices:
                yield SlotLength(str(Neuron(part.slots.layer, index)), None, None)


def _whole(tensors: Iterable[TensorDiff]) -> list[str]:
    return [part.parameter for part in tensors if part.slots is None]
