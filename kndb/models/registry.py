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
        UnsupportedModelError: if no adapter names the configuration's `model_type`, or the one that does is
            wrong for one of its settings.
    """
    model_type = getattr(config, "model_type", None)
    for adapter in ADAPTERS:
        if model_type in adapter.model_types:
            _refuse_unsupported_settings(adapter, config)
            return adapter
    known = ", ".join(sorted(name for adapter in ADAPTERS for name in adapter.model_types))
    raise UnsupportedModelError(
        f"found architecture {model_type!r}; kndb has adapters for: {known}. How to add one: docs/architectures.md"
    )


def _refuse_unsupported_settings(adapter: Adapter, config: Any) -> None:
    for name, value in adapter.unsupported:
        if getattr(config, name, None) == value:
            raise UnsupportedModelError(
                f"the configuration has {name}={value!r}; kndb's adapter for {adapter.family} can't handle that"
            )
