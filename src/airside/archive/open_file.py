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

from airside.archive.beneath import ANYWHERE, Beneath
from airside.core.errors import (
    ArchiveError,
    ArchiveUnreadableError,
    NotFoundError,
    UnavailableError,
)


@contextlib.contextmanager
def open_archive(path: Path, beneath: Beneath = ANYWHERE) -> Iterator[BinaryIO]:
    """Open a regular file for reading; the context closes it.

    Raises ArchiveError for another kind of file, LinkRefusedError, ArchiveUnreadableError,
    NotFoundError, UnavailableError.
    """
    with contextlib.ExitStack() as stack:
        with translated_reading(path):
            opened = stack.enter_context(beneath.open(path))
            if not stat.S_ISREG(opened.stat().st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            file = open(opened.descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115
            stack.enter_context(file)  # the context above closes the descriptor
        yield file


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
