"""Reads an archive, and compares it with what lies beside it. Blocking."""

from collections.abc import Callable
from pathlib import Path

from airside.archive.beneath import Beneath
from airside.archive.checksum_files import compare, find_listed
from airside.archive.preallocated import check_written
from airside.archive.reader import Reading
from airside.archive.stop import Stop
from airside.core.errors import ArchiveTruncatedError, ChecksumMismatchError, InputError


def read_checked(
    read: Callable[[], Reading], path: Path, beneath: Beneath, stop: Stop, moving_seconds: float
) -> Reading:
    """Read an archive and compare it with the lists of checksums, which its notes then name.

    A wrong archive is incomplete where its copy may still run (`moving_seconds` after the last
    change). Raises ChecksumMismatchError, also in place of another InputError: a wrong file
    explains what is wrong in it; ArchiveTruncatedError; and as `read`.
    """
    listed = find_listed(path, beneath)
    try:
        reading = read()
    except ArchiveTruncatedError:
        raise
    except InputError as exc:
        check_written(path, beneath, moving_seconds)
        try:
            compare(path, beneath, listed, stop)
        except ChecksumMismatchError as wrong:
            raise ChecksumMismatchError(f"{wrong.message}; {exc.message}", **wrong.context) from exc
        raise
    try:
        if reading.judgement.problems:
            check_written(path, beneath, moving_seconds, is_partial=True)
        reading.notes += compare(path, beneath, listed, stop)
    except BaseException:
        reading.close()
        raise
    return reading
