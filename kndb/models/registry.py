"""The families that kndb knows: one line each."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedModelError
from .adapter import Adapter
from .bert import BERT
from .gpt2 import GPT2

ADAPTERS: tuple[Adapter, ...] = (BERT, GPT2)


def adapter_for(config: Any) -> Adapter:
    """The adapter of a transformers configuration.

    Raises:
        UnsupportedModelError: if no adapter names the configuration's `model_type`, or those that do are wrong for
            one of its settings.
    """
    require_known(config)
    model_type = config.model_type
    candidates = [adapter for adapter in ADAPTERS if model_type in adapter.model_types]
    for adapter in candidates:
        if all(getattr(config, name, None) == value for name, value in adapter.requires):
            _refuse_unsupported_settings(adapter, config)
            return adapter
    wanted = " or ".join(
        ", ".join(f"{name}={value!r}" for name, value in adapter.requires) for adapter in candidates
    )
    raise UnsupportedModelError(
        f"found a {model_type} configuration without {wanted}; kndb has no adapter for that. "
        "How to add one: docs/architectures.md"
    )


def require_known(config: Any) -> None:
    """Refuses a configuration whose `model_type` no adapter names.

    Raises:
        UnsupportedModelError: if none does.
    """
    model_type = getattr(config, "model_type", None)
    known = sorted({name for adapter in ADAPTERS for name in adapter.model_types})
    if model_type not in known:
        raise UnsupportedModelError(
            f"found architecture {model_type!r}; kndb has adapters for: {', '.join(known)}. "
            "How to add one: docs/architectures.md"
        )


def _refuse_unsupported_settings(adapter: Adapter, config: Any) -> None:
    for name, value in adapter.unsupported:
        if getattr(config, name, None) == value:
            raise UnsupportedModelError(
                f"the configuration has {name}={value!r}; kndb's adapter for {adapter.family} can't handle that"
            )
