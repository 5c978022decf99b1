"""A pretrained chat model, fed by hand and by its own chat template."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from page_examples import Page, blocks, steps
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.real, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"
BY_HAND = "<|im_start|>user\nWhat is the capital of [X]?<|im_end|>\n<|im_start|>assistant\n[Y]"
TEMPLATES = (BY_HAND, "What is the capital of [X]? [Y].", "What is the capital of [X]? It is the city of [Y].")


@pytest.fixture(scope="module")
def tokenizer(real_model):
    return AutoTokenizer.from_pretrained(real_model)


@pytest.fixture(scope="module")
def paris(real_model, tokenizer):
    """The probability that plain transformers gives an answer of one token after a text, and its tokens."""
    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32).eval()

    def probability(text, answer):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        (token,) = tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return float(model(torch.tensor([ids])).logits[0, -1].softmax(-1)[token]), ids, token

    return probability


@pytest.fixture(scope="module")
def stored(kndb_json, real_model, place):
    """The probabilities that attribution stored, by model and template."""
    rows = [{"relation": "C36", "template": text} for text in TEMPLATES]
    rows += [{"relation": "C36", "subject": "France", "object": "Paris"}]
    rows += [{"relation": "C36", "subject": "France<|im_end|>", "object": "Paris"}]
    (place / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    kndb_json("ingest", "chat.jsonl")
    kndb_json("model", "add", real_model, "--name", "plain")
    kndb_json("model", "add", real_model, "--name", "chat", "--chat")
    found = {}
    for name in ("plain", "chat"):
        report = kndb_json("attribute", "--model", name, "--method", "activation")
        assert report["skipped"] == 3
        sql = (
            "SELECT template.text AS template, prompt_result.probability FROM prompt_result JOIN prompt ON prompt.id = "
            f"prompt_id JOIN template ON template.id = template_id WHERE skipped IS NULL AND run_id = {report['run']}"
        )
        found[name] = {row["template"]: row["probability"] for row in kndb_json("query", "sql", sql)}
    return found


def test_a_blank_after_a_line_break(stored, paris, kndb_json):
    """The line break is fed, and the answer is the one token after it."""
    text = BY_HAND.replace("[X]", "France").replace("[Y]", "")
    probability, ids, token = paris(text, "Paris")
    assert probability == pytest.approx(0.0959, abs=0.001)
    assert stored["plain"][BY_HAND] == pytest.approx(probability, rel=1e-3)
    fed = kndb_json("model", "show", "plain", "--tokens", f"{text}[Y]", "--answer", "Paris")
    assert [row["id"] for row in fed] == [*ids, token]
    assert fed[-2]["text"] == "\n"
    assert fed[-2]["reads"] == 1
    asked = kndb_json("ask", "--model", "plain", f"{text}[Y]")
    (row,) = [row for row in asked if row["id"] == token]
    assert row["probability"] == pytest.approx(probability, rel=1e-3)


@pytest.mark.parametrize(
    ("template", "begun", "answer", "expected"),
    [(TEMPLATES[1], "", "Paris", 0.0165), (TEMPLATES[2], "It is the city of", " Paris", 0.9099)],
)
def test_a_registered_chat_model(stored, paris, kndb_json, tokenizer, template, begun, answer, expected):
    """What is fed is the conversation as transformers' own renderer writes it."""
    said = [{"role": "user", "content": "What is the capital of France?"}]
    written = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True) + begun
    probability, ids, token = paris(written, answer)
    assert probability == pytest.approx(expected, abs=0.001)
    assert stored["chat"][template] == pytest.approx(probability, rel=1e-3)
    text = template.replace("[X]", "France")
    fed = kndb_json("model", "show", "chat", "--tokens", text, "--answer", "Paris")
    assert [row["id"] for row in fed] == [*ids, token]
    asked = kndb_json("ask", "--model", "chat", text, "--top", 50)
    (row,) = [row for row in asked if row["id"] == token]
    assert row["probability"] == pytest.approx(probability, rel=1e-3)


def test_token_ids_of_ordinary_prompts(kndb_json, stored, tokenizer):
    """As they have always been: the text before the blank, its space left to the answer."""
    for text in (
        "The capital of France is [Y].",
        "Paris is the capital of [Y]",
        "The Eiffel Tower is located in [Y] .",
    ):
        fed = kndb_json("model", "show", "plain", "--tokens", text)
        assert [row["id"] for row in fed] == tokenizer(text.partition(" [Y]")[0])["input_ids"]


def test_the_pages_examples(real_model, tmp_path, monkeypatch):
    """Those of docs/prompts.md that need this model say what is printed."""
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KNDB_DB", "kndb.db")
    (tmp_path / "real-models").mkdir()
    (tmp_path / "real-models" / "SmolLM2-135M-Instruct").symlink_to(real_model)
    page, count = Page(PAGE.name), 0
    for block in blocks(text):
        if "file" in block.marks:
            Path(block.marks["file"]).write_text(block.text, encoding="utf-8")
        elif block.marks.get("example") == "real":
            for step in steps(block):
                page.step(step)
                count += 1
    assert count == 8
    shutil.rmtree(tmp_path / "real-models")
