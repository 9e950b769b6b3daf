"""Which `airside` tests start: this tree's modules or, with `AIRSIDE=PATH`, an installed program.

With a program, the command line and the agents of the tests are its; what tests do in their own
process stays this tree's.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = os.environ.get("AIRSIDE", "")
changed_within = pytest.mark.skipif(
    bool(PROGRAM), reason="changes airside's modules or environment, which a program does not see"
)


def command() -> list[str]:
    """Returns the words that start `airside`."""
    return [PROGRAM] if PROGRAM else [sys.executable, "-m", "airside"]


def run_main(*words: object) -> tuple[int, str, str]:
    """Run the program that AIRSIDE names with this process's environment: exit code, outputs."""
    done = subprocess.run(
        [PROGRAM, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
