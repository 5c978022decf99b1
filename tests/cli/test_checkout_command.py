"""`kndb checkout` as a user types it."""

from __future__ import annotations

import os


def test_a_copy_is_made_switched_and_looked_at(use_ready, kndb, kndb_json, place):
    use_ready()
    relation = kndb_json("query", "relations")[0]["key"]
    edit = kndb_json("edit", "erase", "--model", "tiny", "--relation", relation, "--top", 3)["id"]
    kndb("edit", "apply", edit)
    made = kndb_json("checkout", "current", "--model", "tiny", "--dir", "copy")
    assert (made["version_before"], made["slots_written"]) == (None, 3)
    back = kndb_json("checkout", "base", "--dir", "copy")
    assert (back["version_before"], back["slots_written"]) == (made["version"], 3)
    again = kndb_json("checkout", "base", "--dir", "copy")
    assert (again["version"], again["slots_written"]) == (back["version"], 0)
    status = kndb_json("checkout", "--status", "--full", "--dir", "copy")
    assert (status["version"], status["problems"], status["compared"]) == (back["version"], [], "all")
    assert (place / "copy" / "config.json").is_file()


def test_problems_have_an_exit_code(use_ready, kndb):
    use_ready()
    kndb("checkout", "base", "--model", "tiny", "--dir", "copy")
    os.utime("copy/model.safetensors", (1, 1))
    found = kndb("checkout", "--status", "--dir", "copy", code=6)
    assert "copy: 1 problem, the first being: model.safetensors has another time" in found.err
    assert "--verify" in kndb("checkout", "base", "--dir", "copy", code=6).err
    kndb("checkout", "--status", "--verify", "--dir", "copy")
    kndb("checkout", "base", "--dir", "copy", "--verify")
    kndb("checkout", "--status", "--dir", "copy")


def test_options_that_make_no_sense(use_ready, kndb):
    use_ready()
    assert "VERSION is required, or --status" in kndb("checkout", "--dir", "copy", code=2).err
    assert "VERSION is required, or --status" in kndb("checkout", "base", "--full", "--dir", "copy", code=2).err
    assert "--status goes without VERSION" in kndb("checkout", "base", "--status", "--dir", "copy", code=2).err
    assert "copy is no working copy: there is no" in kndb("checkout", "--status", "--dir", "copy", code=6).err
    assert "no working copy yet, so --model has to name" in kndb("checkout", "base", "--dir", "copy", code=2).err
