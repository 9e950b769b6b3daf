"""The processes that write layers: as many as are needed at once, kept for some idle seconds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airside.containerd.layer_writer.worker_connection import WorkerConnection
from airside.containerd.layer_writer.worker_process import WorkerProcess

IDLE_SECONDS = 10.0


class WorkerPool:
    """Thread-safe. Close it: no worker is kept any more.

    The callers bound how many there are: each uses one at a time.
    """

    def __init__(
        self,
        idle_seconds: float = IDLE_SECONDS,
        start: Callable[[], WorkerConnection] = WorkerProcess,
    ) -> None:
        self._idle_seconds, self._start = idle_seconds, start
        self._idle: list[WorkerConnection] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    @contextmanager
    def worker(self) -> Iterator[WorkerConnection]:
        """Lends a worker. It ends after an exception in the context. Raises OSError."""
        taken = self._taken()
        try:
            yield taken
        except BaseException:
            taken.end()
            raise
        self._give_back(taken)

    def _taken(self) -> WorkerConnection:
        while True:
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                return self._start()
            if found.is_usable:
                return found
            found.end()

    def _give_back(self, worker: WorkerConnection) -> None:
        with self._lock:
            is_kept = not self._closed and worker.is_usable
            if is_kept:
                self._idle.append(worker)
                self._await_idleness()
        if not is_kept:
            worker.end()

    def _await_idleness(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(self._idle_seconds, self.end_idle)
        self._timer.name, self._timer.daemon = "idle-workers", True
        self._timer.start()

    def end_idle(self) -> None:
        """Ends the workers that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def close(self) -> None:
        """Ends the idle workers; the others end when they are given back."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        self.end_idle()
