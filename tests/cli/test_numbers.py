"""Lists of numbers on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kndb.cli.numbers import edit_number, fact_number, number_ranges, parse_numbers
from kndb.errors import UsageError


@given(st.lists(st.integers(0, 60), max_size=40))
def test_what_is_written_is_read_back(numbers):
    assert parse_numbers(number_ranges(numbers).split()) == numbers


def test_ranges():
    assert parse_numbers(["3", "7-9", "5-4"]) == [3, 7, 8, 9, 5, 4]
    assert number_ranges([3, 7, 8, 9, 5]) == "3 7-9 5"


@pytest.mark.parametrize("word", ["x", "-3", "3-", "1-2-3", "", "1.5"])
def test_other_words_are_refused(word):
    with pytest.raises(UsageError, match=r"nor a range such as 7-12$"):
        parse_numbers([word])


def test_a_range_too_long_to_be_meant_is_refused():
    with pytest.raises(UsageError, match="a range may have 100,000 numbers"):
        parse_numbers(["1-999999999999"])


def test_a_file_in_a_numbers_place_is_read_otherwise():
    with pytest.raises(UsageError, match=r"db\.edits\.pull\('toyota\.kndb'\)"):
        parse_numbers(["toyota.kndb"])
    with pytest.raises(UsageError, match=r"db\.edits\.pull\('theirs/one'\)"):
        edit_number("theirs/one")
    with pytest.raises(UsageError, match=r"db\.edits\.all\(\)"):
        edit_number("first")
    with pytest.raises(UsageError, match=r"db\.facts\.find\(\)$"):
        fact_number("facts.csv")
    with pytest.raises(UsageError, match=r"db\.facts\.find\(subject='France'\)"):
        fact_number("France")
    assert edit_number(" 3") == fact_number("3") == 3
