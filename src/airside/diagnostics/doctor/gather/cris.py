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
from airside.core.host_root import as_named, in_host, on_host
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
    config = parsed_config(verbose.get("config", ""))
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
        images=tuple((each.id, (*each.tags, *each.digests)) for each in client.images()),
    )
    return _with_hosts(found, config, numbers, files)


def _with_hosts(
    cri: Cri, config: Mapping[str, Any], numbers: tuple[int, ...], files: CriFiles
) -> Cri:
    hosts, warning = hosts_in_use(config, numbers, files)
    return replace(cri, hosts=hosts, hosts_warning=warning)


def hosts_in_use(
    config: Mapping[str, Any], numbers: tuple[int, ...], files: CriFiles
) -> tuple[tuple[Path, ...], str]:
    """Returns the directories of `hosts.toml` files, and why containerd reads none; () if unknown.

    `config`: as CRI reports it (1.6, 1.7).
    """
    reported = config.get("registry")
    registry = files.registry
    if isinstance(reported, dict):
        registry = replace(registry, config_path=str(reported.get("configPath") or ""))
    elif files.unread and not registry.config_path:
        return (), ""
    named = tuple(map(as_named, registry.directories()))
    usual = _CERTS if numbers >= _CERTS_SINCE else _CERTS[:1]
    hosts = named or tuple(map(on_host, usual))
    directory = str(in_host(hosts[0]))
    return hosts, advice(registry, str(in_host(Path(files.main))), directory, numbers)


def _discard(config: Mapping[str, Any], files: CriFiles) -> bool | None:
    """Off by default, if all files could be read."""
    section = config.get("containerd")
    found = section.get("discardUnpackedLayers") if isinstance(section, dict) else None
    if isinstance(found, bool):
        return found
    if files.discard is not None:
        return files.discard
    return None if files.unread else False


def parsed_config(text: str) -> Mapping[str, Any]:
    """Parses CRI's report of its configuration; empty if it has none."""
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}
