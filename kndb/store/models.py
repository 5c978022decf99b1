"""Registered checkpoints."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ..advice import Placeholder, call, option
from ..errors import ModelError, NotFoundError, UsageError
from ..records.models import LAB_MODELS, UNKNOWN, Model, Neuron
from .clock import now
from .tables import ModelRow


def add_model(
    connection: Connection,
    *,
    name: str,
    source: str,
    fingerprint: str,
    family: str,
    layers: int,
    neurons: int,
    version: str,
    chat_template: str | None = None,
) -> Model:
    """Registers a checkpoint under a name; the same name and fingerprint again changes nothing.

    A model of that name of which only results were imported gets the checkpoint, if its sizes are the same.

    Args:
        connection: a write transaction.
        name: what to call it; this and the following as `Model` has them.
        source: where the checkpoint is.
        fingerprint: of its files.
        family: its adapter's.
        layers: how many.
        neurons: per layer.
        version: the base version's id.
        chat_template: the sha256 of the chat template that prompts are wrapped in; None for none.

    Raises:
        ModelError: if the name stands for another checkpoint, or for results of a model of another size.
    """
    existing = connection.execute(select(ModelRow).where(ModelRow.name == name)).first()
    if existing is not None and not existing.fingerprint:
        if (existing.layers, existing.neurons) != (layers, neurons):
            raise ModelError(
                f"the name {name!r} stands for imported results of a model of {existing.layers} layers of "
                f"{existing.neurons} neurons, and this checkpoint has {layers} of {neurons}; give it another "
                f"{option('name')}"
            )
        values = {"source": source, "fingerprint": fingerprint, "family": family, "version": version}
        changed = update(ModelRow).where(ModelRow.id == existing.id)
        connection.execute(changed.values(chat_template=chat_template, **values))
        return model(connection, name)
    if existing is not None:
        if existing.fingerprint != fingerprint:
            raise ModelError(
                f"the name {name!r} stands for a checkpoint with fingerprint {existing.fingerprint[:12]}, "
                f"and this one has {fingerprint[:12]}; give it another {option('name')}"
            )
        present = _record(existing)
        if present.chat_template != chat_template:
            raise ModelError(_fed_otherwise(present, chat_template))
        return present
    connection.execute(
        insert(ModelRow).values(
            name=name,
            source=source,
            fingerprint=fingerprint,
            family=family,
            layers=layers,
            neurons=neurons,
            version=version,
            created_at=now(),
            chat_template=chat_template,
        )
    )
    return model(connection, name)


def add_imported_model(connection: Connection, *, name: str, layers: int | None, neurons: int | None) -> Model:
    """The model that imported results are of: the registered one of that name, or a new one without a checkpoint.

    Args:
        connection: a write transaction.
        name: the model's name.
        layers: number of its layers; None takes a registered model's.
        neurons: FFN neurons per layer; likewise.

    Raises:
        UsageError: if there is no such model and a size is missing.
        ModelError: if there is one of another size.
    """
    layers, neurons = imported_sizes(connection, name=name, layers=layers, neurons=neurons)
    existing = connection.execute(select(ModelRow).where(ModelRow.name == name)).first()
    if existing is not None:
        return _record(existing)
    connection.execute(
        insert(ModelRow).values(
            name=name,
            source="",
            fingerprint="",
            family=UNKNOWN,
            layers=layers,
            neurons=neurons,
            version=UNKNOWN,
            created_at=now(),
        )
    )
    return model(connection, name)


def imported_sizes(connection: Connection, *, name: str, layers: int | None, neurons: int | None) -> tuple[int, int]:
    """The layers, and FFN neurons per layer, of a model that imported results are of; see `add_imported_model`.

    Raises:
        UsageError: if there is no such model and a size is missing.
        ModelError: if there is one of another size.
    """
    existing = connection.execute(select(ModelRow).where(ModelRow.name == name)).first()
    if existing is not None:
        if (layers or existing.layers, neurons or existing.neurons) != (existing.layers, existing.neurons):
            raise ModelError(
                f"model {name!r} has {existing.layers} layers of {existing.neurons} neurons, and these results are "
                f"of {layers or existing.layers} of {neurons or existing.neurons}; give them another "
                f"{option('model_name')}"
            )
        return existing.layers, existing.neurons
    if layers is None or neurons is None:
        raise UsageError(
            f"the store has no model {name!r}; say what it is like, for example: {option('layers', 12)} "
            f"{option('neurons', 3072)}"
        )
    return layers, neurons


def models(connection: Connection) -> list[Model]:
    """All registered models, in the order in which they were added."""
    return [_record(row) for row in connection.execute(select(ModelRow).order_by(ModelRow.id))]


def model(connection: Connection, name: str) -> Model:
    """The model of a name.

    Raises:
        NotFoundError: if there is none, naming the nearest.
    """
    row = connection.execute(select(ModelRow).where(ModelRow.name == name)).first()
    if row is not None:
        return _record(row)
    if name in LAB_MODELS:
        raise NotFoundError(
            f"{name} comes with kndb but is not in this store yet; add it with: {call('models.add', name)}"
        )
    names = [record.name for record in models(connection)]
    nearest = get_close_matches(name, dict.fromkeys([*names, *LAB_MODELS]), n=3)
    known = f"did you mean {', '.join(nearest)}?" if nearest else f"registered: {', '.join(names) or 'none'}."
    add = call("models.add", Placeholder("PATH-OR-HUB-NAME"))
    raise NotFoundError(f"no model is named {name!r}; {known} Add one with: {add}")


def require_neuron(model: Model, neuron: Neuron) -> None:
    """Checks that a model is large enough to have a neuron.

    Raises:
        UsageError: if it is not, saying its sizes.
    """
    if neuron.layer >= model.layers or neuron.index >= model.neurons:
        last = Neuron(model.layers - 1, model.neurons - 1)
        raise UsageError(
            f"model {model.name!r} has no neuron {neuron}: it has {model.layers} layers of {model.neurons} neurons, "
            f"from L0.N0 to {last}"
        )


def _fed_otherwise(present: Model, chat_template: str | None) -> str:
    """Why one name can't stand for a checkpoint with and without a chat template: results would mix."""
    if present.chat_template is None:
        return (
            f"the name {present.name!r} stands for this checkpoint with prompts as they are, not wrapped in its chat "
            f"template; leave {option('chat', True)} out, or give another {option('name')}"
        )
    if chat_template is None:
        return (
            f"the name {present.name!r} stands for this checkpoint with prompts wrapped in its chat template; add "
            f"{option('chat', True)}, or give another {option('name')}"
        )
    return (
        f"the name {present.name!r} stands for this checkpoint with another chat template "
        f"({present.chat_template[:12]}, and it has {chat_template[:12]} now); give another {option('name')}"
    )


def _record(row: Row[Any]) -> Model:
    return Model(
        id=row.id,
        name=row.name,
        source=row.source,
        fingerprint=row.fingerprint,
        family=row.family,
        layers=row.layers,
        neurons=row.neurons,
        version=row.version,
        created_at=row.created_at,
        chat_template=row.chat_template,
    )
