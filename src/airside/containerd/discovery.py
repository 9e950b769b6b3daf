"""Discovers what a containerd is: version, content directory, policy, snapshotter."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.containerd.services.introspection import Plugin
from airside.core.errors import AirsideError

CONTENT = ("io.containerd.content.v1", "content")
METADATA = ("io.containerd.metadata.v1", "bolt")
SNAPSHOTTER = "io.containerd.snapshotter.v1"
CRI_PLUGINS = (("io.containerd.grpc.v1", "cri"), ("io.containerd.cri.v1", "images"))
DEFAULT_SNAPSHOTTER = "overlayfs"
LOCAL_SNAPSHOTTERS = frozenset(
    {"overlayfs", "native", "erofs", "btrfs", "zfs", "devmapper", "blockfile"}
)
"""Snapshotters that unpack layers on this machine; others fetch layers when they are read."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one containerd. Paths are those of *its* mount namespace."""

    version: str
    server_id: str
    content_root: str
    policy: str
    """`shared`: a namespace may use what another holds; else `isolated`."""
    has_cri: bool
    snapshotter: str
    snapshotter_root: str
    sandbox: str = ""
    """The sandbox (pause) image, if CRI says it (1.6, 1.7)."""

    @property
    def knows_pins(self) -> bool:
        """True if CRI's garbage collection respects pins (1.6.22, 1.7.3 and later)."""
        found = parse_version(self.version)
        return found >= (1, 7, 3) or (1, 6, 22) <= found < (1, 7)


def parse_version(text: str) -> tuple[int, ...]:
    """Parses a version: `1.7.24~ds1` is (1, 7, 24)."""
    numbers = []
    for part in text.partition("~")[0].partition("-")[0].split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def discover(client: Client, *, snapshotter: str = "", seconds: float = 10.0) -> Facts:
    """Returns the facts of a containerd. `snapshotter` overrides CRI's choice.

    Raises ContainerdError.
    """
    version = client.version(seconds=seconds)
    plugins = {(p.type, p.id): p for p in client.introspection.plugins()}
    has_cri = any(key in plugins and not plugins[key].error for key in CRI_PLUGINS)
    config = _cri_config(Cri(client.channel)) if has_cri else {}
    name = snapshotter or (_of_cri(Cri(client.channel), config, plugins) if has_cri else "")
    name = name or DEFAULT_SNAPSHOTTER
    sandbox = config.get("sandboxImage")
    return Facts(
        version=version,
        server_id=client.introspection.server_id(),
        content_root=_export(plugins.get(CONTENT), "root"),
        policy=_export(plugins.get(METADATA), "policy") or "shared",
        has_cri=has_cri,
        snapshotter=name,
        snapshotter_root=_export(plugins.get((SNAPSHOTTER, name)), "root"),
        sandbox=sandbox if isinstance(sandbox, str) else "",
    )


def _export(plugin: Plugin | None, key: str) -> str:
    return plugin.exports.get(key, "") if plugin is not None else ""


def _cri_config(cri: Cri) -> Mapping[str, Any]:
    """Returns CRI's configuration, as far as this version reports it."""
    with suppress(AirsideError, ValueError, KeyError):
        config = json.loads(cri.status()[1]["config"])
        if isinstance(config, dict):
            return config
    return {}


def _of_cri(cri: Cri, config: Mapping[str, Any], plugins: dict[tuple[str, str], Plugin]) -> str:
    """Returns CRI's snapshotter, by its configuration (1.6, 1.7) or directory (2.x); else ""."""
    with suppress(TypeError, KeyError):
        name = config["containerd"]["snapshotter"]
        if isinstance(name, str) and name:
            return name
    with suppress(AirsideError):
        roots = {_export(p, "root"): p.id for p in plugins.values() if p.type == SNAPSHOTTER}
        for mount_point, _ in cri.file_systems():
            for name in (roots.get(mount_point), mount_point.rpartition(".")[2]):
                if name and (SNAPSHOTTER, name) in plugins:
                    return name
    return ""
