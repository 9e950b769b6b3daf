"""CRI behind a containerd: its configuration, and the sandbox image. Blocking."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from airside.containerd.channel import Channel
from airside.containerd.cri import Cri as CriClient
from airside.doctor.facts import Cri
from airside.doctor.gather.configs import CriFiles

Holds = Callable[[str], bool | None]

_DEFAULT_SANDBOX: Mapping[tuple[int, ...], str] = {
    (2, 0): "registry.k8s.io/pause:3.10",
    (2, 1): "registry.k8s.io/pause:3.10",
}
"""Of versions whose CRI does not tell; that of 2.1 was read from its program."""
_PODS_READY = "RuntimeReady"


def look_at_cri(channel: Channel, numbers: tuple[int, ...], files: CriFiles, holds: Holds) -> Cri:
    """What CRI tells (1.6, 1.7) counts over the files. Raises ContainerdError."""
    client = CriClient(channel)
    conditions, verbose = client.status()
    config = _parsed(verbose.get("config", ""))
    sandbox = config.get("sandboxImage") or files.sandbox
    if not sandbox and not files.unread:
        sandbox = _DEFAULT_SANDBOX.get(numbers[:2], "")
    image = client.image(str(sandbox)) if sandbox else None
    return Cri(
        not_ready=", ".join(
            f"{kind} is false: {message or 'no reason given'}"
            for kind, holds_true, message in conditions
            if kind == _PODS_READY and not holds_true
        ),
        discard=_discard(config, files),
        sandbox=str(sandbox),
        sandbox_present=image is not None if sandbox else None,
        sandbox_pinned=image is not None and image.pinned,
        sandbox_held=holds(str(sandbox)) if sandbox and image is None else None,
        unread=files.unread,
    )


def _discard(config: Mapping[str, Any], files: CriFiles) -> bool | None:
    """Off by default, where all files could be read."""
    told = config.get("containerd")
    found = told.get("discardUnpackedLayers") if isinstance(told, dict) else None
    if isinstance(found, bool):
        return found
    if files.discard is not None:
        return files.discard
    return None if files.unread else False


def _parsed(text: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}
