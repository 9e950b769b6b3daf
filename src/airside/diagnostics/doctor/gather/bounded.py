"""Looking without being held up: each look has a thread and a time, and its errors are its own.

A look that does not end (a dead network file system) is left behind in a daemon thread, which ends
with the process.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from airside.core.errors import AirsideError
from airside.diagnostics.doctor.facts import Unseen

LOOK_SECONDS = 3.0
"""How long a look at the host may take."""
ANSWER_SECONDS = 2.5
"""How long a containerd may take for one answer; after one that does not come none is asked."""
RUNTIME_SECONDS = 25.0
"""All that is asked of one containerd."""

Found = TypeVar("Found")


class Look(Generic[Found]):
    """One function that runs from now on. It must not wait for another look."""

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
        except Exception as exc:  # noqa: BLE001 - one look that fails never ends the others
            self._reason = f"{type(exc).__name__}: {exc}"

    def wait(self) -> Found | None:
        """What was found; None if nothing was in time, then `unseen` has the reason."""
        self._thread.join(max(0.0, self._ends_at - time.monotonic()))
        if self._thread.is_alive():
            self._reason = self._reason or "it takes too long"
            return None
        return self._found

    def settle(self, seconds: float = LOOK_SECONDS) -> None:
        """Let it end, and tidy up, before the process does."""
        self._thread.join(seconds)

    @property
    def unseen(self) -> tuple[Unseen, ...]:
        """After `wait`: what could not be looked at, if so."""
        return (Unseen(self.what, self._reason),) if self._reason else ()
