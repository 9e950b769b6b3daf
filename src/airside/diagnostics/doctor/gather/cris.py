"""CRI of a containerd: its configuration, and the sandbox image. Blocking."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from airside.containerd.channel import Channel
from airside.containerd.cri import Cri as CriClient
from airside.containerd.mirror.cri_config import advice
from airside.core.host_root import on_host
from airside.diagnostics.doctor.facts import Cri
from airside.diagnostics.doctor.gather.configs import CriFiles

Holds = Callable[[str], bool | None]
"""Returns True if Airside has the image of this name, None if unknown."""

_DEFAULT_SANDBOX: Mapping[tuple[int, ...], str] = {
    (2, 0): "registry.k8s.io/pause:3.10",
    (2, 1): "registry.k8s.io/pause:3.10",
}
"""Of versions whose CRI does not report it; that of 2.1 was read from its program."""
_CERTS = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
_CERTS_SINCE = (2, 2)
"""From this version on, containerd reads _CERTS by default."""
_PODS_READY = "RuntimeReady"


def look_at_cri(channel: Channel, numbers: tuple[int, ...], files: CriFiles, holds: Holds) -> Cri:
    """Returns CRI's facts; its report (1.6, 1.7) overrides the files. Raises ContainerdError."""
    client = CriClient(channel)
    conditions, verbose = client.status()
    config = _parsed(verbose.get("config", ""))
    sandbox = config.get("sandboxImage") or files.sandbox
    if not sandbox and not files.unread:
        sandbox = _DEFAULT_SANDBOX.get(numbers[:2], "")
    image = client.image(str(sandbox)) if sandbox else None
    found = Cri(
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
    return _with_hosts(found, config, numbers, files)


def _with_hosts(
    cri: Cri, config: Mapping[str, Any], numbers: tuple[int, ...], files: CriFiles
) -> Cri:
    registry = config.get("registry")
    path = registry.get("configPath") if isinstance(registry, dict) else files.registry.config_path
    if path:
        return replace(cri, hosts=tuple(Path(part) for part in str(path).split(":") if part))
    if numbers >= _CERTS_SINCE:
        return replace(cri, hosts=tuple(map(on_host, _CERTS)))
    if not isinstance(registry, dict) and files.unread:
        return cri
    certs = on_host(_CERTS[0])
    warning = advice(files.registry, files.main, str(certs))
    return replace(cri, hosts=(certs,), hosts_warning=warning)


def _discard(config: Mapping[str, Any], files: CriFiles) -> bool | None:
    """Off by default, if all files could be read."""
    section = config.get("containerd")
    found = section.get("discardUnpackedLayers") if isinstance(section, dict) else None
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
