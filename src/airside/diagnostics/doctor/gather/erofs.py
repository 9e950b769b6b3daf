"""Facts about the snapshotter `erofs` of one containerd, and of this machine. Blocking."""

from collections.abc import Iterable

from airside.containerd.discovery import SNAPSHOTTER
from airside.containerd.erofs.platform import EROFS, find_mkfs, kernel_numbers, why_no_index
from airside.containerd.services.introspection import Plugin
from airside.diagnostics.doctor.facts import Erofs

_DIFFER = "io.containerd.differ.v1"
_SINCE = (2, 1)
_ABSENT = "it has no such plugin, or it is in disabled_plugins"


def look_at_erofs(plugins: Iterable[Plugin], version: tuple[int, ...]) -> Erofs | None:
    """Returns what is needed for erofs and what lacks; None for a containerd without it."""
    if version < _SINCE:
        return None
    errors = {plugin.type: plugin.error for plugin in plugins if plugin.id == EROFS}
    mkfs = find_mkfs()
    return Erofs(
        snapshotter_error=errors.get(SNAPSHOTTER, _ABSENT),
        differ_error=errors.get(_DIFFER, _ABSENT),
        why_no_index=why_no_index(mkfs, kernel_numbers()),
        mkfs=f"{mkfs.path} {mkfs.version}" if mkfs is not None else "",
    )
