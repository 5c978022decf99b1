"""What a transformers model says at the blank of a prompt, past all of kndb."""

import torch


def distribution(model, tokenizer, family, text):
    """Log-probabilities over the vocabulary at the blank, in double precision.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        family: `bert`, whose blank is the mask, or `gpt2`, which is asked what comes next.
        text: a prompt with `[Y]`.
    """
    if family == "bert":
        ids = tokenizer(text.replace("[Y]", tokenizer.mask_token), return_tensors="pt").input_ids
        position = ids[0].tolist().index(tokenizer.mask_token_id)
    else:
        ids = tokenizer(text[: text.index("[Y]")].rstrip(), return_tensors="pt").input_ids
        position = ids.shape[1] - 1
    with torch.no_grad():
        return model(input_ids=ids).logits[0, position].double().log_softmax(-1)


def whole(model, tokenizer, family, text, answer):
    """Log-probability of each token of an answer at the blank of a prompt, and whether it is the most probable one."""
    before, _, after = text.partition("[Y]")
    if family == "bert":
        wanted = tokenizer(answer, add_special_tokens=False).input_ids
        masks = " ".join([tokenizer.mask_token] * len(wanted))
        ids = tokenizer(f"{before}{masks}{after}").input_ids
        first = ids.index(tokenizer.mask_token_id)
        places = range(first, first + len(wanted))
    else:
        start = tokenizer(before.rstrip()).input_ids
        ids = tokenizer(before + answer).input_ids
        wanted = ids[len(start) :]
        places = range(len(start) - 1, len(ids) - 1)
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    logs = [float(rows[place, token]) for place, token in zip(places, wanted, strict=True)]
    return logs, [int(rows[place].argmax()) == token for place, token in zip(places, wanted, strict=True)]
