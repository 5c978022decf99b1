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
