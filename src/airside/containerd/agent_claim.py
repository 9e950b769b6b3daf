"""The claim of one agent on one namespace of a containerd: only one agent publishes to it.

Two signs say who has the claim (ADR 0037):

- a lock (flock(2)) on containerd's content directory, where it is visible and the namespace is
  kubelet's. The kernel ends the lock with the process, whatever the clock, the boot or the
  container.
- a lease with the agent's identity, data directory and process. The lease says whom to tell about,
  and decides where the lock cannot be seen: an agent whose process is known to have ended, or that
  has not renewed its lease for `SILENT_SECONDS` of our own monotonic clock, is dead.

What always holds: the same identity is the same data directory, which only one process opens
(`airside.store.data_lock`), so its lease is ours or a predecessor's. Left to others: what an agent
without the claim does.
"""

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from airside.containerd.agent_process import AgentProcess, parse_process
from airside.containerd.services.leases import LeaseRecord, Leases
from airside.core.errors import AirsideError, ConflictError
from airside.ports.content import OtherAgent
from airside.ports.publication import AGENT_LABEL

log = logging.getLogger("airside.containerd")

PREFIX = "airside-agent-"
"""The beginning of the IDs of these leases."""
RENEW_SECONDS = 240.0
"""The time after which the lease is replaced: containerd's leases cannot be changed."""
SILENT_SECONDS = 1800.0
"""The time after which a lease that was not renewed is that of a dead agent. An agent makes a pass
every ten minutes, and renews in between after each image; one may take minutes to publish."""
_EXPIRE_SECONDS = 86400.0
"""containerd deletes the lease after this, if nobody else does. No decision depends on it."""
_RELEASE_SECONDS = 1.0
"""The longest wait for the deletion of our lease: a stop must not hang with containerd."""
_DATA_LABEL, _PROCESS_LABEL = "io.airside.data", "io.airside.process"
_LOCKED_LABEL = "io.airside.locked"
_LONGEST_PATH = 1000
_TAKEN = {errno.EAGAIN, errno.EACCES}


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: identity, data directory and process."""

    identity: str
    data: str
    process: AgentProcess


class AgentClaim:
    """Claims one namespace for one agent. Used by one thread, except `keep` and `release`."""

    def __init__(
        self,
        leases: Leases,
        directory: Path | None,
        claimant: Claimant,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._directory, self._claimant = leases, directory, claimant
        self._monotonic = monotonic
        self._session = f"{PREFIX}{uuid.uuid4().hex[:12]}-"
        self._lease, self._renewed_at, self._count = "", 0.0, 0
        self._lock: int | None = None
        self._renewing = threading.Lock()
        self._seen: dict[str, float] = {}
        """Leases of others that may be alive, and when each was first seen."""

    def take(self) -> OtherAgent | None:
        """Takes or renews the claim. Returns the agent that has it, None if we do.

        Raises ContainerdError.
        """
        free = self._try_lock()
        records = self._list()
        others = [r for r in records if not r.id.startswith(self._session)]
        living = self._living(others) if free else others
        if not free or living:
            self._step_back()
            return _shown(living)
        is_there = any(record.id == self._lease for record in records)
        if not self._renew(is_there=is_there) or self._lock is not None:
            return None
        # without a lock two may have looked at the same time: the first by ID has it
        rivals = self._living(r for r in self._list() if r.id < self._lease)
        if rivals:
            self._step_back()
        return _shown(rivals) if rivals else None

    def keep(self) -> None:
        """Renews the lease, if we have the claim, in the midst of a long pass. Thread-safe.

        Raises ContainerdError.
        """
        if not self._is_old() or not self._renewing.acquire(blocking=False):
            return
        try:
            if self._is_old():
                self._renew(is_there=True)
        finally:
            self._renewing.release()

    def release(self) -> None:
        """Gives the claim back, if we have it. Never raises."""
        with contextlib.suppress(AirsideError):
            self._step_back()
        self._unlock()

    def _living(self, records: Iterable[LeaseRecord]) -> list[LeaseRecord]:
        """Returns the leases whose agents may live; deletes the others."""
        found = []
        for record in records:
            if record.id == self._lease:
                continue
            if self._is_dead(record):
                log.info("the claim of an agent that ended is deleted: %s", record.id)
                self._leases.delete(record.id)
            else:
                found.append(record)
        self._seen = {r.id: self._seen[r.id] for r in found if r.id in self._seen}
        return found

    def _is_dead(self, record: LeaseRecord) -> bool:
        if record.labels.get(AGENT_LABEL) == self._claimant.identity:
            return True  # our data directory, which we have locked
        if self._lock is not None and record.labels.get(_LOCKED_LABEL):
            return True  # its lock would keep ours away
        runs = parse_process(record.labels.get(_PROCESS_LABEL, "")).runs(self._claimant.process)
        if runs is not None:
            return not runs
        now = self._monotonic()
        return now - self._seen.setdefault(record.id, now) > SILENT_SECONDS

    # the lease

    def _list(self) -> list[LeaseRecord]:
        return sorted(
            (r for r in self._leases.records() if r.id.startswith(PREFIX)), key=lambda r: r.id
        )

    def _is_old(self) -> bool:
        """Returns True if we have a lease and it is time for another."""
        return bool(self._lease) and self._monotonic() - self._renewed_at >= RENEW_SECONDS

    def _renew(self, *, is_there: bool) -> bool:
        """Replaces our lease where it is old or was deleted. Returns True if it is new."""
        now, before = self._monotonic(), self._lease
        if is_there and now - self._renewed_at < RENEW_SECONDS:
            return False
        self._count += 1
        lease = f"{self._session}{self._count}"
        with contextlib.suppress(ConflictError):
            self._leases.create(lease, seconds=_EXPIRE_SECONDS, labels=self._labels())
        self._lease, self._renewed_at = lease, now
        if is_there:
            self._leases.delete(before)
        return not before

    def _labels(self) -> dict[str, str]:
        found = {
            AGENT_LABEL: self._claimant.identity,
            _DATA_LABEL: self._claimant.data[:_LONGEST_PATH],
            _PROCESS_LABEL: str(self._claimant.process),
        }
        return found | ({_LOCKED_LABEL: "true"} if self._lock is not None else {})

    def _step_back(self) -> None:
        self._unlock()
        if self._lease:
            lease, self._lease = self._lease, ""
            self._leases.delete(lease, seconds=_RELEASE_SECONDS)

    # the lock

    def _try_lock(self) -> bool:
        """Locks the directory. Returns False if another process has locked it.

        Without a directory, or on a file system without locks, only the leases count.
        """
        if self._directory is None:
            return True
        try:
            if self._lock is not None:
                if os.path.samestat(os.fstat(self._lock), self._directory.stat()):
                    return True
                self._unlock()  # containerd was wiped: the directory is another one
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            return exc.errno not in _TAKEN
        self._lock = descriptor
        return True

    def _unlock(self) -> None:
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)


def _shown(records: list[LeaseRecord]) -> OtherAgent:
    """Returns whom to tell about; nothing is known if only the lock was seen."""
    if not records:
        return OtherAgent()
    labels = records[-1].labels
    process = parse_process(labels.get(_PROCESS_LABEL, ""))
    return OtherAgent(labels.get(AGENT_LABEL, ""), labels.get(_DATA_LABEL, ""), process.pid)
