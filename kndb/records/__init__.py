"""Frozen records that cross layers, by noun; plain data, which every part may use."""
