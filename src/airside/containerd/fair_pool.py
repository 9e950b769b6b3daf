"""Threads that several owners share fairly: each owner's calls run in order, owners take turns."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from airside.core.priority import NORMAL, Priority


class FairPool:
    """Thread-safe. An owner is any name, such as a lease."""

    def __init__(self, threads: int, name: str, priority: Priority = NORMAL) -> None:
        self._pool = ThreadPoolExecutor(threads, name, priority.apply)
        self._calls: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        """The calls that wait, by their owner; the owner whose turn is next comes first."""
        self._lock = threading.Lock()

    def submit(self, owner: str, call: Callable[[], None]) -> None:
        """Queues a call, which raises nothing. Raises RuntimeError if the pool was shut down."""
        with self._lock:
            self._pool.submit(self._run_next)
            self._calls.setdefault(owner, deque()).append(call)

    def _run_next(self) -> None:
        with self._lock:
            if not self._calls:  # dropped
                return
            owner, calls = self._calls.popitem(last=False)
            call = calls.popleft()
            if calls:
                self._calls[owner] = calls
        call()

    def drop(self, owner: str) -> int:
        """Drops the calls of an owner that wait. Returns how many."""
        with self._lock:
            return len(self._calls.pop(owner, ()))

    def shutdown(self, *, wait: bool) -> None:
        """Takes no more calls; those that wait still run."""
        self._pool.shutdown(wait=wait)
