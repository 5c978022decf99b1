"""What fact lists say, read plainly: by json, csv and str alone, with nothing of kndb.

Each format has a function from a parsed record to (facts, templates), a fact being (relation, subject, object, id,
prompts) and a template (relation, text); it raises UnsoundError for a record that is not to be used.
"""

import csv
import hashlib
import io
import json


class UnsoundError(Exception):
    """A record that can't be used."""


class FatalError(Exception):
    """A file that can't be read at all."""


def need(condition):
    if not condition:
        raise UnsoundError


def words(value):
    need(isinstance(value, str))
    value = value.strip()
    need(value and "\0" not in value and not any("\ud800" <= mark <= "\udfff" for mark in value))
    return value


def field(record, name):
    need(name in record)
    return words(record[name])


def subject(record, name):
    value = field(record, name)
    need("[X]" not in value and "[Y]" not in value)
    return value


def template(value):
    value = words(value)
    need(value.count("[X]") == 1 and value.count("[Y]") == 1)
    return value


def number_or_words(record, name):
    value = record.get(name)
    if type(value) is int:
        return str(value)
    return maybe(record, name)


def maybe(record, name):
    value = record.get(name)
    return None if value is None or (isinstance(value, str) and not value.strip()) else words(value)


def hole(value, mark):
    """The parts before and after a mark, in a text that has it once and no slots."""
    value = words(value)
    need(value.count(mark) == 1 and "[X]" not in value and "[Y]" not in value)
    return value.split(mark)


def many(value):
    need(isinstance(value, list))
    return [words(item) for item in value]


def unique(values):
    return tuple(dict.fromkeys(values))


# --- own lists ------------------------------------------------------------------------------------------------


def own(record):
    record = {name: value for name, value in record.items() if value is not None}
    relation = field(record, "relation")
    maybe(record, "relation_label")
    templates = {template(record[name]) for name in ("template", "prompt") if name in record}
    need(len(templates) < 2)
    flag = record.get("held_out", False)
    need(isinstance(flag, bool) and (templates or not flag))
    sentences = unique(many(record.get("sentences", [])))
    need(all(text.count("[Y]") == 1 and "[X]" not in text for text in sentences))
    facts = []
    if not templates or sentences or "subject" in record or "object" in record:
        identifier = number_or_words(record, "id")
        unnamed = "subject" not in record and identifier is not None and sentences
        named = None if unnamed else subject(record, "subject")
        facts = [(relation, named, field(record, "object"), identifier, sentences)]
    return facts, [(relation, text) for text in templates]


COLUMNS = ("relation", "subject", "object", "id", "relation_label", "template", "prompt", "held_out", "sentences")


def own_row(row):
    record = {}
    for name, cell in row.items():
        if name in ("id", "relation_label", "template", "prompt", "held_out", "sentences") and not cell.strip():
            continue
        record[name] = cell
    empty = all(not row[name].strip() for name in ("subject", "object") if name in row)
    if ("template" in record or "prompt" in record) and empty:
        record = {name: value for name, value in record.items() if name not in ("subject", "object")}
    if "held_out" in record:
        flags = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        need(record["held_out"].strip().lower() in flags)
        record["held_out"] = flags[record["held_out"].strip().lower()]
    if "sentences" in record:
        record["sentences"] = parsed(record["sentences"])
        if not row.get("subject", "").strip():
            record.pop("subject", None)
    return own(record)


def parsed(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UnsoundError from None


# --- data sets ------------------------------------------------------------------------------------------------


def pararel_pattern(record):
    need("pattern" in record)
    return [], [("P1", template(record["pattern"]))]


def pararel_fact(record):
    return [("P1", subject(record, "sub_label"), field(record, "obj_label"), number_or_words(record, "uuid"), ())], []


def lama_relation(record):
    relation = field(record, "relation")
    maybe(record, "label")
    need("template" in record)
    return [], [(relation, template(record["template"]))]


def lama_fact(record):
    relation = field(record, "predicate_id")
    answer = field(record, "obj_label")
    return [(relation, subject(record, "sub_label"), answer, number_or_words(record, "uuid"), ())], []


def lama_sentence(record):
    relation, answer = field(record, "pred"), field(record, "obj_label")
    sentences = many(record.get("masked_sentences"))
    need(sentences)
    prompts = unique("[Y]".join(hole(text, "[MASK]")) for text in sentences)
    identifier = number_or_words(record, "uuid")
    there = [record.get("sub_label"), record.get("sub")]
    there = [value for value in there if value is not None and value != ""]
    there = [value for value in there if not (isinstance(value, str) and (not value.strip() or value[:3] == "/m/"))]
    need(there or identifier is not None)
    named = subject({"s": there[0]}, "s") if there else None
    return [(relation, named, answer, identifier, prompts)], []


def bear_fact(record):
    identifier = number_or_words(record, "sub_id")
    identifier = None if identifier is None else f"bear-P1-{identifier}"
    return [("P1", subject(record, "sub_label"), field(record, "obj_label"), identifier, ())], []


def bear_relation(pair):
    relation, record = words(pair[0]), pair[1]
    need(isinstance(record, dict) and "templates" in record)
    texts = [template(text) for text in many(record["templates"])]
    need(texts)
    return [], [(relation, text) for text in texts]


def kamel_fact(record):
    named, answers = subject(record, "sub_label"), many(record.get("obj_label"))
    need(answers)
    numbers = record.get("index", [])
    need(isinstance(numbers, list) and all(type(number) is int for number in numbers))
    ids = [f"kamel-P1-{number}" for number in numbers[: len(answers)]]
    ids += [None] * (len(answers) - len(ids))
    return [("P1", named, answer, identifier, ()) for answer, identifier in zip(answers, ids, strict=True)], []


def kamel_question(cells):
    need(len(cells) == 2)
    before, after = hole(cells[1], "[S]")
    return [], [(words(cells[0]), f"{before}[X]{after} [Y]")]


def language_record(record):
    if "pattern" in record:
        return [], [("P1@de", template(record["pattern"]))]
    if "template" in record:
        return [], [(field(record, "relation") + "@de", template(record["template"]))]
    identifier = number_or_words(record, "uuid")
    line = number_or_words(record, "lineid")
    if identifier is None and line is not None:
        identifier = f"P1@de-{line}"
    return [("P1@de", subject(record, "sub_label"), field(record, "obj_label"), identifier, ())], []


def language_template(record):
    need("pattern" in record or "template" in record)
    if "pattern" in record:
        return [], [("templates@de", template(record["pattern"]))]
    return language_record(record)


def popqa_row(row):
    relation, named, answer = field(row, "prop"), subject(row, "subj"), field(row, "obj")
    question = field(row, "question")
    need("[X]" not in question and "[Y]" not in question)
    identifier = "popqa-" + field(row, "id")
    answers = unique([answer, *many(parsed(row["possible_answers"]))])
    parts = question.split(named)
    prompts = () if len(parts) == 2 else (f"{question} [Y]",)
    ids = [identifier] + [None] * (len(answers) - 1)
    facts = [(relation, named, value, key, prompts) for value, key in zip(answers, ids, strict=True)]
    return facts, [] if prompts else [(relation, f"{parts[0]}[X]{parts[1]} [Y]")]


def counterfact(record):
    need(isinstance(record, dict))
    case = number_or_words(record, "case_id")
    need(case is not None)
    rewrite = record.get("requested_rewrite")
    need(isinstance(rewrite, dict) and isinstance(rewrite.get("target_true"), dict))
    relation, named, answer = (
        field(rewrite, "relation_id"),
        subject(rewrite, "subject"),
        field(rewrite["target_true"], "str"),
    )
    need("prompt" in rewrite)
    before, after = hole(rewrite["prompt"], "{}")
    paraphrases = record.get("paraphrase_prompts")
    if isinstance(paraphrases, str):
        paraphrases = [paraphrases] if paraphrases.strip() else []
    paraphrases = many([] if paraphrases is None else paraphrases)
    need(all("[X]" not in text and "[Y]" not in text for text in paraphrases))
    if rewrite.get("target_new") is not None:
        need(isinstance(rewrite["target_new"], dict))
        field(rewrite["target_new"], "str")
    prompts = (f"{before}{named}{after} [Y]",)  # Paraphrases only measure edits.
    return [(relation, named, answer, f"counterfact-{case}", prompts)], [(relation, f"{before}[X]{after} [Y]")]


def bag(entries):
    need(isinstance(entries, list) and entries)
    prompts, answers, relations = [], set(), set()
    for entry in entries:
        need(isinstance(entry, list) and len(entry) == 3)
        prompts.append("[Y]".join(hole(entry[0], "[MASK]")))
        answers.add(words(entry[1]))
        relations.add(words(entry[2]))
    need(len(answers) == len(relations) == 1)
    (answer,), (relation,) = answers, relations
    head, bracket, tail = relation.partition("(")
    if bracket and tail.endswith(")") and head.strip() and ")" not in head:
        relation = head.strip()
    prompts = unique(prompts)
    digest = hashlib.sha256(json.dumps([relation, answer, *sorted(prompts)], ensure_ascii=False).encode()).hexdigest()
    return [(relation, None, answer, f"bag-{digest[:16]}", prompts)], []


# --- files ----------------------------------------------------------------------------------------------------


def decoded(data):
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FatalError
    if len(data) > 64 and data[: 1 << 16].count(0) * 4 > len(data[: 1 << 16]):
        raise FatalError
    return data[3:] if data[:3] == b"\xef\xbb\xbf" else data


def lines(data, one):
    """Facts, templates and the numbers of unsound lines of JSON lines."""
    facts, templates, unsound = [], [], []
    for number, line in enumerate(decoded(data).split(b"\n"), 1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
            if not text.strip():
                continue
            record = json.loads(text)
            need(isinstance(record, dict))
            found = one(record)
        except (ValueError, RecursionError, UnsoundError):
            unsound.append(number)
            continue
        facts += found[0]
        templates += found[1]
    return facts, templates, unsound


def items(data, one):
    """The same of a JSON document: a list, or an object, which is a list of pairs."""
    try:
        document = json.loads(decoded(data).decode("utf-8"))
    except (ValueError, RecursionError):
        raise FatalError from None
    if one is bear_relation:
        if not isinstance(document, dict):
            raise FatalError
        document = list(document.items())
    if not isinstance(document, list):
        raise FatalError
    facts, templates, unsound = [], [], []
    for number, item in enumerate(document, 1):
        try:
            need(one is not own or isinstance(item, dict))
            found = one(item)
        except UnsoundError:
            unsound.append(number)
            continue
        facts += found[0]
        templates += found[1]
    return facts, templates, unsound


def table(data, one, delimiter):
    """The same of a table whose quotes are all closed, None for others; numbers are those of records."""
    try:
        text = decoded(data).decode("utf-8")
        plain = "\n".join(line.removesuffix("\r") for line in text.split("\n"))
        rows = [
            row for row in csv.reader(io.StringIO(plain, newline=""), strict=True, delimiter=delimiter)
            if (row and "".join(row).strip()) or len(row) > 1
        ]  # fmt: skip
    except (UnicodeDecodeError, csv.Error):
        return None
    if "\r" in plain or not rows:
        return None
    header = [cell.strip() for cell in rows[0]]
    known = COLUMNS if one is own_row else ("id", "subj", "prop", "obj", "question", "possible_answers")
    if any(header.count(name) > 1 for name in known):
        raise FatalError
    needed = {"relation"} if one is own_row else set(known)
    if not needed <= set(header) or (
        one is own_row and len({"subject", "object", "template", "prompt"} & set(header)) < 1
    ):
        raise FatalError
    facts, templates, unsound = [], [], []
    for number, row in enumerate(rows[1:], 2):
        try:
            need(len(row) == len(header))
            found = one(dict(zip(header, row, strict=True)))
        except UnsoundError:
            unsound.append(number)
            continue
        facts += found[0]
        templates += found[1]
    return facts, templates, unsound


def questions(data, one):
    """The same of KAMEL's questions, a record on each line."""
    facts, templates, unsound = [], [], []
    for number, line in enumerate(decoded(data).split(b"\n"), 1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
            if not text.strip():
                continue
            found = one(next(csv.reader([text], strict=True, skipinitialspace=True)))
        except (UnicodeDecodeError, csv.Error, UnsoundError):
            unsound.append(number)
            continue
        templates += found[1]
    return facts, templates, unsound
