"""Small edits to test with."""

from collections.abc import Callable

import pytest
import torch
from plain_checkpoints import PlainCheckpoint

from kndb.editing.objects import slots
from kndb.editing.objects.diff_file import EditObject, Layout, ParameterDiff
from kndb.records.recipes import read_recipe

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
            recipe=read_recipe("update", {"fact": 3, "lambda": [1.0, 8.0], "answer": "Zürich"}),
            parameters=(ParameterDiff(name, layout, chosen, old, 1 - old),),
            layers={name: layer},
            shapes={name: (parameter.shape[0], parameter.shape[1])},
        )

    return make


@pytest.fixture
def base(tmp_path):
    """A checkpoint of plain bytes."""
    return PlainCheckpoint(tmp_path / "base")


@pytest.fixture
def before(base):
    """A version of it."""
    return base.random_slots(1)


@pytest.fixture
def after(base):
    """Another version."""
    return base.random_slots(2)


@pytest.fixture
def copy(base, before, tmp_path):
    """A working copy of it, at `before`."""
    base.copy(tmp_path / "copy", before)
    return tmp_path / "copy"
