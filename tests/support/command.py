"""The `airside` command as a process of its own. Each output of `--json` must fit its schema."""

import json
import subprocess
from collections.abc import Mapping, Sequence

from support import warm
from support.host import without_settings
from support.program import PROGRAM, command
from support.schemas import check_output, name_of
from support.waiting import LIMIT_SECONDS

Done = subprocess.CompletedProcess[str]


def airside(*words: object, before: Sequence[str] = (), **environ: str) -> Done:
    """Run it until its end; gives its exit code and outputs.

    `before`: a command that runs it, such as `["setpriv", …]`. `environ`: more of the environment,
    which has no settings of its own.
    """
    done = _run(words, before, without_settings() | environ)
    name = name_of(words) if done.stdout.startswith("{") else None
    if name is not None:
        check_output(name, json.loads(done.stdout))
    return done


def _run(words: Sequence[object], before: Sequence[str], environ: Mapping[str, str]) -> Done:
    if not before and not PROGRAM:
        return warm.run("airside", words, environ=environ)
    return subprocess.run(
        [*before, *command(), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env=environ,
    )
