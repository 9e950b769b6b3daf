"""A process of this host, named so that another process can tell whether it still runs."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_START_FIELD = 19
"""Of /proc/PID/stat, counted after the name: the start in ticks since the boot (proc(5))."""


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """Boot, PID namespace, PID and start of a process. Unknown parts are empty or 0."""

    boot: str = ""
    namespace: int = 0
    pid: int = 0
    started: int = 0

    def __str__(self) -> str:
        return f"{self.boot or '-'} {self.namespace} {self.pid} {self.started}"

    @classmethod
    def own(cls, boot: str) -> Self:
        pid = os.getpid()
        namespace = 0
        with suppress(OSError):
            namespace = (_PROC / "self/ns/pid").stat().st_ino
        return cls(boot, namespace, pid, _started(pid))

    def runs(self, observer: Self) -> bool | None:
        """Returns whether the process runs, None if the observer cannot tell.

        Another boot means that it ended. In the same PID namespace its number and start tell.
        """
        if self.boot and observer.boot and self.boot != observer.boot:
            return False
        if not self.namespace or self.namespace != observer.namespace or not self.started:
            return None
        return _started(self.pid) == self.started


def parse_process(text: str) -> AgentProcess:
    """Parses the text of an `AgentProcess`; one of nothing if it is none."""
    with suppress(ValueError):
        boot, namespace, pid, started = text.split()
        return AgentProcess("" if boot == "-" else boot, int(namespace), int(pid), int(started))
    return AgentProcess()


def _started(pid: int) -> int:
    """Returns when a process of our PID namespace started, 0 if there is none."""
    with suppress(OSError, ValueError, IndexError):
        text = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        return int(text.rpartition(")")[2].split()[_START_FIELD])
    return 0
