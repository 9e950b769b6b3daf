"""Named fault points: places where a test makes the process die or an operation fail.

`fault("store.after_rename")` does nothing unless `AIRSIDE_FAULT` was set when the process started
(or a test called `arm`). The value is `POINT=ACTION[@N]`: ACTION is `kill` (SIGKILL to ourselves,
as a power cut would), `oserror` or `oserror:ENOSPC` (an `OSError` as the disk would give) or
`error` (a `StoreError`); N fires at the Nth pass instead of the first. It fires once.

Every point is listed in `POINTS`, those of pushes in `PUSHING`, those of publishing to a runtime in
`PUBLISHING`, of unpacking early in `EARLY`, of verifying and repairing in `SCRUBBING`, so that the
crash tests visit all of them.
"""

import errno
import os
import signal
import threading
from dataclasses import dataclass

from airside.core.errors import StoreError

POINTS = (
    "ingest.after_create",
    "ingest.after_write",
    "store.before_sync",
    "store.after_sync",
    "store.after_rename",
    "store.after_directory_sync",
    "store.before_delete",
    "store.index_written",
    "store.index_renamed",
    "catalog.before_settle",
    "catalog.after_settle",
    "catalog.in_import",
    "catalog.after_import",
    "catalog.in_remove",
    "catalog.after_remove",
    "import.before_commit",
    "import.after_commit",
    "import.after_index",
)
PUSHING = (
    "push.before_commit",
    "push.after_commit",
    "push.after_blob",
    "push.in_manifest",
    "push.after_manifest",
)
PUBLISHING = (
    "publish.after_lease",
    "publish.after_intent",
    "publish.after_link",
    "publish.after_adopt",
    "publish.after_send",
    "publish.after_content",
    "publish.after_unpack",
    "publish.after_name",
    "publish.after_names",
    "publish.after_withdraw",
    "unpack.after_prepare",
    "unpack.in_write",
    "unpack.after_apply",
    "unpack.after_label",
    "unpack.after_commit",
    "unpack.after_sync",
)
EARLY = (
    "early.after_lease",
    "early.after_record",
    "early.before_end",
    "early.after_end",
)
SCRUBBING = (
    "scrub.in_read",
    "scrub.after_mark",
    "scrub.after_quarantine",
    "repair.before_commit",
    "repair.after_commit",
    "repair.after_record",
    "repair.before_mend",
    "repair.before_replace",
    "repair.after_replace",
)


@dataclass
class _Armed:
    point: str
    action: str
    passes: int


_armed: _Armed | None = None
_lock = threading.Lock()


def arm(spec: str | None) -> None:
    """Arm one fault from its text; None disarms. Raises ValueError for an unknown one."""
    global _armed  # noqa: PLW0603 - one process, one fault
    if not spec:
        _armed = None
        return
    point, _, action = spec.partition("=")
    action, _, passes = action.partition("@")
    if point not in {*POINTS, *PUSHING, *PUBLISHING, *EARLY, *SCRUBBING} or action.partition(":")[
        0
    ] not in {
        "kill",
        "oserror",
        "error",
    }:
        raise ValueError(f"unknown fault {spec!r}")
    _armed = _Armed(point, action, int(passes or 1))


def fault(point: str) -> None:
    """Pass a fault point. Costs nothing when no fault is armed."""
    if _armed is not None:
        _fire(point)


def _fire(point: str) -> None:
    with _lock:
        armed = _armed
        if armed is None or armed.point != point:
            return
        armed.passes -= 1
        if armed.passes:
            return
        arm(None)
    kind, _, detail = armed.action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "oserror":
        number = getattr(errno, detail or "EIO")
        raise OSError(number, os.strerror(number), point)
    raise StoreError(f"injected fault at {point}")


arm(os.environ.get("AIRSIDE_FAULT"))
