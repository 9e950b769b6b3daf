"""Quarantine: blobs whose bytes are wrong, moved from the store to `DATA/quarantine`.

A file here whose blob was repaired still has work left: the wrong bytes may have another hard link,
in a container runtime's content directory. A file that the disk cannot read is kept, so that its
sectors are not written to again.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airside.oci.digest import Digest, is_digest, parse_digest
from airside.store.filesystem import (
    PRIVATE_DIRECTORY,
    make_directories,
    sync_directory,
    translated,
)

_UNREADABLE = ".unreadable"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A quarantined file. `other_names`: the number of its other hard links, anywhere."""

    digest: Digest
    path: Path
    unreadable: bool
    other_names: int


class Quarantine:
    """The directory. Created when needed, deleted with the last file. Raises StoreError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self, blob: Path, digest: Digest, *, unreadable: bool) -> None:
        """Moves a blob's file to quarantine, durably."""
        suffix = _UNREADABLE if unreadable else ""
        with translated("cannot quarantine", blob):
            make_directories(self.directory, PRIVATE_DIRECTORY)
            blob.replace(self.directory / f"{digest.algorithm}-{digest.hex}{suffix}")
            sync_directory(self.directory)
            sync_directory(blob.parent)

    def keep(self, blob: Path, digest: Digest) -> None:
        """Links a wrong file here too, durably: its own name is about to get another file.

        Moves it where that is not possible: a file system without hard links, or root's file.
        """
        target = self.directory / f"{digest.algorithm}-{digest.hex}"
        temporary = target.with_suffix(".tmp")
        with translated("cannot quarantine", blob):
            make_directories(self.directory, PRIVATE_DIRECTORY)
            temporary.unlink(missing_ok=True)
            try:
                temporary.hardlink_to(blob)
            except OSError:
                blob.replace(target)
            else:
                temporary.replace(target)
            sync_directory(self.directory)

    def files(self) -> Iterator[Quarantined]:
        """Yields the quarantined files; ignores files with other names."""
        with translated("cannot list", self.directory):
            paths = sorted(self.directory.iterdir()) if self.directory.is_dir() else []
        for path in paths:
            text = path.name.removesuffix(_UNREADABLE).replace("-", ":", 1)
            if is_digest(text):
                unreadable = path.name.endswith(_UNREADABLE)
                with translated("cannot stat", path):
                    names = path.stat().st_nlink - 1
                yield Quarantined(parse_digest(text), path, unreadable, names)

    def drop(self, path: Path) -> None:
        """Deletes a file, and the directory if it was the last one."""
        with translated("cannot delete", path):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()
