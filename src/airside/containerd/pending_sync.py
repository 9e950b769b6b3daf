"""Records which of our snapshots a power cut may have damaged (ADR 0021).

An image is named as soon as it is unpacked, and the snapshotter's file system is synced after that.
Before a layer is unpacked, its chain ID is recorded durably with the boot ID. In a later boot such
a snapshot is *suspect*: it may be half written, though containerd lists it as committed. A snapshot
leaves the record when it is synced or deleted.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from airside.oci.digest import Digest


class Record(Protocol):
    """The storage of the record: chain ID → boot ID, durable when `save` returns."""

    def load(self) -> dict[str, str]: ...
    def save(self, chains: Mapping[str, str]) -> None: ...


class MemoryRecord:
    """A record that lasts as long as the process."""

    def __init__(self) -> None:
        self.chains: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        return dict(self.chains)

    def save(self, chains: Mapping[str, str]) -> None:
        self.chains = dict(chains)


class PendingSync:
    """The chain IDs that were or are being unpacked and not synced. Thread-safe.

    Threads that save at the same time share one transaction. Raises what the record raises.
    """

    def __init__(self, record: Record, boot_id: str) -> None:
        self._record, self._boot_id = record, boot_id
        self._chains = record.load()
        self._changes = self._saved = 0
        self._lock, self._saving = threading.Lock(), threading.Lock()

    def expect(self, chains: Iterable[Digest]) -> None:
        """Records, durably, what is about to be unpacked. A suspect snapshot stays suspect."""
        with self._lock:
            fresh = {str(chain): self._boot_id for chain in chains}
            if not fresh.keys() <= self._chains.keys():
                self._chains = fresh | self._chains
                self._changes += 1
        self._save()  # also what another thread has noted and not saved yet, or failed to save

    def forget(self, chains: Iterable[Digest]) -> None:
        """Deletes snapshots from the record: they are synced or deleted."""
        gone = {str(chain) for chain in chains}
        with self._lock:
            if gone & self._chains.keys():
                self._chains = {c: boot for c, boot in self._chains.items() if c not in gone}
                self._changes += 1
        self._save()

    def has_any(self, chains: Iterable[Digest]) -> bool:
        """Returns True if one of these is recorded: it may be lost in a power cut."""
        with self._lock:
            return any(str(chain) in self._chains for chain in chains)

    def suspects(self) -> list[Digest]:
        """Returns the snapshots of another boot."""
        with self._lock:
            return [_digest(c) for c, boot in self._chains.items() if boot != self._boot_id]

    def is_suspect(self, chain: Digest) -> bool:
        with self._lock:
            return self._chains.get(str(chain), self._boot_id) != self._boot_id

    def left(self) -> list[Digest]:
        """Returns the snapshots of this boot."""
        with self._lock:
            return [_digest(c) for c, boot in self._chains.items() if boot == self._boot_id]

    def _save(self) -> None:
        with self._lock:
            mine = self._changes
        with self._saving:
            if self._saved >= mine:
                return
            with self._lock:
                now, chains = self._changes, self._chains
            self._record.save(chains)
            self._saved = now


def _digest(text: str) -> Digest:
    return Digest(*text.split(":", 1))
