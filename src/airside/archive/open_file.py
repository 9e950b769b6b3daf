"""Opens archive files, and translates an OSError about them into an AirsideError.

Blocking, but never for a named pipe or a device: only regular files are opened.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from airside.core.errors import (
    ArchiveError,
    ArchiveUnreadableError,
    NotFoundError,
    UnavailableError,
)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; the context closes it.

    Raises ArchiveError for another kind of file, ArchiveUnreadableError, NotFoundError,
    UnavailableError.
    """
    with translated_reading(path):
        file = open(path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115 - closed below
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ArchiveError(f"{path} is not a regular file", path=path)
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open without blocking: a named pipe would block until it has a writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


@contextlib.contextmanager
def translated_reading(path: Path) -> Iterator[None]:
    """Translate an OSError that the block raises about the archive at `path`.

    Raises NotFoundError, ArchiveUnreadableError (permissions), ArchiveError (a directory), and
    UnavailableError for all others, which are retried.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFoundError(f"{path} does not exist", path=path) from exc
    except PermissionError as exc:
        raise ArchiveUnreadableError(
            f"{path} cannot be read: {exc.strerror}; give the agent's user read permission",
            path=path,
        ) from exc
    except IsADirectoryError as exc:
        raise ArchiveError(f"{path} is a directory, not a file", path=path) from exc
    except OSError as exc:
        text = exc.strerror or errno.errorcode.get(exc.errno or 0, str(exc))
        raise UnavailableError(f"{path} cannot be read: {text}", path=path) from exc
