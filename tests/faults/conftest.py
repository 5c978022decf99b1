"""Makes the works importable, which a program that is started by itself imports, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
