"""Edits of many facts at once: keys, targets and what each published method makes of them."""
