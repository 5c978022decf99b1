"""Use cases of attribution and refinement: `commands.py` has the namespace, the other modules what its methods do."""
