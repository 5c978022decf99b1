"""Files of neurons that others publish: what is read of them, and what is refused."""

import gzip
import json

import pytest

from kndb.errors import InputError
from kndb.exchange import eleutherai, neuron_csv
from kndb.exchange.sets import FactName, SetNeuron, Sizes

SIZES = Sizes(layers=4, neurons=10)


@pytest.fixture
def write(tmp_path):
    def writer(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return writer


def pairs(sets):
    return {one.fact.id: [(neuron.layer, neuron.neuron) for neuron in one.neurons] for one in sets}


# --- EleutherAI's JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_json_is_read_in_order_and_sorted(write, packed):
    text = json.dumps({"b": [[3, 9], [0, 1], [3, 9]], "a": [], "c": [[1, 1]]}).encode()
    found = eleutherai.read_files([write("n.json", gzip.compress(text) if packed else text)], SIZES)
    assert pairs(found) == {"b": [(0, 1), (3, 9)], "a": [], "c": [(1, 1)]}
    assert [one.fact.id for one in found] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", r"must be a JSON object .* \(got a list\)"),
        ("3", r"\(got a number\)"),
        ("", "not valid JSON"),
        ('{"a": [[0, 1]]', "not valid JSON"),
        (b'{"\xff": []}', "not UTF-8"),
        ('{"a": {"b": 1}}', r"id 'a': .* \(got an object\)"),
        ('{"a": null}', r"id 'a': .* \(got null\)"),
        ('{"a": [[0]]}', r"id 'a': \[0\] must be"),
        ('{"a": [{}]}', r"id 'a': \{\} must be"),
        ('{"a": [[0, 1, 2]]}', "two whole numbers"),
        ('{"a": [[0, 1.0]]}', "two whole numbers"),
        ('{"a": [[true, 1]]}', "two whole numbers"),
        ('{"a": [["0", 1]]}', "two whole numbers"),
        ('{"a": [[-1, 1]]}', "no layer -1 with a neuron 1"),
        ('{"a": [[4, 1]]}', "its layers are 0 to 3"),
        ('{"a": [[0, 10]]}', "its neurons 0 to 9"),
        ('{"\\ud800": []}', "can't be printed"),
        ('{"a": [[0, 1]], "a": [[0, 2]]}', "'a' twice"),
        (gzip.compress(b'{"a": []}' * 50, mtime=0)[:-9], "cut short"),
        (gzip.compress(b'{"a": []}', mtime=0)[:10] + b"nonsense", "gzip"),
    ],
)
def test_json_that_is_refused(write, content, reason):
    path = write("n.json", content)
    with pytest.raises(InputError, match=reason) as error:
        eleutherai.read_files([path], SIZES)
    assert str(path) in str(error.value)


def test_the_same_id_in_two_files(write):
    first = write("a.json", '{"a": [[0, 1]]}')
    same = write("b.json", '{"a": [[0, 1], [0, 1]]}')
    other = write("c.json", '{"a": [[0, 2]]}')
    assert pairs(eleutherai.read_files([first, same], SIZES)) == {"a": [(0, 1)]}
    with pytest.raises(InputError, match=r"c\.json.*'a'.*a\.json"):
        eleutherai.read_files([first, other], SIZES)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        eleutherai.read_files([tmp_path / "none.json"], SIZES)


# --- CSV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", neuron_csv.FACT_COLUMNS)
def test_csv(write, column):
    text = f"neuron,{column},layer,score,prompts\n1,a,0,0.25,3\n9,a,3,,\n,b,,,\n1,a,0,0.25,3\n"
    found = neuron_csv.read_files([write("n.csv", text)], SIZES)
    assert {one.fact: one.neurons for one in found} == {
        FactName("a"): (SetNeuron(0, 1, 3, 0.25), SetNeuron(3, 9)),
        FactName("b"): (),
    }


def test_csv_by_number_and_by_triple(write):
    by_number = neuron_csv.read_files([write("n.csv", "fact,layer,neuron\n17,0,1\n")], SIZES, by_number=True)
    assert [one.fact for one in by_number] == [FactName(number=17)]
    text = 'id,relation,subject,object,layer,neuron\n,P36,"Korea, South",Seoul,0,1\n'
    (one,) = neuron_csv.read_files([write("m.csv", text)], SIZES)
    assert one.fact == FactName(None, "P36", "Korea, South", "Seoul")


def test_csv_lines_that_are_refused_are_listed(write):
    lines = ["fact,layer,neuron,score,prompts", "a,0,1,,", "a,x,1,,", "b,0,10,,", "c,0,1", ",0,1,,", "a,0,1,2.5,"]
    lines += ["a,0,2,nan,", "a,0,3,,-1", "a,,3,,"]
    with pytest.raises(InputError) as error:
        neuron_csv.read_files([write("n.csv", "\n".join(lines))], SIZES)
    assert [line.line for line in error.value.rejected] == list(range(3, 11))
    assert "7 further lines" in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("a,0,1\n", "the header must have"),
        ("fact,layer\n", "the header must have"),
        ("fact,layer,neuron,layer\n", "each once"),
        ('fact,layer,neuron\n"a,0,1\n', r":2: not valid CSV"),
        (b"fact,layer,neuron\n\xff,0,1\n", "UTF-8"),
    ],
)
def test_csv_that_is_refused(write, content, reason):
    with pytest.raises(InputError, match=reason):
        neuron_csv.read_files([write("n.csv", content)], SIZES)
