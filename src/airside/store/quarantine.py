"""Blobs whose bytes are wrong: out of the store, in `DATA/quarantine`, under a name of their own.

A file here whose blob is right again is what is left to do: the wrong bytes may have another name,
by hard link, in a container runtime's content directory. What the disk cannot read is kept, so that
its sectors are not written to again.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airside.oci.digest import Digest, is_digest, parse_digest
from airside.store.filesystem import sync_directory, translated

_UNREADABLE = ".unreadable"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One file. `other_names`: how many more the bytes have, wherever."""

    digest: Digest
    path: Path
    unreadable: bool
    other_names: int


class Quarantine:
    """The directory; made when it is needed, gone when it is empty. Raises StoreError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self, blob: Path, digest: Digest, *, unreadable: bool) -> None:
        """Move a blob's file here, durably."""
        suffix = _UNREADABLE if unreadable else ""
        with translated("cannot quarantine", blob):
            self.directory.mkdir(exist_ok=True)
            blob.replace(self.directory / f"{digest.algorithm}-{digest.hex}{suffix}")
            sync_directory(self.directory)
            sync_directory(blob.parent)

    def files(self) -> Iterator[Quarantined]:
        """What is here; files of others are passed over."""
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
        """Delete a file, and the directory with the last one."""
        with translated("cannot delete", path):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()
