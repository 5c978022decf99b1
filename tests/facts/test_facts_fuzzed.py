"""Fact lists with anything in them: only errors that name the file, and what is read is what a plain reading finds.

`KNDB_FUZZ_EXAMPLES=2000` makes that many inputs in each test (docs/reliability.md).
"""

import gzip
import json
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import plain_lists as plain
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from list_formats import FORMAT_OF, LISTS

from kndb import facts
from kndb.errors import InputError, KndbError, UsageError
from kndb.store import engine, ingest

ODD = [
    None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "  ", "\0", "\ud800", "[X]", "[Y]", "[X] [Y] [Y]",
    "[MASK] [MASK]", "x" * 3000, [], {}, [None], ["[Y]", ""], {"str": 1}, [[[[[[["deep"]]]]]]], "\ue000{}\ue001",
    "\x1b[2J",
]  # fmt: skip
"""What a field may hold in a file that nobody checked."""

RAW = [
    "", " ", "{", "null", "[]", "1", '"text"', "[" * 3000, '{"a":' * 3000, '{"relation": 1e999}', "\ufeff{}", "{}\x0b",
    '{"x": ' + "9" * 5000 + "}", "NaN", "\x85", "\ue000", '{"\ue000{\\"call\\": \\"no.such\\"}\ue001": 1}',
    '{"relation": "P1", "relation": "P2", "subject": "a", "object": "b"}',
]  # fmt: skip
"""Lines that are no record, or one that is hard to read."""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "empty.db"
    engine.open_store(path, create=True).close()
    return path


@st.composite
def changed_records(draw, file, everything):
    """Sound records of a file, some of them changed in their fields or taken from another format."""
    records = draw(st.lists(file.records, max_size=6))
    for place in draw(st.lists(st.integers(0, 5), max_size=3)):
        if place < len(records) and not isinstance(records[place], str):
            records[place] = draw(_changed(file, records[place], everything))
    return records


@st.composite
def _changed(draw, file, record, everything):
    if file.kind == "questions":
        return draw(
            st.tuples(st.sampled_from(["P1", "", "\x00", '"']), st.sampled_from(["", "[S] [S]", "a, b [S]", '"[S]']))
        )
    if file.kind == "pairs":
        return record[0], draw(_changed_fields(record[1]))
    if file.kind == "table":
        name = draw(st.sampled_from(file.columns))
        return {
            **record,
            name: draw(st.sampled_from(["", " ", "[X]", "[Y] [X] [Y]", "{", "[", "x" * 500, "1", '["", 1]'])),
        }
    how = draw(st.integers(0, 3))
    if how == 0:
        return draw(st.sampled_from(RAW if file.kind == "lines" else [text for text in RAW[2:] if _is_json(text)]))
    if how == 1:
        other = draw(st.sampled_from(everything))
        return draw(other.records) if other.kind in ("lines", "items") else record
    return draw(_changed_fields(record))


@st.composite
def _changed_fields(draw, record):
    if isinstance(record, list):
        odd = draw(st.sampled_from(ODD))
        return draw(st.sampled_from([[], [odd], [*record, odd], [record], [[*entry, odd] for entry in record], odd]))
    name = draw(st.sampled_from([*record, "further"]))
    how = draw(st.integers(0, 2))
    if how == 0:
        return {key: value for key, value in record.items() if key != name}
    if how == 1 and isinstance(record.get(name), dict):
        return {**record, name: draw(_changed_fields(record[name]))}
    return {**record, name: draw(st.sampled_from(ODD))}


def _is_json(text):
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@st.composite
def dressed(draw, data):
    """The bytes with a mark, other line ends, blank lines, or packed: nothing that changes what they say."""
    if draw(st.booleans()):
        data = data.replace(b"\n", b"\n\n") if b'"' not in data else data + b"\n \n"
    if draw(st.booleans()) and b"\r" not in data:
        data = data.replace(b"\n", b"\r\n")
    if draw(st.booleans()):
        data = b"\xef\xbb\xbf" + data
    return data


@st.composite
def broken(draw, data):
    """The bytes cut, flipped, repeated or with others among them."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 4))
        if how == 0:
            data = data[:place]
        elif how == 1:
            data = data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
        elif how == 2:
            odd = st.sampled_from(
                [b"\n", b"\r", b'"', b",", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[[", b"}", b"\xe2\x80"]
            )
            data = data[:place] + draw(odd) + data[place:]
        elif how == 3:
            data = data[:place] + data[place:] * draw(st.sampled_from([2, 3, 50]))
        else:
            data = data[:place] + draw(st.binary(max_size=20)) + data[place:]
    return data


def written(folder, files, contents):
    for file, data in zip(files, contents, strict=True):
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder if len(files) > 1 else folder / files[0].name


def expected(files, contents):
    """What a plain reading finds: facts, templates, and the unsound records with their files; None if it can't tell."""
    all_facts, all_templates, unsound = [], set(), []
    for file, data in zip(files, contents, strict=True):
        found = file.plainly(data)
        if found is None:
            return None
        all_facts += found[0]
        all_templates |= set(found[1])
        unsound += [(file.name, number) for number in found[2]]
    return all_facts, all_templates, unsound


def said(read):
    """Facts and templates that were read, as the plain reading has them."""
    found = [
        (fact.relation, fact.subject, fact.object, fact.external_id, fact.prompts)
        for file in read
        for fact in file.facts
    ]
    return found, {(template.relation, template.text) for file in read for template in file.templates}


def prompts_of(all_facts, templates):
    """For each fact, the prompts that it must have in the store."""
    wanted = {}
    for relation, subject, answer, identifier, prompts in all_facts:
        key = (relation, subject, answer if subject is not None else identifier)
        own = wanted.setdefault(key, set())
        own |= set(prompts)
        if subject is not None:
            own |= {text.replace("[X]", subject) for name, text in templates if name == relation}
    return wanted


def stored(store):
    with store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT key, subject, CASE WHEN subject IS NULL THEN external_id ELSE object END, prompt.text FROM fact "
            "JOIN relation ON relation.id = relation_id LEFT JOIN prompt ON prompt.fact_id = fact.id"
        ).all()
        found = {}
        for relation, subject, other, text in rows:
            found.setdefault((relation, subject, other), set()).update([] if text is None else [text])
        return found


def require_message(error, folder):
    """An error names the file, is short, and can be said in Python and in a shell."""
    from kndb.cli.advice import for_shell

    text = str(error)
    assert str(folder) in text
    assert len(text) < 3000
    assert for_shell(text)


def agrees(all_facts):
    """Whether no fact without a subject comes with two answers."""
    answers = {}
    for relation, subject, answer, identifier, _ in all_facts:
        if subject is None:
            answers.setdefault((relation, identifier), set()).add(answer)
    return all(len(found) == 1 for found in answers.values())


def _store(store, read):
    with store.writing() as connection:
        return ingest.ingest(connection, read)


def check_stored(empty_store, folder, read):
    """Stored at once and again: all of it, and the second time nothing."""
    path = shutil.copy(empty_store, folder / "store.db")
    with engine.open_store(Path(path), create=False) as store:
        found = said(read)
        if not agrees(found[0]):
            with pytest.raises(InputError, match="facts without a subject need identifiers of their own"):
                _store(store, read)
            assert stored(store) == {}
            return
        _store(store, read)
        first = stored(store)
        assert first == prompts_of(*found)
        again = _store(store, read)
        assert (again.facts_added, again.prompts_added, again.templates_added) == (0, 0, 0)
        assert stored(store) == first


def check(empty_store, folder, name, files, contents, known):
    """Reads files and compares."""
    path = written(folder, files, contents)
    chosen = FORMAT_OF.get(name, name)
    try:
        read = facts.read(path, chosen, skip_invalid=True)
    except InputError as error:
        require_message(error, folder)
        # A file that can't be read at all, nothing to read, or files that are known by their records alone.
        unknown = name in ("lama", "mlama", "mpararel") and "there is no f" in str(error)
        assert unknown or known is None or known == ([], set(), []) or known == "fatal"
        return
    rejected = [line for file in read for line in file.rejected]
    if known is not None:
        assert known != "fatal"
        assert Counter(map(repr, said(read)[0])) == Counter(map(repr, known[0]))
        assert said(read)[1] == known[1]
        assert len(rejected) == len(known[2])
        if all(file.kind in ("lines", "items", "questions", "pairs") for file in files):
            assert [(line.file, line.line) for line in rejected] == [
                (str(folder / one), line) for one, line in known[2]
            ]
    if rejected:
        with pytest.raises(InputError) as caught:
            facts.read(path, chosen)
        require_message(caught.value, folder)
        assert re.match(re.escape(f"{rejected[0].file}:{rejected[0].line}: "), str(caught.value))
    else:
        assert facts.read(path, chosen) == read
    check_stored(empty_store, folder, read)


def plainly(files, contents):
    try:
        return expected(files, contents)
    except plain.FatalError:
        return "fatal"


EVERYTHING = [file for files in LISTS.values() for file in files]


@pytest.mark.parametrize("name", LISTS)
def test_changed_records(empty_store, name):
    files = LISTS[name]

    @fuzzed()
    @given(st.data())
    def one(data):
        records = [data.draw(changed_records(file, EVERYTHING)) for file in files]
        contents = [data.draw(dressed(file.written(some))) for file, some in zip(files, records, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            check(empty_store, Path(folder), name, files, contents, plainly(files, contents))

    one()


@pytest.mark.parametrize("name", LISTS)
def test_broken_bytes(empty_store, name):
    files = LISTS[name]

    @fuzzed()
    @given(st.data())
    def one(data):
        contents = [file.written(data.draw(st.lists(file.records, min_size=1, max_size=4))) for file in files]
        place = data.draw(st.integers(0, len(files) - 1))
        contents[place] = data.draw(broken(contents[place]))
        known = None if contents[place][:2] == b"\x1f\x8b" else plainly(files, contents)
        with tempfile.TemporaryDirectory() as folder:
            check(empty_store, Path(folder), name, files, contents, known)

    one()


@pytest.mark.parametrize("name", LISTS)
def test_packed_files(name):
    """Packed, whole or broken: what is read are facts of the list, and those that are missing are said to be."""
    files = LISTS[name]

    @fuzzed(15)
    @given(st.data())
    def one(data):
        contents = [file.written(data.draw(st.lists(file.records, min_size=1, max_size=4))) for file in files]
        place = data.draw(st.integers(0, len(files) - 1))
        cut = data.draw(st.integers(0, len(contents[place])))
        packed = b"".join(
            gzip.compress(part, mtime=0) for part in (contents[place][:cut], contents[place][cut:]) if part
        )
        known = plainly(files, contents)
        changed = data.draw(st.one_of(st.just(packed), broken(packed)))
        contents[place] = changed
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            path = written(folder, files, contents)
            try:
                read = facts.read(path, FORMAT_OF.get(name, name), skip_invalid=True)
            except InputError as error:
                require_message(error, folder)
                assert changed != packed
                return
            found, rejected = said(read), [line for file in read for line in file.rejected]
            if changed == packed:
                assert known is None or found[0] == known[0]
            elif changed[:2] == b"\x1f\x8b" and known is not None:
                assert Counter(map(repr, found[0])) <= Counter(map(repr, known[0] * 200))
                assert set(found[0]) == set(known[0]) or rejected

    one()


TOKENS = st.sampled_from(
    [
        *(mark.encode() for mark in '{}[]",;\t:\n \0'),
        *(b"\r\n", b"[X]", b"[Y]", b"P1", b"null", b"\xef\xbb\xbf", b"\x1f\x8b\x08"),
        *b"relation subject object template prompt pattern sub_label obj_label pred masked_sentences index".split(),
        *b"subj possible_answers requested_rewrite target_new".split(),
    ]
)
NAMES = st.sampled_from(
    ["f.jsonl", "f.csv", "f.tsv", "f.json", "f", "P1.jsonl", "relations.jsonl", "f.jsonl.gz", "\udcff.jsonl"]
)


@fuzzed(200)
@given(
    data=st.one_of(st.binary(max_size=300), st.lists(TOKENS, max_size=60).map(b"".join)), name=NAMES, skip=st.booleans()
)
def test_any_bytes_in_any_file(data, name, skip):
    for chosen in facts.FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            try:
                read = facts.read(path, chosen, skip_invalid=skip)
            except InputError as error:
                require_message(error, folder)
            else:
                assert any(file.facts or file.templates or file.rejected for file in read)
                assert json.dumps([file.source for file in read]).encode("ascii")


@fuzzed(60)
@given(data=st.data())
def test_any_files_in_a_folder(empty_store, data):
    """A folder of files of several formats: read as one of them, or refused; never a part in silence."""
    chosen = data.draw(st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in chosen:
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.written(data.draw(st.lists(file.records, max_size=3))))
        try:
            read = facts.read(
                folder, skip_invalid=True, languages=data.draw(st.sampled_from([(), (), ("de",), ("xx",)]))
            )
        except (InputError, UsageError) as error:
            require_message(error, folder)
        else:
            check_stored(empty_store, folder, read)


def test_every_format_is_fuzzed():
    edit_lists = {"easyedit", "knowedit", "mquake", "ripple-edits", "zsre"}  # In test_facts_edit_lists.
    assert {FORMAT_OF.get(name, name) for name in LISTS} | edit_lists == set(facts.FORMATS) - {"auto"}
    assert issubclass(InputError, KndbError)
