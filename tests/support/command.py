"""The `airside` command as a process of its own."""

import subprocess
import sys
from collections.abc import Sequence

from support import warm
from support.host import without_settings
from support.waiting import LIMIT_SECONDS

Done = subprocess.CompletedProcess[str]


def airside(*words: object, before: Sequence[str] = (), **environ: str) -> Done:
    """Run it until its end; gives its exit code and outputs.

    `before`: a command that runs it, such as `["setpriv", …]`. `environ`: more of the environment,
    which has no settings of its own.
    """
    found = without_settings() | environ
    if not before:
        return warm.run("airside", words, environ=found)
    return subprocess.run(
        [*before, sys.executable, "-m", "airside", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env=found,
    )
