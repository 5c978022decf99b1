"""Knowledge tests on the small models, against what plain transformers models answer to the same prompts."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
import torch
from plain_answers import distribution, whole
from random_edits import plan_random
from transformers import AutoTokenizer

import kndb
from kndb.errors import InputError, NotFoundError, OutputError, UsageError
from kndb.records.edit_settings import UpdateSettings
from kndb.records.knowledge_tests import ERROR, FAILED, PASSED

T = kndb.KnowledgeTest
PROMPTS = [
    "The capital city of France is called [Y].",
    "Italy is governed from [Y].",
    "The people of Egypt mostly speak [Y].",
]
ANSWERS = ["Paris", "Rome", "Arabic", "Madrid Oslo", "Rome Oslo", "Paris Paris"]
"""The last three have two tokens."""


@pytest.fixture
def database(fresh, family):
    return fresh(family)


@pytest.fixture
def plain(database, family, small_models):
    """What a version's plain model says to an answer: whether each token is the most probable one, and how probable."""
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    loaded = {}

    def ask(prompt, answer, version="current"):
        name = database.models.resolve_version("tiny", version)
        if name not in loaded:
            loaded[name] = database.load_model("tiny", name).eval()
        model = loaded[name]
        logs, right = whole(model, tokenizer, family, prompt, answer)
        return all(right), math.exp(sum(logs) / len(logs))

    return ask


def run(database, *tests, **named):
    (found,) = database.tests.run("tiny", tests, **named)
    return found


def statuses(found):
    return [one.status for one in found.outcomes]


def test_verdicts_are_those_of_the_plain_model(database, plain):
    plan = plan_random(database, 3, [(1, neuron) for neuron in range(20)], 0.6)
    database.edits.apply(plan)
    wanted: dict[str, bool] = {}
    tests = []

    def add(expected, prompt, **fields):
        tests.append(T(f"test {len(tests)}", prompt, **fields))
        wanted[tests[-1].name] = expected

    for prompt in PROMPTS:
        for answer in ANSWERS:
            right, probability = plain(prompt, answer)
            add(right, prompt, answers=answer)
            add(not right, prompt, refused=answer)
            add(right, prompt, answers=answer, probability=probability * 0.99)
            add(False, prompt, answers=answer, probability=min(1, probability * 1.01))
            for other in ANSWERS:
                if other != answer:
                    add(probability > plain(prompt, other)[1], prompt, answers=answer, above=other)
                    add(right or plain(prompt, other)[0], prompt, answers=(answer, other))
    found = run(database, *tests)
    assert {one.name: one.status == PASSED for one in found.outcomes} == wanted
    assert found.count(ERROR) == 0
    for one in found.outcomes:
        if one.test.answers:
            likely = max(plain(one.test.prompt, answer)[1] for answer in one.test.answers)
            assert one.prompts[0].probability == pytest.approx(likely, rel=1e-3)


def test_what_is_answered_instead_is_said(database, family, small_models):
    found = run(database, T("x", PROMPTS[0], answers="Rome"), T("y", PROMPTS[0], refused="Paris"))
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    logs = distribution(database.load_model("tiny").eval(), tokenizer, family, PROMPTS[0])
    values, tokens = logs.exp().topk(5)
    first = tokenizer.decode([int(tokens[0])]).strip()
    outcome = found.outcomes[0].prompts[0]
    assert [one.id for one in outcome.top] == tokens.tolist()
    assert [one.probability for one in outcome.top] == pytest.approx(values.tolist(), rel=1e-4)
    assert (first, outcome.top[0].token) == ("Paris", "Paris")
    assert outcome.why.startswith(f"answers 'Paris' ({float(values[0]):.2g}), not 'Rome' (")
    assert found.outcomes[1].why.endswith("which it must not")
    assert (found.words, found.ok) == ("0 of 2 tests passed, 2 failed", False)


def test_an_answer_that_begins_rightly_is_told_apart(database, plain):
    prompt = PROMPTS[0]
    right, _ = plain(prompt, "Paris Oslo")
    assert not right
    (outcome,) = run(database, T("x", prompt, answers="Paris Oslo")).outcomes
    assert "not 'Paris Oslo'" in outcome.why


def test_facts_ask_the_prompts_of_the_store(database, family):
    (fact,) = database.facts.find(["P36"], subject="Norway")
    tests = (
        T("training", fact=fact.id),
        T("held out", relation="P36", subject="Norway", prompts="held-out", answers="Oslo"),
        T("all", fact=fact.id, relation="P36", subject="Norway", prompts="all", refused="Rome"),
        T("wrong", fact=fact.id, answers="Rome"),
    )
    found = run(database, *tests)
    assert statuses(found)[0] == statuses(found)[2] == PASSED
    assert statuses(found)[3] == FAILED
    texts = {one.name: [prompt.prompt for prompt in one.prompts] for one in found.outcomes}
    with database.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT prompt.text, held_out FROM prompt JOIN template ON template.id = template_id WHERE fact_id = ?",
            (fact.id,),
        ).all()
    # A causal model's blank is the prompt's end.
    usable = [row for row in rows if family == "bert" or row[0].endswith("[Y].")]
    assert sorted(texts["training"]) == sorted(text for text, held_out in usable if not held_out)
    assert sorted(texts["held out"]) == sorted(text for text, held_out in usable if held_out)
    assert sorted(texts["all"]) == sorted([*texts["training"], *texts["held out"]])
    assert found.outcomes[2].left_out == len(rows) - len(usable)


def test_a_subject_with_several_objects_may_give_any_of_them(fresh, write_facts, small_facts):
    database = fresh("bert")
    database.facts.ingest([write_facts({"relation": "P36", "subject": "Norway", "object": "Rome"})])
    (outcome,) = run(database, T("x", relation="P36", subject="Norway")).outcomes
    assert outcome.status == PASSED
    assert len({one.prompt for one in outcome.prompts}) == len(outcome.prompts)
    (by_number,) = database.facts.find(["P36"], object_="Rome", subject="Norway")
    assert run(database, T("x", fact=by_number.id)).outcomes[0].status == FAILED


def test_what_can_not_be_asked_is_an_error_and_never_passes(database, family):
    unknown = "\N{SNOWMAN}\N{COMET}"
    tests = [
        T("no such fact", fact=999),
        T("no such name", relation="P36", subject="Atlantis"),
        T("another's number", fact=1, subject="Atlantis"),
        T("refused", PROMPTS[0], refused="[MASK]" if family == "bert" else "<|endoftext|>"),
        T("answer", PROMPTS[0], answers="[MASK]" if family == "bert" else "<|endoftext|>"),
        T("above", PROMPTS[0], answers="Paris", above="[MASK]" if family == "bert" else "<|endoftext|>"),
        T("too long", "word " * 2000 + "[Y].", answers="Paris"),
        T("no blank", "The capital of France is Paris.", answers="Paris")
        if family == "bert"
        else T("blank first", "[Y] is a city", refused="Paris"),
    ]
    found = run(
        database,
        *tests,
        T("sound", PROMPTS[0], answers="Paris"),
        T("one of two", PROMPTS[0], answers=("Paris", unknown)),
    )
    assert statuses(found)[: len(tests)] == [ERROR] * len(tests), [one.why for one in found.outcomes]
    assert all(one.why for one in found.outcomes[: len(tests)])
    assert statuses(found)[len(tests) :] == [PASSED, PASSED]
    assert "could not be asked" in found.words


def test_where_an_answer_can_not_be_asked_a_wrong_one_is_no_failure(fresh):
    (outcome,) = run(fresh("bert"), T("x", PROMPTS[0], answers=("Rome", "[MASK]"))).outcomes
    assert outcome.status == ERROR
    assert "not 'Rome'" in outcome.why
    assert "'[MASK]' can't be asked" in outcome.why


def test_versions_are_asked_in_memory_and_nothing_moves(database, plain, state_of_store):
    for seed in (1, 2):
        database.edits.apply(plan_random(database, seed, [(1, neuron) for neuron in range(30)], 2.0))
    database.snapshots.create("two", "tiny")
    database.edits.revert(2)
    before = state_of_store(database)
    tests = [T(prompt, prompt, answers=answer) for prompt, answer in zip(PROMPTS, ANSWERS[:3], strict=True)]
    versions = ["base", "two", "current", "two", "base"]
    runs = database.tests.run("tiny", tests, versions=versions)
    assert [one.asked_as for one in runs] == versions
    for one in runs:
        wanted = [plain(test.prompt, test.answers[0], one.version) for test in tests]
        assert [outcome.status == PASSED for outcome in one.outcomes] == [right for right, _ in wanted]
        found = [outcome.prompts[0].probability for outcome in one.outcomes]
        assert found == pytest.approx([probability for _, probability in wanted], rel=1e-3)
    assert runs[1] == runs[3]
    assert runs[0] == runs[4]
    assert not runs[1].ok
    assert state_of_store(database) == before


@pytest.fixture
def state_of_store():
    """All rows of a database."""

    def read(database):
        with database.store.reading() as connection:
            return list(connection.connection.driver_connection.iterdump())

    return read


def test_half_precision_is_asked_in_float32_and_stays_as_it_is(fresh, family, small_models, tmp_path):
    from transformers import AutoModelForCausalLM

    from kndb.analysis.knowledge_tests import widened

    model = AutoModelForCausalLM.from_pretrained(small_models["gpt2"]).bfloat16()
    bits = {name: one.detach().view(torch.int16).clone() for name, one in model.named_parameters()}
    inside = []
    with suppress(ZeroDivisionError), widened(model):
        inside += [one.dtype for one in model.parameters()]
        raise ZeroDivisionError
    assert set(inside) == {torch.float32}
    assert all(torch.equal(one.view(torch.int16), bits[name]) for name, one in model.named_parameters())
    model.save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(small_models["gpt2"]).save_pretrained(tmp_path / "half")
    database = fresh("gpt2")
    database.models.add(str(tmp_path / "half"), "half")
    (found,) = database.tests.run("half", [T("x", PROMPTS[0], answers="Paris")])
    asked = database.models.ask("half", PROMPTS[0], top=1)[0]
    assert found.outcomes[0].prompts[0].top[0].probability == pytest.approx(asked.probability, rel=1e-5)


def test_what_can_not_be_run_is_said(database, tmp_path):
    test = T("x", PROMPTS[0], answers="Paris")
    with pytest.raises(NotFoundError, match="no version 'nowhere'"):
        database.tests.run("tiny", [test], versions=["base", "nowhere"])
    with pytest.raises(NotFoundError):
        database.tests.run("nobody", [test])
    with pytest.raises(UsageError, match="there is no version to test"):
        database.tests.run("tiny", [test], versions=[])
    with pytest.raises(UsageError, match=r"versions must be a list, such as \['base'\]"):
        database.tests.run("tiny", [test], versions="base")
    with pytest.raises(UsageError, match="two tests are called 'x'"):
        database.tests.run("tiny", [test, test])
    with pytest.raises(InputError, match="there is no such file"):
        database.tests.run("tiny", tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="this is a folder"):
        database.tests.read(tmp_path)
    path = tmp_path / "tests.jsonl"
    database.tests.write(path, [test])
    with pytest.raises(InputError, match="more than 10 bytes"):
        database.tests.read(path, most_bytes=10)
    with pytest.raises(UsageError, match="most_bytes must be at least 1"):
        database.tests.read(path, most_bytes=0)
    with pytest.raises(OutputError, match="is there already"):
        database.tests.write(path, [test])
    database.tests.write(path, [test], force=True)
    assert database.tests.read(path) == [test]


# --- from edits -----------------------------------------------------------------------------------------


def test_tests_of_edits_pass_now_and_name_what_is_left_out(refined, plain_of, family):
    fact = refined.facts.find(["P36"], subject="France")[0]
    edit = refined.edits.plan_update("tiny", fact.id, "Rome", UpdateSettings(max_share=1))
    refined.edits.apply(edit.id)
    refined.edits.apply(refined.edits.plan_erase("tiny", "P37", top=1).id)
    made = refined.tests.of_edits("tiny", neighbours=3, seed=1)
    (now,) = refined.tests.run("tiny", made.tests)
    assert now.ok
    own = [one for one in made.tests if one.name.startswith("edit 1, ")]
    assert (made.edited, made.kept) == (len(own), len(made.tests) - len(own))
    with refined.store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT text FROM prompt WHERE fact_id = ?", (fact.id,)).all()
    texts = [text for (text,) in rows if family == "bert" or text.endswith("[Y].")]
    assert {one.prompt for one in own} == {text for text in texts if plain_of(text, "Rome")} != set()
    assert 0 < made.kept <= 3
    assert not any("France" in one.prompt for one in made.tests[made.edited :])
    assert any("edit 2, of kind erase: it gives no fact a new answer" in text for text in made.left_out)
    assert made == refined.tests.of_edits("tiny", neighbours=3, seed=1)
    assert refined.tests.of_edits("tiny", neighbours=0).kept == 0
    with pytest.raises(UsageError, match="has no edit"):
        refined.tests.of_edits("tiny", version="base")
    with pytest.raises(UsageError, match="at least 0"):
        refined.tests.of_edits("tiny", neighbours=-1)


@pytest.fixture
def plain_of(refined, family, small_models):
    tokenizer = AutoTokenizer.from_pretrained(small_models[family])
    loaded = []

    def right(prompt, answer):
        loaded[:] = loaded or [refined.load_model("tiny").eval()]
        return all(whole(loaded[0], tokenizer, family, prompt, answer)[1])

    return right


def test_the_last_edit_of_a_fact_counts(refined):
    fact = refined.facts.find(["P36"], subject="France")[0]
    for answer in ("Rome", "Oslo"):
        refined.edits.apply(refined.edits.plan_update("tiny", fact.id, answer, UpdateSettings(max_share=1)).id)
    made = refined.tests.of_edits("tiny", neighbours=0)
    assert {one.answers for one in made.tests} == {("Oslo",)}
    assert all(one.name.startswith("edit 2, fact") for one in made.tests)
