"""Lists of layers as users write them."""

from __future__ import annotations

import pytest

from kndb.records.layer_lists import layers_in


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("2", (2,)),
        ("3-5", (3, 4, 5)),
        ("0, 7-8,2,7", (0, 2, 7, 8)),
        ("5-3", None),
        ("", None),
        ("1,", None),
        ("-1", None),
        ("1-", None),
        ("x", None),
        ("0-99999999999", None),
    ],
)
def test_layers_are_numbers_and_ranges(text, layers):
    assert layers_in(text) == layers
