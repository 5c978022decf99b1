"""Loading checkpoints, their fingerprints, and one adapter per architecture family."""
