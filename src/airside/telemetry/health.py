"""Health: is the agent alive, and is it ready? Async; pure but for the clock.

`/healthz` is what a supervisor kills the agent for, so it fails only where a restart helps: worker
threads that do not come back although the disk answers. `/readyz` fails also for what the agent
waits for: its disk, its first look at the directories, a container runtime. A runtime may be away
for `AWAY_SECONDS`, so that a restart of containerd makes no node unready (ADR 0042).

Reasons have numbers and names of checks only, since everybody may read them.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

AWAY_SECONDS = 30.0
STUCK_SECONDS = 60.0
_WAIT_SECONDS = 1.0

Check = Callable[[], Awaitable[str]]
"""Returns why a check fails; "" if it passes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `reason`: empty if it passes."""

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The results of all checks."""

    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        return not any(finding.reason for finding in self.findings)

    def to_text(self, *, verbose: bool) -> str:
        """Returns words: `ok`, or what fails; with `verbose` every check."""
        if self.is_good and not verbose:
            return "ok\n"
        lines = [
            f"[-] {finding.name}: {finding.reason}" if finding.reason else f"[+] {finding.name}: ok"
            for finding in self.findings
            if finding.reason or verbose
        ]
        return "\n".join([*lines, "ready" if self.is_good else "not ready"]) + "\n"

    def to_json(self) -> str:
        checks = [
            {"name": finding.name, "ok": not finding.reason, "reason": finding.reason}
            for finding in self.findings
        ]
        return json.dumps({"schema": 1, "ok": self.is_good, "items": checks})


async def examine(checks: Sequence[tuple[str, Check]]) -> Health:
    """Runs the checks side by side."""
    reasons = await asyncio.gather(*(check() for _, check in checks))
    names = [name for name, _ in checks]
    return Health(tuple(Finding(*each) for each in zip(names, reasons, strict=True)))


class WorkerThreads:
    """Tests whether the threads of a pool come back. For one event loop.

    A probe job is given to the pool whenever somebody asks and none is under way. It is overdue
    after `STUCK_SECONDS`, which a disk that hangs explains: then a restart would not help.
    """

    def __init__(
        self,
        pool: Executor,
        disk_answers: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._disk_answers, self._clock = pool, disk_answers, clock
        self._probe: Future[None] | None = None
        self._sent_at = 0.0

    async def check(self) -> str:
        """Returns why the threads count as stuck; "" if they do not."""
        if self._probe is None or self._probe.done():
            try:
                self._probe, self._sent_at = self._pool.submit(_nothing), self._clock()
            except RuntimeError:  # closed: the agent stops
                return ""
        await asyncio.wait([asyncio.wrap_future(self._probe)], timeout=_WAIT_SECONDS)
        seconds = self._clock() - self._sent_at
        if self._probe.done() or seconds < STUCK_SECONDS or not await self._disk_answers():
            return ""
        return f"no worker thread came back for {seconds:.0f} s, though the disk answers"


def _nothing() -> None:
    pass


def runtimes_reason(away_seconds: Sequence[float | None]) -> str:
    """Returns why the container runtimes are not ready; "" if they are.

    `away_seconds`: for each, how long it is away; None: it is connected, `inf`: it never was. One
    that was connected may be away for `AWAY_SECONDS`.
    """
    late = [seconds for seconds in away_seconds if seconds is not None and seconds > AWAY_SECONDS]
    if not late:
        return ""
    longest = max(late)
    since = "since the start" if longest == math.inf else f"for {longest:.0f} s"
    return f"{len(late)} of {len(away_seconds)} container runtimes not connected {since}"
