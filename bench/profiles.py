"""Where an import's time goes: processes, functions of the agent, and the stages it waited for.

One import for each kind of archive, with the agent under `profiled.py`; what that costs is in the
figures. `user` and `system` are processor seconds; workers are the agent's child processes.
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import file_system
from importing import ARCHIVES, SECONDS, Importing, is_recorded, until_named
from peers import wait_until
from processors import Used, family, used_by

PROGRAM = (sys.executable, str(Path(__file__).with_name("profiled.py")))
_FUNCTIONS = 8
_STAGES = re.compile(r"[\w-]+ after \d+ ms: .*\w")


@dataclass(frozen=True)
class Profile:
    """One import. `processes`: user and system seconds; `functions`: seconds of the agent."""

    name: str
    processes: dict[str, Used]
    functions: dict[str, float]
    stages: list[str]

    def as_json(self) -> dict[str, Any]:
        used = {name: [each.user, each.system] for name, each in self.processes.items()}
        return {
            "name": self.name,
            "processes": used,
            "functions": self.functions,
            "stages": self.stages,
        }


def profile(importing: Importing, name: str) -> Profile:
    """Import the archive of the measure `name` once."""
    archive, unpack = importing.images.archives[ARCHIVES[name]], not name.startswith("named")
    with importing.empty(archive) as (disk, containerd):
        out = disk / "profile.json"
        program = (*PROGRAM, str(out))
        with importing.connected(
            disk, containerd, unpack=unpack, program=program, log_level="debug", log_format="text"
        ) as node:
            agent = node.process.pid
            file_system.sync(disk)
            before = _by_role(agent, containerd.pid)
            (disk / "profile.json.begin").touch()
            wait_until(lambda: not (disk / "profile.json.begin").exists(), SECONDS)
            shutil.move(disk / "dropped" / archive.name, node.images / archive.name)
            until_named(containerd, importing.images.names)
            wait_until(
                lambda: is_recorded(node, importing.images.names, unpacked=unpack), SECONDS, 0.1
            )
            after = _by_role(agent, containerd.pid)
            written = out.stat().st_ino
            wait_until(lambda: out.stat().st_ino != written, SECONDS)
            functions = json.loads(out.read_text())
        log = (disk / "agent" / "log").read_text()
    processes = {role: used - before.get(role, Used()) for role, used in after.items()}
    most = dict(list(functions.items())[:_FUNCTIONS])
    return Profile(name, processes, most, stages_in(log))


def stages_in(log: str) -> list[str]:
    """Returns the stages of the import and of the last publish that a debug log tells."""
    found = [match.group() for match in _STAGES.finditer(log)]
    published = [line for line in found if line.startswith("published")]
    return [line for line in found if line not in published][:1] + published[-1:]


def _by_role(agent: int, containerd: int) -> dict[str, Used]:
    """Returns the processor time of the agent alone, its children and containerd's family."""
    workers = family([agent]) - {agent}
    return {
        "agent": used_by([agent]) - used_by(workers),
        "workers": used_by(workers),
        "containerd": used_by([containerd]),
    }
