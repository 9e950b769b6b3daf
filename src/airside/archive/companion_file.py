"""Tells the kind of a file that lies beside archives, from its name and first bytes. Blocking."""

import os
from pathlib import Path

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.formats.companions import HEAD_BYTES, companion_of
from airside.archive.open_file import open_archive, translated_reading


def companion_at(path: Path, beneath: Beneath = ANYWHERE) -> str:
    """Returns the kind of a companion file; "" for what may be an archive, or a directory.

    Raises LinkRefusedError, ArchiveUnreadableError, NotFoundError, UnavailableError, ArchiveError.
    """
    if beneath.is_directory(path):
        return ""
    with open_archive(path, beneath) as file, translated_reading(path):
        return companion_of(path.name, os.pread(file.fileno(), HEAD_BYTES, 0))
