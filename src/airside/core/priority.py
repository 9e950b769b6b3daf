"""Priorities of threads for processor and disk. On Linux both are of a thread, not of a process.

A thread and a process inherit them from the thread that starts them. They are hints: weights, which
matter only while others want the same processor or disk. A failure is ignored.
"""

import ctypes
import os
import platform
import threading
from contextlib import suppress
from dataclasses import dataclass

_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
"""ioprio_get(2) has the next number."""
_WHO_PROCESS = 1
_CLASS_SHIFT = 13
_BEST_EFFORT_LOWEST = 2 << _CLASS_SHIFT | 7
_IDLE_CLASS = 3 << _CLASS_SHIFT
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Priority:
    """A nice value, and a priority of ioprio_set(2), 0 for none."""

    nice: int = 0
    io: int = 0

    def apply(self, thread: int = 0) -> None:
        """Gives a thread this priority, or the calling one; never a higher one than it has.

        `thread` is its number, or the process ID of a process with one thread.
        """
        thread = thread or threading.get_native_id()
        if self.nice:
            with suppress(OSError):
                nice = max(self.nice, os.getpriority(os.PRIO_PROCESS, thread))
                os.setpriority(os.PRIO_PROCESS, thread, nice)
        number = _SYS_IOPRIO_SET.get(platform.machine())
        if number is None or not self.io:
            return
        # a higher number is a lower priority, in a class and between classes; 0 is none
        if self.io > _libc.syscall(number + 1, _WHO_PROCESS, thread):
            _libc.syscall(number, _WHO_PROCESS, thread, self.io)


NORMAL = Priority()
LOW = Priority(5, _BEST_EFFORT_LOWEST)
"""Behind those that serve. A thread that is preempted while it holds the interpreter's lock holds
up the one that serves: a niceness of 5, a third of the weight, keeps that short (ADR 0049)."""
LEAST = Priority(19, _IDLE_CLASS)
"""Only where nobody else wants the processor or the disk."""
BY_NAME = {"normal": NORMAL, "low": LOW, "idle": LEAST}
"""The choices of the setting `import_priority`."""
