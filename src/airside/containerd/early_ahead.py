"""Decompresses layers of an archive while the layers below them are written (ADR 0047)."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from airside.containerd.verified_tars import VerifiedTar
from airside.oci.digest import Digest

Open = Callable[[], VerifiedTar]

_MOST = 4
"""Layers of one archive; it bounds the disk space of their tars."""


class EarlyAhead:
    """The layers of one archive, by chain ID. Thread-safe. Close it."""

    def __init__(self) -> None:
        self._tars: dict[Digest, Future[VerifiedTar]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def prepare(self, chain: Digest, opened: Open) -> Callable[[], None] | None:
        """Returns a call that opens a layer, for another thread; None if too many wait."""
        with self._lock:
            if self._is_closed or chain in self._tars or len(self._tars) >= _MOST:
                return None
            tar = self._tars[chain] = Future()
        return partial(_open, tar, opened)

    def take(self, chain: Digest, opened: Open) -> VerifiedTar:
        """Returns a layer that was opened ahead, or opens it now; the caller closes it.

        Waits for one that is being opened. Raises what opening raised.
        """
        with self._lock:
            tar = self._tars.pop(chain, None)
        return opened() if tar is None or tar.cancel() else tar.result()

    def drop(self, chain: Digest) -> None:
        """Closes what was opened for a chain and not taken."""
        with self._lock:
            tar = self._tars.pop(chain, None)
        if tar is not None and not tar.cancel():
            tar.add_done_callback(_close)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            chains = list(self._tars)
        for chain in chains:
            self.drop(chain)


def _open(tar: "Future[VerifiedTar]", opened: Open) -> None:
    if not tar.set_running_or_notify_cancel():
        return
    try:
        tar.set_result(opened())
    except BaseException as exc:  # noqa: BLE001 - raised in the thread that takes it
        tar.set_exception(exc)


def _close(tar: "Future[VerifiedTar]") -> None:
    if tar.exception() is None:
        tar.result().close()
