"""The stack on one machine, `python -m local`. This file adds the package to the path, as a layer does in Lambda."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "sms_retry" / "python"))
