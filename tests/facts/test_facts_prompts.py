from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kndb.errors import InputError
from kndb.facts import blank_is_last, fill

PLAIN = st.text().filter(lambda text: "[X]" not in text)


@given(before=PLAIN, subject=st.text(), after=PLAIN)
@example(before="", subject="{}", after=" is in [Y].")
@example(before="{0} ", subject="[X]", after=" %s {name} \\1")
@example(before="", subject="\\1 \\g<0> $1", after=" is in [Y].")
@example(before="", subject="ירושלים", after=" is in [Y].")
def test_fill_puts_any_subject_between_what_surrounds_the_slot(before, subject, after):
    # Two pieces can form a further slot at their seam: "[" + "X]…" is no template of one slot.
    template = f"{before}[X]{after}"
    if template.count("[X]") == 1:
        assert fill(template, subject) == before + subject + after


@pytest.mark.parametrize(("template", "count"), [("no slot [Y]", 0), ("[X] and [X] in [Y]", 2)])
def test_fill_refuses_templates_without_exactly_one_slot(template, count):
    with pytest.raises(InputError, match=rf"the template .* has {count or 'no'} \[X\]; it must have exactly one"):
        fill(template, "Rome")


@pytest.mark.parametrize(
    "prompt",
    [
        "Rome is in [Y]",
        "Rome is in [Y].",
        "Rome is in [Y] .",
        "Rome is in [Y] . ",
        "Is Rome in [Y]?!",
        'He said "Rome is in [Y]."',
        "(Rome is in [Y]).",
        "ローマは[Y]。",
        "[Y]",
    ],
)
def test_blank_is_last(prompt):
    assert blank_is_last(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "[Y] is where Rome is.",
        "Rome is a [Y] city.",
        "the [Y]-born Nero",
        "iPhone, a product of [Y],",
        "[Y] (Rome)",
        "Rome is in Italy.",
        "",
    ],
)
def test_blank_is_not_last(prompt):
    assert not blank_is_last(prompt)
