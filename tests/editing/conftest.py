"""Small edits to test with."""

from collections.abc import Callable

import pytest
import torch

from kndb.editing import slots
from kndb.editing.diff_file import EditObject, Layout, ParameterDiff

MakeEdit = Callable[..., EditObject]


@pytest.fixture
def make_edit() -> MakeEdit:
    """Makes an edit of one parameter, which negates some slots of a fixed random matrix and adds one."""

    def make(
        parameter: torch.Tensor | None = None,
        *,
        name: str = "layers.1.down.weight",
        layout: Layout = "column",
        indices: tuple[int, ...] = (1, 3, 4),
        layer: int = 1,
        fingerprint: str = "f" * 64,
    ) -> EditObject:
        if parameter is None:
            parameter = torch.randn(4, 6, generator=torch.Generator().manual_seed(7))
        chosen = torch.tensor(indices, dtype=torch.int64)
        old = slots.read_slots(parameter, layout, chosen)
        return EditObject(
            fingerprint=fingerprint,
            kind="update",
            recipe={"fact": 3, "lambda": [1.0, 8.0], "answer": "Zürich"},
            parameters=(ParameterDiff(name, layout, chosen, old, 1 - old),),
            layers={name: layer},
            shapes={name: (parameter.shape[0], parameter.shape[1])},
        )

    return make
