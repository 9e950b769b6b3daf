"""Finds the sockets on which containerd listens, by the setting `runtime`."""

import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from airside.core.host_root import on_host

_SOCKETS = {
    "k3s": "/run/k3s/containerd/containerd.sock",  # and RKE2's
    "k0s": "/run/k0s/containerd.sock",
    "microk8s": "/var/snap/microk8s/common/run/containerd.sock",
    "containerd": "/run/containerd/containerd.sock",
}


def known_sockets() -> dict[str, str]:
    """Returns the usual socket of each container runtime on this host, by the runtime's name."""
    return {name: str(on_host(path)) for name, path in _SOCKETS.items()}


def find_sockets(settings: Iterable[str]) -> list[str]:
    """Returns the sockets of the setting `runtime`; `auto` means the usual ones that exist now."""
    found: list[str] = []
    for text in settings:
        if text == "auto":
            found += [path for path in known_sockets().values() if is_socket(path)]
        elif text != "none":
            found.append(text.removeprefix("unix://"))
    return list(dict.fromkeys(found))


def is_socket(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    return False
