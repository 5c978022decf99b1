"""Sorting, filters and paging as plain Python has them."""

from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from kndb.explorer.addresses import encode, long_name, path_of, short_name, taken_apart
from kndb.explorer.blocks import Column, Table
from kndb.explorer.tables import cut, in_order, shown, sorted_rows, wanted_of

COLUMNS = [Column("n", "N", "count"), Column("name", "Name"), Column("fixed", "Fixed", sorts=False)]
ROWS = st.lists(
    st.fixed_dictionaries({"n": st.none() | st.integers(-5, 5), "name": st.none() | st.text("abAB", max_size=3)})
)


def table(rows, size=4):
    return Table("t", "T", COLUMNS, rows, size=size)


@given(
    ROWS,
    st.sampled_from(["", "n", "-n", "name", "-name", "fixed", "nothing"]),
    st.text("abx", max_size=2),
    st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_a_page_is_what_plain_python_cuts_out(rows, sort, text, page):
    found = shown(table(rows), {"t.sort": sort, "t.q": text, "t.page": str(page)})
    wanted = [
        row
        for row in rows
        if any(
            text in str(row[one] or "" if one == "name" else row[one] if row[one] is not None else "").lower()
            for one in ("n", "name")
        )
    ]
    name = sort.removeprefix("-")
    if name in ("n", "name"):
        there = [row for row in wanted if row[name] is not None]
        there.sort(key=lambda row: row[name] if name == "n" else row[name].casefold(), reverse=sort.startswith("-"))
        wanted = there + [row for row in wanted if row[name] is None]
    pages = max(1, -(-len(wanted) // 4))
    at = min(max(1, page), pages)
    assert list(found.rows) == wanted[(at - 1) * 4 : at * 4]
    assert (found.total, found.page, found.pages) == (len(wanted), at, pages)
    whole = shown(table(rows), {"t.sort": sort, "t.q": text, "t.page": str(page)}, whole=True)
    assert list(whole.rows) == wanted


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_address_makes_a_table_fail(sort, page):
    shown(table([{"n": 1, "name": "a"}]), {"t.sort": sort, "t.page": page, "t.q": sort})


def test_a_source_that_sorts_is_told_what_is_wanted():
    seen = []
    of_source = Table("t", "T", COLUMNS, lambda wanted: seen.append(wanted) or cut(table([]), wanted), size=10)
    shown(of_source, {"t.sort": "-n", "t.q": " x ", "t.page": "1"})
    assert (seen[0].sort, seen[0].descending, seen[0].filter, seen[0].start, seen[0].count) == ("n", True, "x", 0, 10)


def test_columns_that_do_not_sort_are_passed_over():
    assert wanted_of(table([]), {"t.sort": "fixed"})[0].sort is None
    assert sorted_rows([{"n": None}, {"n": 2}, {"n": 1}], "n", descending=True) == [{"n": 2}, {"n": 1}, {"n": None}]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80), max_size=4),
    st.sampled_from(["", "json", "csv"]),
)
@settings(max_examples=100, deadline=None)
def test_an_address_is_taken_apart_into_what_it_was_made_of(segments, suffix):
    path = path_of(segments, suffix)
    assert taken_apart(path) == (tuple(segments), suffix)
    assert path.isascii()
    assert all("/" not in encode(one) and not encode(one).endswith(".json") for one in segments)
    # What browsers and proxies read into a path, however it is written.
    read = unquote(path.removesuffix(f".{suffix}") if suffix else path).split("/")[1:]
    assert len(read) == max(1, len(segments))
    assert not {".", ".."} & {one.lower().replace("%2e", ".") for one in read}
    assert not any(mark in path for mark in ("%2F", "%5C", "%25", "%00", "%0A", "%7F"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), st.integers(300, 20_000))
@settings(max_examples=30, deadline=None)
def test_a_long_name_is_addressed_by_its_digest(text, times):
    name = text * times
    (segment,), _ = taken_apart(path_of((name,)))
    assert len(path_of((name,))) <= 1_001
    assert long_name(segment, ["another", name]) == name
    assert long_name(short_name(name), ["another", name]) == name
    assert long_name(segment, ["another"]) in (segment, name)


def test_texts_are_sorted_by_the_numbers_in_them():
    names = ["l10.n1", "l2.n418", "l2.n9", "p103", "p36", "", "capital", "9"]
    assert sorted(names, key=in_order) == ["", "9", "capital", "l2.n9", "l2.n418", "l10.n1", "p36", "p103"]
