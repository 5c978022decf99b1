"""Prompts wrapped in a checkpoint's chat template; and templates that are up to something."""

from __future__ import annotations

import json
import shutil

import pytest
from causal_tokenizers import BRACKETS, END, START, TURNS, byte_level, save_chat_checkpoint, with_byte_fallback

import kndb
from kndb.errors import FingerprintError, ModelError, UsageError
from kndb.models import chat_renderer
from kndb.models.adapter import Blank
from kndb.models.chat import ChatFrame, ChatTemplate, find_template, frame_of, require_template, turns
from kndb.models.prompting import EncodedPrompt, Encoder

SPECIAL = {"bos_token": START, "eos_token": END}


def template(tmp_path, text) -> ChatTemplate:
    return ChatTemplate(tmp_path / "chat_template.jinja", text)


@pytest.fixture
def frame(tmp_path):
    return lambda text: frame_of(template(tmp_path, text), SPECIAL)


# --- frames ----------------------------------------------------------------------------------------------------


def test_a_frame_is_what_the_template_writes_around_a_users_text(frame):
    assert frame(TURNS) == ChatFrame("<s>user\n", "<|im_end|>\n<s>assistant\n")


def test_a_space_before_the_assistants_words_is_the_templates(frame):
    """Some templates put one between what opens the turn and the words, and only where there are words."""
    assert frame(BRACKETS) == ChatFrame("<s>[INST] ", " [/INST] ")


@pytest.mark.parametrize("text", [TURNS, BRACKETS])
@pytest.mark.parametrize("question", ["What is the capital of France?", "The capital of France is"])
@pytest.mark.parametrize("make", [byte_level, with_byte_fallback])
def test_what_is_fed_is_the_conversation_as_transformers_writes_it(frame, text, question, make):
    tokenizer = make((START,), (END,))
    tokenizer.chat_template = text
    encoder = Encoder(tokenizer, Blank.CUT, 400, chat=frame(text))
    encoded = encoder.encode(0, f"{question} [Y].", "Paris")
    assert isinstance(encoded, EncodedPrompt)
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": "Paris"}]
    written = tokenizer.apply_chat_template(said, tokenize=False)
    whole = tokenizer(written, add_special_tokens=False)["input_ids"]
    fed = [*encoded.ids, *encoded.answers]
    assert whole[: len(fed)] == fed
    assert tokenizer.decode(encoded.answers).strip() == "Paris"


def test_the_assistants_beginning(frame):
    tokenizer = byte_level((START,))
    encoder = Encoder(tokenizer, Blank.CUT, 400, chat=frame(TURNS))
    encoded = encoder.encode(0, "What is the capital of France? It is [Y].", "Paris")
    written = "<s>user\nWhat is the capital of France?<|im_end|>\n<s>assistant\nIt is"
    assert list(encoded.ids) == tokenizer(written, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(encoded.answers) == " Paris"


@pytest.mark.parametrize(
    ("text", "user", "assistant"),
    [
        ("The capital of France is ", "The capital of France is", ""),
        ("What is the capital of France?", "What is the capital of France?", ""),
        ("What is the capital of France? ", "What is the capital of France?", ""),
        ("What is the capital?\nIt is ", "What is the capital?", "It is "),
        ('He asked "Where?" and she said ', 'He asked "Where?"', "and she said "),
        ("Where? When? In ", "Where? When?", "In "),
        ("法国的首都是哪里？是", "法国的首都是哪里？", "是"),
        ("ما عاصمة فرنسا؟ هي ", "ما عاصمة فرنسا؟", "هي "),
        ("see a?b=c in ", "see a?b=c in", ""),
        ("Is it?\n", "Is it?", ""),
    ],
)
def test_what_the_user_says_and_how_the_assistant_begins(text, user, assistant):
    assert turns(text) == (user, assistant)


def test_question_marks_in_a_name_ask_nothing():
    text = "The director of What's Up, Doc? is "
    span = (16, 31)
    assert text[slice(*span)] == "What's Up, Doc?"
    assert turns(text, span) == (text.strip(), "")
    assert turns(text)[1] == "is "
    asked = "Who made What's Up, Doc?? It was "
    assert turns(asked, (9, 24)) == ("Who made What's Up, Doc??", "It was ")


# --- where templates are -----------------------------------------------------------------------------------------


def test_where_a_template_is_found(checkpoint):
    folder = checkpoint("gpt2")
    with pytest.raises(ModelError, match=r"has no chat template \(neither chat_template\.jinja nor"):
        find_template(folder)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "chat_template": TURNS}))
    assert find_template(folder).text == TURNS
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": BRACKETS}]
    path.write_text(json.dumps({**values, "chat_template": named}))
    assert find_template(folder).text == BRACKETS
    # As transformers, which takes the file of its own before the entry.
    (folder / "chat_template.jinja").write_text(TURNS)
    assert find_template(folder).text == TURNS
    (folder / "chat_template.jinja").write_text("x" * 1_000_001)
    with pytest.raises(ModelError, match="can't be read: it is larger than"):
        find_template(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="can't be read"):
        find_template(folder)


@pytest.mark.parametrize("value", [3, {"other": "x"}, [], [3], " ", None])
def test_entries_that_are_no_template(checkpoint, value):
    folder = checkpoint("gpt2")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": value}))
    with pytest.raises(ModelError, match="has no chat template"):
        find_template(folder)


# --- templates of strangers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ raise_exception('only tools') }}", "can't wrap prompts: only tools; leave"),
        ("{{ messages[0].content ", "can't wrap prompts: unexpected end of template"),
        ("{{ 'a' * 10_000_000_000 }}", "asks for more than .* bytes of memory"),
        ("{% for i in range(99999) %}aaaaaaaa{% endfor %}", "writes more than 100,000 letters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "can't wrap prompts: "),
        ("{{ messages.append(1) }}", "can't wrap prompts: "),
        ("{% include '/etc/passwd' %}", "can't wrap prompts: "),
        ("{{ raise_exception('a\\nb') }}", "can't wrap prompts: a b; leave"),
        ("hello", "writes the user's message as it is 0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "writes the user's message as it is 2 times"),
        ("{{ raise_exception('x' * 100000) }}", r"can't wrap prompts: x{300}; leave"),
    ],
)
def test_templates_that_are_up_to_something(frame, text, message):
    with pytest.raises(ModelError, match=message):
        frame(text)


def test_a_template_without_end(frame, monkeypatch):
    """It is stopped by its own process's limit, or by ours."""
    monkeypatch.setattr("kndb.models.chat.WALL_SECONDS", 3)
    with pytest.raises(ModelError, match="it does not come to an end"):
        frame("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}")


def test_what_templates_expect_to_find(frame):
    made = frame(
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{% for i in [1, 2] %}{% break %}{% endfor %}"
        "{{ {'a': 'é'} | tojson }}{{ 'd' if strftime_now is defined else 'n' }}"
    )
    assert made == ChatFrame("", '{"a": "é"}n')
    assert chat_renderer.MOST_LETTERS == 100_000


def test_a_template_that_must_have_a_date_gets_the_same_one_on_every_day(frame):
    made = frame("Today is {{ strftime_now('%d %B %Y') }}. {{ messages[0].content }}:")
    assert made == ChatFrame("Today is 01 January 2025. ", ":")


# --- registered models -------------------------------------------------------------------------------------------


@pytest.fixture
def chatty(tmp_path):
    """A checkpoint with a chat template, to be spoiled."""
    return save_chat_checkpoint(tmp_path / "chatty")


def test_a_model_keeps_its_template(chatty, tmp_path):
    with kndb.open(tmp_path / "kndb.db") as database:
        plain = database.models.add(str(chatty), "plain")
        model = database.models.add(str(chatty), "chatty", chat=True)
        assert (plain.chat_template, model.chat_template) == (None, find_template(chatty).sha256)
        assert (model.source, model.fingerprint, model.version) == (plain.source, plain.fingerprint, plain.version)
        assert [one.name for one in database.models.all()] == ["plain", "chatty"]
        assert database.models.add(str(chatty), "chatty", chat=True) == model
        for name, chat, message in (
            ("plain", True, "stands for this checkpoint with prompts as they are"),
            ("chatty", False, "with prompts wrapped in its chat template; add chat=True"),
        ):
            with pytest.raises(ModelError, match=message):
                database.models.add(str(chatty), name, chat=chat)
        (chatty / "chat_template.jinja").write_text(BRACKETS)
        with pytest.raises(FingerprintError, match="has another chat template than the one that was registered"):
            database.models.tokens("chatty", "Is it? [Y]")
        with pytest.raises(ModelError, match="with another chat template"):
            database.models.add(str(chatty), "chatty", chat=True)
        (chatty / "chat_template.jinja").unlink()
        with pytest.raises(FingerprintError, match=r"no longer has the chat template .*: put it back, or register"):
            database.models.tokens("chatty", "Is it? [Y]")
        with pytest.raises(UsageError, match=r"x{100}'… has 2 blanks") as caught:
            database.models.tokens("plain", "x" * 10_000 + "[Y] [Y]")
        assert len(str(caught.value)) < 600


def test_the_fingerprint_does_not_know_the_template(chatty, tmp_path):
    """Stores that were made before templates counted keep their fingerprints."""
    other = tmp_path / "other"
    shutil.copytree(chatty, other)
    (other / "chat_template.jinja").unlink()
    from kndb.models.fingerprint import fingerprint

    assert fingerprint(chatty) == fingerprint(other)
    with pytest.raises(FingerprintError, match="no longer has the chat template"):
        require_template(other, "0" * 64)


def test_masked_models_are_not_wrapped(checkpoint, tmp_path):
    folder = checkpoint("bert")
    (folder / "chat_template.jinja").write_text(TURNS)
    with kndb.open(tmp_path / "kndb.db") as database:
        with pytest.raises(UsageError, match=r"chat=True wraps prompts for causal language models, and a bert model"):
            database.models.add(str(folder), chat=True)
        assert database.models.all() == []


@pytest.mark.parametrize("text", ["{{ raise_exception('no') }}", "hello"])
def test_a_template_that_can_not_be_used_is_refused_when_the_model_is_added(chatty, tmp_path, text):
    (chatty / "chat_template.jinja").write_text(text)
    with kndb.open(tmp_path / "kndb.db") as database:
        with pytest.raises(ModelError, match="can't wrap prompts"):
            database.models.add(str(chatty), chat=True)
        assert database.models.all() == []
