"""promtool of Debian's prometheus: unpacked beside the host, nothing is installed."""

import subprocess
from pathlib import Path

from support import debian
from support.waiting import LIMIT_SECONDS

SUITE = "bookworm"


def promtool(*words: object, given: bytes | None = None) -> str:
    """What it prints; it must end well. Raises UnreachableError."""
    program = debian.unpacked(SUITE, "prometheus") / "usr/bin/promtool"
    done = subprocess.run(
        [str(program), *map(str, words)],
        input=given,
        capture_output=True,
        check=False,
        timeout=LIMIT_SECONDS,
        cwd=Path("/"),
    )
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text[-3000:]
    return text
