"""The search box: what a text names itself, and what holds it, the closest first."""

import pytest
from asgi import ask
from filled_store import NAME
from hypothesis import given
from hypothesis import strategies as st

from kndb.explorer.pages.search import closeness


def found(application, text):
    """What a search goes to, and its tables."""
    data = ask(application, "/search.json?refinement=1&q=" + text.replace(" ", "%20").replace("#", "%23")).json()
    return data["values"], data["tables"], data["texts"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("1", ["Fact", "Edit", "Run", "Refinement"]),
        ("edit 1", ["Edit"]),
        ("Fact #2", ["Fact"]),
        ("run 2", ["Run"]),
        ("refinement 2", ["Refinement"]),
        ("15", ["Fact"]),
        ("l0.n1", ["Neuron"]),
        ("L2", ["Layer"]),
        ("L9.N1", []),
        ("b>ny", ["Model"]),
        ("P37, P36", ["Shared"]),
        ("nothing-like-this", []),
    ],
)
def test_what_a_text_names_is_gone_to(explorer, text, kinds):
    direct, tables, texts = found(explorer, text)
    assert list(direct) == kinds
    if not kinds and not tables:
        assert texts == [f"Nothing in this store holds “{text}”. A search looks for a part of a text; try less of it."]


def test_neurons_are_found_by_a_part_of_their_name_or_their_number(explorer, filled):
    held = filled.query.held_neurons(refinement=1)
    names = {f"L{one.layer}.N{one.neuron}": one.facts for one in held}
    for text, wanted in (
        ("L1.N", set()),
        ("L1.N7", {"L1.N7"}),
        ("n7", {name for name in names if name.endswith("N7")}),
    ):
        _, tables, _ = found(explorer, text)
        rows = tables.get("neurons", [])
        assert {row["neuron"] for row in rows} == wanted
        assert [row["facts"] for row in rows] == sorted((names[row["neuron"]] for row in rows), reverse=True)


def test_each_kind_is_found(explorer):
    assert [row["relation"] for row in found(explorer, "capital")[1]["relations"]] == ["P36"]
    assert [row["id"] for row in found(explorer, "activation")[1]["runs"]] == [2]
    assert [row["id"] for row in found(explorer, NAME.replace("&", "%26"))[1]["runs"]] == [1, 2]
    assert [row["edit"] for row in found(explorer, "update")[1]["edits"]] == [1]


def test_the_whole_name_comes_first(explorer, filled):
    _, tables, _ = found(explorer, "subject 1")
    listed = filled.query.facts(text="subject 1", sort="match").facts
    assert [row["fact"] for row in tables["facts"]] == [one.fact for one in listed]
    assert tables["facts"][0]["subject"] == "subject 1"
    assert [row["relation"] for row in found(explorer, "p3")[1]["relations"]] == ["P36", "P37"]


@given(st.text("ab ", min_size=1, max_size=3), st.text("abAB ", max_size=6))
def test_closeness_is_whole_beginning_word_part_or_nothing(text, name):
    whole = name.lower()
    wanted = (
        0 if whole == text else 1 if whole.startswith(text) else 2 if f" {text}" in whole else 3 if text in whole else 4
    )
    assert closeness(text, None, name) == wanted
