"""Walking from version to version gives what building each from the checkpoint gives."""

from __future__ import annotations

import random
import re

import pytest

from kndb.errors import StoreDamagedError
from kndb.store.edits.road import Road
from kndb.store.versions import StoredSlot, state_version, walk
from kndb.versions import NO_LAYER, VersionHash, version_id


def random_slots(chance):
    """Edits 1 to 30 of a few slots each, of which every one fits the base: some go back to the base's bytes."""
    names = [("b", 0, 1), ("a", 1, 10), ("a", 1, 2), ("a", 0, 3), ("é", NO_LAYER, NO_LAYER)]
    return {
        edit: [
            StoredSlot(slot, "old", chance.choice(["old", "x", f"new {edit}"]), "old")
            for slot in chance.sample(names, 2)
        ]
        for edit in range(1, 31)
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_list_on_the_road_is_as_built_from_the_checkpoint(seed):
    chance = random.Random(seed)
    slots_of = random_slots(chance)
    road = Road("f", slots_of)
    present = []
    for _ in range(200):
        present = present[: chance.randrange(len(present) + 1)] + chance.sample(range(1, 31), chance.randrange(3))
        expected, refusal = built(slots_of, present)
        if refusal is None:
            road.go_to(present)
            assert road.edits == present
        else:
            with pytest.raises(StoreDamagedError, match=re.escape(refusal)):
                road.go_to(present)
            present = list(road.edits)
            expected, _ = built(slots_of, present)
        assert road.version == expected


def built(slots_of, numbers):
    """The version that edits give from the checkpoint on, or why they can't."""
    try:
        return state_version("f", walk(slots_of, numbers)), None
    except StoreDamagedError as error:
        return None, str(error)


def test_an_edit_without_slots_is_refused():
    with pytest.raises(StoreDamagedError, match="edit 9 has no value slots"):
        Road("f", {}).go_to([9])


@pytest.mark.parametrize("seed", range(5))
def test_a_hash_that_goes_on_is_that_of_the_whole(seed):
    chance = random.Random(seed)
    growing, slots = VersionHash('fé"'), {}
    assert growing.version() == version_id('fé"', {})
    for _ in range(100):
        slot = (chance.choice(["a", "a.b", "z", "é"]), chance.randrange(-1, 12), chance.randrange(-1, 120))
        value = chance.choice([None, "x", "y"])
        growing.put(slot, value)
        slots.pop(slot, None)
        if value is not None:
            slots[slot] = value
        if chance.random() < 0.5:
            assert growing.version() == version_id('fé"', slots)
