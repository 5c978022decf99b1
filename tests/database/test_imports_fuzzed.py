"""Files of neurons, scores, facts and new answers with anything in them: errors that name the file, all or nothing."""

import csv
import gzip
import io
import json
import shutil
import tempfile
from pathlib import Path

import filled_store
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from kndb.database import open_database
from kndb.errors import InputError, KndbError, NotFoundError
from kndb.exchange import eleutherai, neuron_csv, tables, targets
from kndb.exchange.columns import FACTS, NEURONS, SCORES
from kndb.exchange.sets import Sizes
from kndb.files import sha256

SIZES = Sizes(layers=3, neurons=9)
KINDS = {"neurons": NEURONS, "scores": SCORES, "facts": FACTS}
SUFFIXES = (".csv", ".jsonl", ".parquet")
ODD = [
    None, True, 0, -1, 7, 1.5, 10**30, 10**400, float("nan"), float("inf"), "", "\0", "\ud800", "x" * 500, [], {}, [[]],
    [[0, 1]], [[0, 1, 0.5], [0, 1, 0.5]], [[10**30, 1, 1]], [[0, 1, float("inf")]], [[0, -1, 1]], [None],
    "\ue000{}\ue001",
]  # fmt: skip
HARD = [10**30, 10**400, float("nan"), "\ud800"]
"""Of them, what JSON can say and no store can hold."""
RAW = ["", "{", "null", "[" * 5000, '"a', "1e999", "\ufeff", ",,,", '{"layer": 1' + "0" * 5000 + "}"]
EVERYTHING = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files that a filled store exports, by kind and suffix, and a store that has its facts alone."""
    folder = tmp_path_factory.mktemp("fuzz")
    files = {}
    with open_database(folder / "full.db") as full, open_database(folder / "facts.db") as bare:
        filled_store.fill(full, experiments=False)
        for kind in KINDS:
            for suffix in SUFFIXES:
                path = folder / f"{kind}{suffix}"
                getattr(full.exchange, f"export_{kind}")(path)
                files[kind, suffix] = path.read_bytes(), Path(f"{path}.meta.json").read_bytes()
        bare.exchange.import_facts([folder / "facts.jsonl"])
    return files, folder / "facts.db"


def require_message(error, path):
    """An error is short and names the file; that the store has none of its facts is about the store."""
    assert isinstance(error, NotFoundError) or str(path) in str(error)
    assert len(str(error)) < 3000


def rows_of(database):
    with database.store.reading() as connection:
        names = [name for (name,) in connection.exec_driver_sql(EVERYTHING)]
        return {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names}


@st.composite
def changed(draw, data, suffix):
    """A file's bytes with some cells or lines changed, in the words of its format."""
    if suffix == ".parquet":
        place = draw(st.integers(0, len(data)))
        more = draw(st.binary(max_size=8))
        return data[:place] + more + data[place + draw(st.sampled_from([0, len(more)])) :]
    lines = data.split(b"\n")
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, min(len(lines) - 1, 5)))
        how = draw(st.sampled_from([0, 1, 2, 3, 4, 4, 4, 4]))
        if how == 0:
            lines[place] = draw(st.sampled_from(RAW)).encode()
        elif how == 1:
            lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]
        elif how == 2:
            lines.insert(place, lines[place])
        elif how == 3:
            at = draw(st.integers(0, len(lines[place])))
            lines[place] = lines[place][:at] + draw(st.binary(min_size=1, max_size=3)) + lines[place][at + 1 :]
        else:
            lines[place] = draw(_odd_cell(lines[place], suffix))
    data = b"\n".join(lines)
    return gzip.compress(data) if draw(st.booleans()) else data


@st.composite
def _odd_cell(draw, line, suffix):
    odd = draw(st.one_of(st.sampled_from(HARD), st.sampled_from(ODD)))
    if suffix == ".jsonl":
        try:
            record = json.loads(line)
        except ValueError:
            return line
        if not isinstance(record, dict) or not record:
            return line
        names = draw(st.lists(st.sampled_from(list(record)), min_size=1, max_size=3))
        return _dumped({**record, **dict.fromkeys(names, odd)})
    try:
        cells = next(csv.reader([line.decode("utf-8", "replace")]), [])
    except csv.Error:
        return line
    if cells:
        cells[draw(st.integers(0, len(cells) - 1))] = _dumped(odd).decode()
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode().removesuffix(b"\r\n")


def _dumped(value):
    try:
        return json.dumps(value).encode()
    except ValueError:  # A number of too many digits.
        return b"1" + b"0" * 400


def described(path, data, description):
    """Writes a file with a description that agrees with it."""
    path.write_bytes(data)
    document = json.loads(description)
    document["data"]["sha256"] = sha256(path)
    Path(f"{path}.meta.json").write_text(json.dumps(document), encoding="utf-8")


def imported(database, kind, path):
    if kind == "scores":
        return database.exchange.import_scores(path)
    return getattr(database.exchange, f"import_{kind}")([path])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_exports_that_were_changed(made, kind, suffix):
    files, bare = made
    data, description = files[kind, suffix]

    @fuzzed(20)
    @given(changed(data, suffix))
    def one(changed_data):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"{kind}{suffix}"
            described(path, changed_data, description)
            with open_database(shutil.copy(bare, Path(name) / "store.db")) as database:
                before = rows_of(database)
                try:
                    imported(database, kind, path)
                except KndbError as error:
                    require_message(error, path)
                    assert rows_of(database) == before
                    return
                after = rows_of(database)
                again = imported(database, kind, path)
                assert rows_of(database) == after
                assert kind == "facts" or again.already_there

    one()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_unchanged_exports_are_imported(made, tmp_path, kind, suffix):
    files, bare = made
    data, description = files[kind, suffix]
    path = tmp_path / f"{kind}{suffix}"
    described(path, data, description)
    with open_database(shutil.copy(bare, tmp_path / "store.db")) as database:
        before = rows_of(database)
        imported(database, kind, path)
        assert (rows_of(database) == before) == (kind == "facts")


TOKENS = st.sampled_from(
    [
        *(mark.encode() for mark in '{}[]",:\n 0a\0'),
        *b"1e999 fact layer neuron to id".split(),
        *(
            b"9" * 400,
            b"fact,layer,neuron\n",
            b"relation,subject,to\n",
            b'{"a": [[0, 1]]',
            b"\xef\xbb\xbf",
            b"\x1f\x8b\x08",
        ),
    ]
)
ANY = st.one_of(st.binary(max_size=200), st.lists(TOKENS, max_size=40).map(b"".join))


@fuzzed(150)
@given(data=ANY, pack=st.booleans(), cut=st.integers(0, 10))
def test_any_bytes(data, pack, cut):
    if pack:
        data = gzip.compress(data)
        data = data[: len(data) - cut]
    with tempfile.TemporaryDirectory() as name:
        readers = {
            "a.json": lambda path: eleutherai.read_files([path], SIZES),
            "a.csv": lambda path: neuron_csv.read_files([path], SIZES),
            "b.csv": lambda path: neuron_csv.read_files([path], SIZES, by_number=True),
            "c.csv": lambda path: targets.read(path, ","),
            "c.jsonl": lambda path: targets.read(path, None),
            "d.csv": lambda path: list(tables.read(path, NEURONS)),
            "d.jsonl": lambda path: list(tables.read(path, SCORES)),
            "d.parquet": lambda path: list(tables.read(path, SCORES)),
        }
        for file, read in readers.items():
            path = Path(name) / file
            path.write_bytes(data)
            try:
                read(path)
            except InputError as error:
                require_message(error, path)


SETS = st.dictionaries(
    st.sampled_from(["a", "b", "", "\ud800", "x" * 900]),
    st.one_of(st.lists(st.lists(st.integers(-1, 9), max_size=3), max_size=4), st.sampled_from([None, {}, "x", [None]])),
    max_size=3,
)


@fuzzed(100)
@given(SETS)
def test_sets_are_those_of_a_plain_reading(sets):
    """EleutherAI's files, and the same as CSV."""
    sound = all(
        key.isprintable()
        and isinstance(value, list)
        and all(isinstance(pair, list) and len(pair) == 2 and 0 <= pair[0] < 3 and 0 <= pair[1] < 9 for pair in value)
        for key, value in sets.items()
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "n.json"
        path.write_text(json.dumps(sets), encoding="utf-8")
        if not sound:
            with pytest.raises(InputError, match="n\\.json"):
                eleutherai.read_files([path], SIZES)
            return
        found = eleutherai.read_files([path], SIZES)
        assert {one.fact.id: {(n.layer, n.neuron) for n in one.neurons} for one in found} == {
            key: {(layer, neuron) for layer, neuron in value} for key, value in sets.items()
        }
