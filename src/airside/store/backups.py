"""Copies of the records in `DATA/backup`: the last good `index.json`, and the catalog, each twice.

Of two copies the older one is replaced, by a temporary file and rename, so that one is whole at any
time. A copy is verified before it is used: `index.json` by its own checksum, the catalog by the
digest in the file beside it. Copies are written like blobs: not where `min_free_bytes` would be
passed. Blocking.
"""

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airside.catalog.catalog import Catalog
from airside.catalog.soundness import examine_catalog
from airside.core.disk_space import DiskSpace
from airside.store.filesystem import (
    PRIVATE_FILE,
    file_sha256,
    set_mode,
    sync_directory,
    sync_file,
    translated,
    write_durably,
)
from airside.store.index_seal import index_generation

log = logging.getLogger("airside.node")

_COPIES = ("a", "b")


@dataclass(frozen=True, slots=True)
class Copy:
    """A good copy of the records, and the generation of the catalog that it has."""

    generation: int
    is_catalog: bool
    path: Path

    def __str__(self) -> str:
        return f"backup/{self.path.name}"


class Backups:
    """The copies of one data directory. One thread at a time."""

    def __init__(self, data: Path, space: DiskSpace) -> None:
        self._data, self._space = data, space
        self._directory = data / "backup"

    def save_index(self, path: Path) -> bool:
        """Copies a good `index.json`, unless it has been. Returns True if so. Raises StoreError.

        A copy has the time of what it is a copy of: an unchanged file is not read.
        """
        with translated("cannot back up", path):
            status = _status(path)
            paths = [self._directory / f"index-{name}.json" for name in _COPIES]
            if status is None or any(_same(status, _status(each)) for each in paths):
                return False
            raw = path.read_bytes()
            if index_generation(raw) < 0:
                return False
            with self._space.writing(self._data, len(raw)):
                self._prepare()
                target = _older(paths)
                write_durably(target, raw)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        return True

    def save_catalog(self, catalog: Catalog) -> None:
        """Copies the catalog; others go on using it. Raises StoreError."""
        target = _older([self._directory / f"catalog-{name}.db" for name in _COPIES])
        temporary = target.with_suffix(".tmp")
        with (
            self._space.writing(self._data, catalog.size_bytes()),
            translated("cannot back up the catalog to", self._directory),
        ):
            self._prepare()
            temporary.unlink(missing_ok=True)
            try:
                catalog.copy_to(temporary)
                sync_file(temporary)
                text = f"{file_sha256(temporary)}\n".encode()
                _digest_file(target).unlink(missing_ok=True)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            write_durably(_digest_file(target), text)

    def _prepare(self) -> None:
        if not self._directory.is_dir():
            self._directory.mkdir(mode=0o700)
            sync_directory(self._directory.parent)

    def newest(self) -> Copy | None:
        """Returns the good copy of the highest generation; of two the catalog's, which has more."""
        found = [*self._indexes(), *self._catalogs()]
        return max(found, key=lambda copy: (copy.generation, copy.is_catalog), default=None)

    def _indexes(self) -> list[Copy]:
        paths = [self._directory / f"index-{name}.json" for name in _COPIES]
        copies = [Copy(index_generation(_read(path)), False, path) for path in paths]
        return [copy for copy in copies if copy.generation >= 0]

    def _catalogs(self) -> list[Copy]:
        copies = []
        for path in (self._directory / f"catalog-{name}.db" for name in _COPIES):
            with suppress(OSError):
                wanted = (_read(_digest_file(path)) or b"").decode("ascii", "replace").strip()
                if not wanted or file_sha256(path) != wanted:
                    continue
                examined = examine_catalog(path)
                if not examined.reason:
                    copies.append(Copy(examined.generation, True, path))
        return copies

    def read_index(self, copy: Copy) -> bytes | None:
        return _read(copy.path)

    def place_catalog(self, copy: Copy, target: Path) -> None:
        """Puts a copy in the place of the catalog, durably. Raises StoreError."""
        temporary = target.with_name(f".{target.name}.tmp")
        with translated("cannot restore", target):
            shutil.copyfile(copy.path, temporary)
            set_mode(temporary, PRIVATE_FILE)
            sync_file(temporary)
            temporary.replace(target)
            sync_directory(target.parent)


def _older(paths: list[Path]) -> Path:
    """Returns the path without a file, or else the one that was written longest ago."""
    return min(paths, key=lambda path: path.stat().st_mtime_ns if path.exists() else -1)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    """Returns True if a copy was made of this file as it is."""
    return other is not None and (one.st_mtime_ns, one.st_size) == (
        other.st_mtime_ns,
        other.st_size,
    )


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
