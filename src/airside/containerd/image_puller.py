"""Pulls images of lists through CRI, with kubelet's mirrors, credentials and snapshotter.

Implements `airside.ports.content.Puller`. CRI has no status for most answers of a registry, so the
error text is read, here only.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from airside.containerd.cri import PULL_SECONDS, Cri
from airside.containerd.snapshot_space import Watch
from airside.core.disk_space import DiskSpace
from airside.core.errors import AirsideError, ContainerdError, NotFoundError, PullRefusedError

_REFUSED_STATUS = {"NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT"}
_REFUSED = re.compile(
    r"not found|access denied|authorization failed|insufficient_scope|no basic auth credentials"
    r"|401 unauthorized|403 forbidden|no match for platform|manifest unknown|name unknown",
    re.IGNORECASE,
)
_NOT_REACHED = re.compile(
    r"dial tcp|no such host|connection re(?:fused|set)|i/o timeout|unreachable|deadline exceeded"
    r"|tls handshake|server misbehaving|50[0234] ",
    re.IGNORECASE,
)
_CALL_PREFIX = re.compile(r"\Acontainerd: \w+\.\w+: ")
_LONGEST = 1_000
_AVAILABLE_SECONDS = 3.0


class ImagePuller:
    """Pulls through one CRI. `runtime` is its socket and the identity that changes with a wipe.

    containerd writes to `paths`: a pull is cancelled before their `space` ends.
    """

    def __init__(
        self,
        cri: Cri,
        runtime: str,
        *,
        seconds: float = PULL_SECONDS,
        space: DiskSpace | None = None,
        paths: Sequence[Path] = (),
    ) -> None:
        self._cri, self._runtime, self._seconds = cri, runtime, seconds
        self._space, self._paths = space or DiskSpace(0), paths

    @property
    def runtime(self) -> str:
        return self._runtime

    @property
    def is_available(self) -> bool:
        try:
            self._cri.version(seconds=_AVAILABLE_SECONDS)
        except AirsideError:  # away, or without CRI
            return False
        return True

    def has(self, name: str, *, stop: Callable[[], bool]) -> bool:
        try:
            return self._cri.image(name, stop=stop) is not None
        except NotFoundError:
            return False

    def pull(self, name: str, *, stop: Callable[[], bool]) -> str:
        watch = Watch(self._space, self._paths, None, stop)
        try:
            return self._cri.pull(name, seconds=self._seconds, stop=watch)
        except AirsideError as exc:
            if watch.is_full:
                raise watch.error(f"the pull of {name}") from exc
            if "status" not in exc.context:  # stopped
                raise
            raise classified(exc.message, exc.context["status"]) from exc


def classified(message: str, status: str) -> ContainerdError:
    """Returns the error class of a failed pull: the registry refused, or could not be reached.

    If one mirror says "not found" and another cannot be reached, the image may be at the latter:
    that counts as not reached.
    """
    details = _CALL_PREFIX.sub("", message).strip()
    text = f"containerd: {details}"[:_LONGEST]
    reached = not _NOT_REACHED.search(details)
    if reached and (status in _REFUSED_STATUS or _REFUSED.search(details)):
        return PullRefusedError(text, status=status)
    return ContainerdError(text, status=status)
