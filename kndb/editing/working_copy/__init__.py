"""Working copies: a version of a checkpoint in a folder, switched to another by the changed bytes alone."""
