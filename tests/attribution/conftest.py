"""Tiny networks, and batches of random prompts for them."""

from __future__ import annotations

from collections.abc import Callable

import attribution_cases
import pytest


@pytest.fixture
def make_case() -> Callable[..., attribution_cases.Case]:
    """Makes a random model of a family with prompts of given lengths."""
    return attribution_cases.make_case
