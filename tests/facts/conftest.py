"""Writers of small input files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file below tmp_path: bytes and text as they are, a list of objects as JSON lines."""

    def writer(name: str, content: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_bytes(content.encode("utf-8"))
        else:
            text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in content)
            path.write_bytes(text.encode("utf-8"))
        return path

    return writer


@pytest.fixture
def write_json(write: Write) -> Write:
    """Writes one JSON document."""
    return lambda name, value: write(name, json.dumps(value, ensure_ascii=False, indent=1))
