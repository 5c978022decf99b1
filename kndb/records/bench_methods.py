"""The ways to edit many facts that a bench compares: each by its name, with its settings as a user gives them."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ..advice import option
from ..errors import UsageError
from .edit_settings import OptimizeSettings, UpdateSettings
from .layer_lists import layers_in
from .many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    ManySettings,
    MemitSettings,
    RomeSettings,
)
from .together import KeptFacts, TogetherSettings


@dataclass(frozen=True)
class JointMethod:
    """Joint planning by gradient steps, as a bench runs it.

    Attributes:
        settings: how; `keep`: how many other facts are kept.
        layers: those that change; none takes those of the facts' knowledge neurons.
    """

    method: ClassVar[str] = TogetherSettings.method

    settings: TogetherSettings = field(default_factory=TogetherSettings)
    keep: KeptFacts = field(default_factory=KeptFacts)
    layers: tuple[int, ...] = ()


BenchMethod = UpdateSettings | OptimizeSettings | JointMethod | ManySettings
"""A way to give facts new answers, with all its settings."""
_KINDS: Mapping[str, type[Any]] = {
    one.method: one
    for one in (
        UpdateSettings,
        OptimizeSettings,
        RomeSettings,
        MemitSettings,
        AlphaEditSettings,
        EmmetSettings,
        FinetuneSettings,
    )
}
BENCH_METHODS = (*list(_KINDS)[:2], JointMethod.method, *list(_KINDS)[2:])
"""Their names."""


def bench_method(name: str, values: Mapping[str, object] | None = None) -> BenchMethod:
    """A way to edit, by name.

    Args:
        name: one of `BENCH_METHODS`.
        values: its settings, as JSON has them, or as a text: numbers, and layers such as `0-3`. Those of `together` are
            the fields of `TogetherSettings` and of `KeptFacts`, and `layers`.

    Raises:
        UsageError: if there is no such method or setting, or a value is not what it should be.
    """
    given = dict(values or {})
    if name == JointMethod.method:
        of_keep, of_settings = ({one.name for one in fields(kind)} for kind in (KeptFacts, TogetherSettings))
        for unknown in given.keys() - of_keep - of_settings - {"layers"}:
            raise UsageError(f"{name} has no setting {unknown!r}; it has {_names(of_keep | of_settings | {'layers'})}")
        layers = _value(tuple[int, ...], given.pop("layers", []), f"{name}.layers")
        keep = _made(KeptFacts, {key: value for key, value in given.items() if key in of_keep}, name)
        settings = _made(TogetherSettings, {key: value for key, value in given.items() if key in of_settings}, name)
        return JointMethod(settings, keep, tuple(sorted(set(layers))))
    if name not in _KINDS:
        raise UsageError(f"{option('method')} must be one of {', '.join(BENCH_METHODS)} (got {name})")
    made: BenchMethod = _made(_KINDS[name], given, name)
    return made


def as_trial(method: BenchMethod) -> dict[str, Any]:
    """A way to edit as a trial is stored with it: every setting."""
    if isinstance(method, JointMethod):
        own = {**method.settings.as_json(), **asdict(method.keep), "layers": list(method.layers)}
    else:
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(method).items()}
    return {"method": method.method, **own}


def needs_neurons(method: BenchMethod, *, by_depth: bool = False) -> bool:
    """Whether a way to edit changes the knowledge neurons of facts, or the layers that hold them.

    Args:
        method: the way to edit.
        by_depth: whether the model is one whose depth says which layers a joint plan changes, where none is named.
    """
    if isinstance(method, JointMethod):
        return not method.layers and not (by_depth and method.settings.scope == "layers")
    return isinstance(method, (UpdateSettings, OptimizeSettings))


def of_one_token(method: BenchMethod) -> bool:
    """Whether new answers have to be one token."""
    return isinstance(method, (UpdateSettings, OptimizeSettings))


def one_by_one(method: BenchMethod) -> bool:
    """Whether a way to edit plans one fact after the other; the others plan all of them as one edit."""
    return isinstance(method, (UpdateSettings, OptimizeSettings, RomeSettings))


def _made(kind: Any, values: Mapping[str, object], where: str) -> Any:
    """A dataclass of settings, from what a user gave for them.

    Raises:
        UsageError: if there is no such setting, or a value is not what it should be.
    """
    types_of = get_type_hints(kind)
    known = {one.name for one in fields(kind)}
    for name in values:
        if name not in known:
            raise UsageError(f"{where} has no setting {name!r}; it has {_names(known)}")
    found = {name: _value(types_of[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return kind(**found)
    except UsageError as error:
        raise UsageError(f"{where}: {error.text}") from None


def _value(kind: Any, value: object, where: str) -> Any:
    """A value of a setting's type.

    Raises:
        UsageError: if it is none.
    """
    if get_origin(kind) in (Union, types.UnionType):
        choices = get_args(kind)
        if value is None and type(None) in choices:
            return None
        for one in choices:
            with suppress(UsageError):
                return _value(one, value, where)
    elif is_dataclass(kind):
        if isinstance(value, Mapping):
            return _made(kind, value, where)
    elif get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
    elif get_origin(kind) is tuple:
        return _layers(value, where)
    elif kind in (str, int) and type(value) is kind:
        return value
    elif kind is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    raise UsageError(f"{where} must be {_said(kind)} (got {value!r})")


def _layers(value: object, where: str) -> tuple[int, ...]:
    """Layers, as a number, a list of them, or a text such as `0-3,5`."""
    if type(value) is int:
        return (value,)
    if isinstance(value, Sequence) and not isinstance(value, str) and all(type(one) is int for one in value):
        return tuple(value)
    found = layers_in(value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f"{where} must be layers, such as 0-3 or [0, 2] (got {value!r})")
    return found


def _said(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_said(one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if is_dataclass(kind):
        return "an object"
    return {int: "a whole number", float: "a number", str: "a text", type(None): "null"}.get(kind, "layers")


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))
