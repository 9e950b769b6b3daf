"""What the frozen program runs: the same as `python -m airside`."""

import os
import sys

# PyInstaller's bootloader set these for this process, which has read them already. Programs of the
# host that Airside runs must not load our libraries, and another airside is no part of this one.
for name in [name for name in os.environ if name.startswith("_PYI_")]:
    del os.environ[name]
if "LD_LIBRARY_PATH_ORIG" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH_ORIG")
else:
    os.environ.pop("LD_LIBRARY_PATH", None)

from airside.__main__ import main

sys.exit(main())
