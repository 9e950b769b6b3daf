"""The `airside` command as a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import BinaryIO

from support import warm
from support.host import without_settings
from support.waiting import LIMIT_SECONDS

Done = subprocess.CompletedProcess[str]


def airside(*words: object, before: Sequence[str] = (), **environ: str) -> Done:
    """Run it until its end; gives its exit code and outputs.

    `before`: a command that runs it, such as `["setpriv", …]`. `environ`: more of the environment,
    which has no settings of its own.
    """
    arguments = list(map(str, words))
    if before:
        return subprocess.run(
            [*before, sys.executable, "-m", "airside", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            env=without_settings() | environ,
        )
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = warm.start(
            "airside",
            arguments,
            environ=without_settings() | environ,
            output=output.fileno(),
            errors=errors.fileno(),
        )
        try:
            code = process.wait(LIMIT_SECONDS)
        finally:
            process.kill()
        return Done(arguments, code, _text(output), _text(errors))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()
