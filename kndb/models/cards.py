"""A checkpoint's model card: the README.md beside its weights, with a front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..advice import option
from ..errors import UsageError
from ..files import sync

CARD = "README.md"
KEPT_AS = "BASE_MODEL_CARD.md"
"""What the base checkpoint's own card is called beside the new one."""
_MOST_BYTES = 1_000_000
"""A longer card is kept, and nothing is read from it."""
_CARRIED = ("license", "license_name", "license_link", "language", "library_name", "pipeline_tag")
"""What a base checkpoint's front matter says that holds of an edited copy, too."""
_LETTERS, _VALUES = 200, 100


@dataclass(frozen=True)
class BaseCard:
    """What is known of a checkpoint's own card.

    Attributes:
        values: what its front matter says that holds of an edited copy, too: texts, or lists of texts.
        kept_as: the name of the card beside a new one; None where there is none.
    """

    values: Mapping[str, str | list[str]] = field(default_factory=dict)
    kept_as: str | None = None


@dataclass(frozen=True)
class NewCard:
    """A card to write.

    Attributes:
        text: the card.
        kept_as: the name of the file that the base checkpoint's own card gets, if there is one.
    """

    text: str
    kept_as: str | None = None


def base_card(folder: Path) -> BaseCard:
    """Reads a checkpoint's own card; what can't be read says nothing."""
    path = folder / CARD
    if not path.is_file():
        return BaseCard()
    name, number = KEPT_AS, 1
    while (folder / name).exists():
        number += 1
        name = KEPT_AS.replace(".md", f"_{number}.md")
    return BaseCard(_front_matter(path), name)


def _front_matter(path: Path) -> dict[str, str | list[str]]:
    from huggingface_hub import ModelCard

    if path.stat().st_size > _MOST_BYTES:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        # Without a front matter, the hub's class would complain in the log.
        told = vars(ModelCard(text).data) if text.lstrip().startswith("---") else {}
    except Exception:  # Whatever a stranger's YAML makes of its reader.
        return {}
    found = {name: _texts(told.get(name)) for name in _CARRIED}
    return {name: value for name, value in found.items() if value}


def _texts(value: object) -> str | list[str] | None:
    """A text, or the texts of a list, if they are such as a front matter has; None for anything else."""
    if isinstance(value, list):
        return [one for one in value[:_VALUES] if _is_plain(one)]
    return value if isinstance(value, str) and _is_plain(value) else None


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LETTERS and value.isprintable()


def front_matter(values: Mapping[str, Any]) -> str:
    """A card's front matter as YAML between its lines; the hub's own class writes it.

    Args:
        values: by the hub's names; None is left out.
    """
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**values).to_yaml()}\n---\n"


def require_hub_name(name: str) -> str:
    """Checks a name of a model on the hub.

    Raises:
        UsageError: if it can't be one.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UsageError(
            f"{option('base_model')} must be the name of a model on the Hugging Face hub, such as "
            f"google-bert/bert-base-cased (got {name!r})"
        ) from None
    return name


def write_card(folder: Path, card: NewCard) -> None:
    """Writes a card into a folder that is being made; one that is there keeps its bytes under another name."""
    path = folder / CARD
    if path.exists() and card.kept_as is not None:
        path.rename(folder / card.kept_as)
    path.write_bytes(card.text.encode("utf-8"))
    sync(path)
