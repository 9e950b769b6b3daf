"""Facts about the data directory and the watched directories. Blocking; changes nothing."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from airside.core.config import default_directories
from airside.core.host_root import on_host
from airside.core.settings import FORMAT
from airside.diagnostics.doctor.facts import Directory, Store
from airside.diagnostics.doctor.gather.volumes import label_of, may, nearest, sight_of, volume_of
from airside.store.data_lock import LOCK, lock_holder

_WRITE = os.W_OK | os.X_OK
_READ = os.R_OK | os.X_OK
_WRITE_OF_OTHERS = 0o022
_CHANGING = ("oci/blobs/sha256", "oci/blobs/sha512", "oci/index.json", "catalog.db")
_IMPORTERS = {
    Path("/var/lib/rancher/k3s/agent/images"): "K3s",
    Path("/var/lib/rancher/rke2/agent/images"): "RKE2",
    Path("/var/lib/k0s/images"): "k0s",
}


def look_at_store(data: Path) -> Store:
    """Returns the store's facts. `newest_at` is by its files; the catalog may have a later time."""
    sight = sight_of(data)
    if sight == "forbidden":
        return Store(data, exists=True, writable=False, reason="permission denied")
    exists = sight == "visible"
    return Store(
        data,
        exists=exists,
        writable=may(nearest(data), _WRITE) and nearest(data).is_dir(),
        mode=data.stat().st_mode if exists else 0,
        format=_format(data),
        newest_format=FORMAT,
        holder=lock_holder(data / LOCK) or lock_holder(data),
        volume=volume_of(data),
        newest_at=_newest(data),
        label=label_of(data / "oci/blobs"),
    )


def _format(data: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int((data / "format").read_text(encoding="ascii"))
    return None


def _newest(data: Path) -> float | None:
    """The last time a blob was added or deleted, which changes its directory."""
    times = []
    for name in _CHANGING:
        with suppress(OSError):
            times.append((data / name).stat().st_mtime)
    return max(times, default=None)


def look_at_directories(watched: Iterable[Path]) -> tuple[Directory, ...]:
    return tuple(map(_directory, watched))


def _directory(path: Path) -> Directory:
    sight = sight_of(path)
    if sight != "visible":
        return Directory(path, sight, is_default=path == default_directories()[0])
    found = path.stat()
    return Directory(
        path,
        sight,
        is_directory=path.is_dir(),
        readable=may(path, _READ),
        writable=may(path, _WRITE),
        volume=volume_of(path),
        importer=_importer(path),
        takes_from_others=found.st_uid != 0 or bool(found.st_mode & _WRITE_OF_OTHERS),
    )


def _importer(path: Path) -> str:
    """Returns the Kubernetes distribution that also imports from this directory, or ''."""
    found = Path(os.path.realpath(path))
    return next((name for place, name in _IMPORTERS.items() if on_host(place) == found), "")
