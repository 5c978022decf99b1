"""Tables: as wide as the terminal lets them, and never a word broken that would fit a line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kndb.cli.table_layout import record_lines, table_lines, wrapped

WORDS = st.text("abcdefgh0123456789.·é日", min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=6).map(" ".join)


def test_what_fits_stays_in_one_line():
    head, lines = table_lines(["name", "facts"], [["L2.N418", "3"], ["L11.N2", "120"]], [False, True], None)
    assert head == ["name     facts"]
    assert lines == ["L2.N418      3", "L11.N2     120"]
    assert table_lines(["name", "facts"], [["L2.N418", "3"], ["L11.N2", "120"]], [False, True], 14) == (head, lines)


def test_cells_break_between_words():
    head, lines = table_lines(["id", "what it does"], [["v0123", "one two three"]], [False, False], 13)
    assert head == ["id     what", "       it", "       does"]
    assert lines == ["v0123  one", "       two", "       three"]


def test_a_terminal_too_narrow_for_whole_words_gets_records():
    head, lines = table_lines(["id", "version"], [["1", "v0123456789"], ["2", "v9876543210"]], [True, False], 12)
    assert head == []
    assert lines == ["id       1", "version  v01", "         234", *lines[3:]]
    assert "".join(re.findall(r"(?:version)? +(\S+)", "\n".join(lines[1:5]))) == "v0123456789"


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4), st.integers(10, 60))
def test_no_line_is_too_long_and_no_text_is_lost(rows, width):
    head, lines = table_lines(["a", "b c", "d"], rows, [False, True, False], width)
    from rich.cells import cell_len

    assert all(cell_len(line) <= width for line in [*head, *lines])
    if head:
        words = sorted(word for row in rows for cell in row for word in cell.split())
        assert sorted(word for line in lines for word in line.split()) == words
    else:
        shown = "".join("".join(line for line in lines).split())
        for row in rows:
            for cell in row:
                assert "".join(cell.split())[:3] in shown


@given(st.lists(WORDS, max_size=8).map(" ".join), st.integers(1, 20))
def test_wrapping_keeps_the_text(text, width):
    from rich.cells import cell_len

    if max(map(cell_len, text), default=0) > width:
        return
    parts = wrapped(text, width)
    assert all(cell_len(part) <= width for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@pytest.mark.parametrize("width", [None, 80])
def test_a_record_names_each_value(width):
    assert record_lines([("a", "1"), ("long name", "two words")], width) == ["a          1", "long name  two words"]


def test_a_records_value_goes_on_below_itself():
    assert record_lines([("name", "one two three")], 12) == ["name  one", "      two", "      three"]


def test_an_identifier_that_fits_only_a_whole_line_stands_below_its_name():
    assert record_lines([("object", "0123456789"), ("a", "1")], 14) == ["object", "  0123456789", "a       1"]
