"""Measures how long a function keeps all other threads of Python from running."""

import contextlib
import threading
import time
from collections.abc import Callable


def longest_hold(work: Callable[[], object]) -> float:
    """Run `work` in a thread. Returns the longest time without a switch to another thread.

    In seconds of a processor, so that other programs on the machine do not count: this thread looks
    at the clock of the other one as often as it may run.
    """
    begin, done = threading.Event(), threading.Event()

    def run() -> None:
        begin.wait()
        try:
            work()
        finally:
            done.set()

    thread = threading.Thread(target=run, name="holds")
    thread.start()
    assert thread.ident is not None
    clock, longest = time.pthread_getcpuclockid(thread.ident), 0.0
    last = time.clock_gettime(clock)
    begin.set()
    with contextlib.suppress(OSError):  # the thread has ended
        while not done.is_set():
            time.sleep(0)
            now = time.clock_gettime(clock)
            longest, last = max(longest, now - last), now
    thread.join()
    return longest
