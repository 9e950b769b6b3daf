"""What the frozen program runs: the same as `python -m airside`."""

import os
import sys

# PyInstaller's bootloader set it, for itself: programs of the host that Airside runs must not load
# our libraries. This process has read it already.
if "LD_LIBRARY_PATH_ORIG" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH_ORIG")
else:
    os.environ.pop("LD_LIBRARY_PATH", None)

from airside.__main__ import main

sys.exit(main())
