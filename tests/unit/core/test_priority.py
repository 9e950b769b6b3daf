"""Priorities of threads, which what they start inherits."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from airside.core.priority import BY_NAME, LEAST, LOW, NORMAL, Priority

_SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31}
LOWERED = [LOW, LEAST]


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def io_priority() -> int:
    libc = ctypes.CDLL(None)
    number = _SYS_IOPRIO_GET[platform.machine()]
    return int(libc.syscall(number, 1, threading.get_native_id()))


Result = TypeVar("Result")


def inside(priority: Priority, call: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1, initializer=priority.apply) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("priority", LOWERED)
def test_only_the_thread_is_lowered(priority: Priority) -> None:
    before = niceness(), io_priority()
    assert inside(priority, niceness) == max(priority.nice, before[0])
    assert inside(priority, io_priority) == priority.io
    assert (niceness(), io_priority()) == before


def test_threads_and_processes_that_it_starts_are_lowered_too() -> None:
    def of_thread() -> tuple[int, int]:
        found: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: found.append((niceness(), io_priority())))
        thread.start()
        thread.join()
        return found[0]

    def of_process() -> int:
        program = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        return int(done.stdout)

    assert inside(LEAST, of_thread) == (LEAST.nice, LEAST.io)
    assert inside(LEAST, of_process) == LEAST.nice


def test_a_priority_is_never_raised() -> None:
    def twice() -> tuple[int, int]:
        LOW.apply()
        return niceness(), io_priority()

    assert inside(LEAST, twice) == (LEAST.nice, LEAST.io)


def test_the_normal_priority_changes_nothing() -> None:
    before = niceness(), io_priority()
    assert inside(NORMAL, lambda: (niceness(), io_priority())) == before


def test_a_thread_that_has_ended_is_ignored() -> None:
    LOW.apply(2**22 + 1)


def test_the_choices_are_those_of_the_setting() -> None:
    assert set(BY_NAME) == {"normal", "low", "idle"}
