"""What `airside watch` shows, as it changes: the agent's status and its events.

Two threads ask the control socket. One follows the events; each of them asks for the status, which
else is asked for each second while work is under way, and rarely while nothing happens. An agent
that goes away is waited for. Nothing here writes to a terminal.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from airside.cli.client import ControlClient, NoAgentError, NotPermittedError
from airside.core.errors import AirsideError

_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 15.0
_AWAY_SECONDS = 1.0
_LEAST_SECONDS = 0.5
"""Between two requests for the status, however many events there are."""
_ANSWER_SECONDS = 2.5
_KEPT_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known now. `status` is the last one, also while the agent is `away`: why it is."""

    status: dict[str, Any] | None = None
    away: str = ""
    events: tuple[dict[str, Any], ...] = ()
    rates: dict[str, float] = field(default_factory=dict)
    """Bytes a second of each running import, by path, since the status before."""
    silent: bool = False
    """True if the agent is away because it does not answer."""


class Feed:
    """Asks the agent of one data directory. `changed` is called from its threads. Thread-safe."""

    def __init__(self, data: Path, changed: Callable[[], None]) -> None:
        self._client, self._changed = ControlClient(data), changed
        self._lock = threading.Lock()
        self._moment = Moment()
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT_EVENTS)
        self._last = 0
        self._fatal: AirsideError | None = None
        self._wanted = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}

    def start(self) -> None:
        """Begins to ask. The threads end with the process: one may wait for the agent."""
        for work in (self._follow, self._poll):
            threading.Thread(target=work, name=f"watch-{work.__name__}", daemon=True).start()

    def moment(self) -> Moment:
        """Returns what is known now. Raises what no waiting can mend: NotPermittedError."""
        with self._lock:
            if self._fatal is not None:
                raise self._fatal
            return self._moment

    def _follow(self) -> None:
        while self._fatal is None:
            try:
                self._follow_once()
            except NotPermittedError as exc:
                self._fatal = exc
                self._changed()
            except (AirsideError, LookupError, TypeError):
                self._wanted.set()
            time.sleep(_AWAY_SECONDS)

    def _follow_once(self) -> None:
        """Follows the events until the agent goes away."""
        items = self._client.get("/v1/events", {"limit": 50}, timeout_seconds=_ANSWER_SECONDS)
        found = items["items"]
        if found and found[-1]["id"] < self._last:  # another catalog: its numbers begin again
            with self._lock:
                self._last = 0
                self._events.clear()
        self._add([item for item in found if item["id"] > self._last])
        query = {"follow": 1, "after": self._last}
        for item in self._client.iter_lines("GET", "/v1/events", query):
            if item["id"] > self._last:
                self._add([item])

    def _add(self, items: list[dict[str, Any]]) -> None:
        if not items:
            return
        with self._lock:
            self._last = items[-1]["id"]
            self._events.extend(items)
            moment = self._moment
            self._moment = replace(moment, events=tuple(self._events))
        self._wanted.set()
        self._changed()

    def _poll(self) -> None:
        while self._fatal is None:
            self._wanted.clear()
            try:
                status = self._client.get("/v1/status", timeout_seconds=_ANSWER_SECONDS)
                away, pause, silent = "", _pause(status), False
            except NotPermittedError as exc:
                self._fatal = exc
                self._changed()
                return
            except AirsideError as exc:
                status, away, pause = None, exc.message, _AWAY_SECONDS
                silent = not isinstance(exc, NoAgentError)
            self._set(status, away, silent=silent)
            time.sleep(_LEAST_SECONDS)
            self._wanted.wait(pause)

    def _set(self, status: dict[str, Any] | None, away: str, *, silent: bool) -> None:
        with self._lock:
            moment = self._moment
            rates = self._rates(status) if status is not None else {}
            known = status or moment.status
            self._moment = Moment(known, away, tuple(self._events), rates, silent)
        self._changed()

    def _rates(self, status: dict[str, Any]) -> dict[str, float]:
        """Returns the rate of each import since the last status; its average at first."""
        now, before = time.monotonic(), self._seen
        self._seen, found = {}, {}
        for each in status["imports"]:
            path, done = each["path"], each["done_bytes"]
            self._seen[path] = (done, now)
            earlier, at = before.get(path, (done, now))
            moved = done - earlier
            average = each["rate_bytes_per_second"]
            found[path] = moved / (now - at) if moved > 0 and now > at else float(average)
        return found


def _pause(status: dict[str, Any]) -> float:
    """Returns for how long nothing needs to be asked, if there are no events."""
    return _IDLE_SECONDS if status["activity"]["idle"] else _BUSY_SECONDS
