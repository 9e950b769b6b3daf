"""Runs checks with a time limit, each in its own thread. A check's error affects no other check.

A check that does not end (a dead network file system) stays behind in a daemon thread, which ends
with the process.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from airside.core.errors import AirsideError
from airside.diagnostics.doctor.facts import Unseen

LOOK_SECONDS = 3.0
"""The time limit of a check of the host."""
ANSWER_SECONDS = 2.5
"""The time limit of one response of containerd. After a timeout, no more is requested."""
RUNTIME_SECONDS = 25.0
"""The time limit of all requests to one containerd."""

Found = TypeVar("Found")


class Look(Generic[Found]):
    """Runs a function in a thread from construction on. It must not wait for another Look."""

    def __init__(
        self, what: str, function: Callable[[], Found], *, seconds: float = LOOK_SECONDS
    ) -> None:
        self.what = what
        self._function = function
        self._found: Found | None = None
        self._reason = ""
        self._ends_at = time.monotonic() + seconds
        self._thread = threading.Thread(target=self._run, name=f"doctor: {what}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._function()
        except AirsideError as exc:
            self._reason = exc.message
        except OSError as exc:
            self._reason = f"{exc.filename or ''}: {exc.strerror or exc}".removeprefix(": ")
        except Exception as exc:  # noqa: BLE001 - a failed check must not end the others
            self._reason = f"{type(exc).__name__}: {exc}"

    def wait(self) -> Found | None:
        """Returns the result; None after an error or timeout, which `unseen` then has."""
        self._thread.join(max(0.0, self._ends_at - time.monotonic()))
        if self._thread.is_alive():
            self._reason = self._reason or "timed out"
            return None
        return self._found

    def settle(self, seconds: float = LOOK_SECONDS) -> None:
        """Waits until the function has ended and cleaned up, at most so many seconds."""
        self._thread.join(seconds)

    @property
    def unseen(self) -> tuple[Unseen, ...]:
        """The failed check and its error, after `wait`; empty if it succeeded."""
        return (Unseen(self.what, self._reason),) if self._reason else ()
