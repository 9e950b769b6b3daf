"""Python runs this first in each process that a test starts: `support.host` watches there too."""

import sys
from pathlib import Path

_tests = str(Path(__file__).resolve().parents[2])
sys.path.append(_tests)
try:
    from support.host import watch_this_process

    watch_this_process()
finally:
    sys.path.remove(_tests)
