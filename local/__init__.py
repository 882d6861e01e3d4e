"""The stack on one machine. In Lambda a layer puts the package on the path; here this does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "sms_retry" / "python"))
