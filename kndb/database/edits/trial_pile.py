"""Edits piled up in memory, one on the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import apply_object
from ..models import ModelVersion
from .control import neurons_of


class Pile:
    """Edits that are applied to a model in memory, one on the other."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())
        self._edits: list[EditObject] = []

    @property
    def slots(self) -> int:
        """The value slots that the edits change, one edit after the other."""
        return sum(len(neurons_of(planned)) for planned in self._edits)

    def add(self, planned: EditObject) -> None:
        """Applies one more edit."""
        apply_object(self._parameters, planned)
        self._edits.append(planned)

    def take_back(self) -> None:
        """Gives the weights the bytes that they have without the edits."""
        for planned in reversed(self._edits):
            apply_object(self._parameters, planned, reverse=True)

    @contextmanager
    def without(self) -> Iterator[None]:
        """The weights without any of the edits."""
        self.take_back()
        try:
            yield
        finally:
            for planned in self._edits:
                apply_object(self._parameters, planned)
