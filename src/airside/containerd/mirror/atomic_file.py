"""Changes a settings file atomically and durably: it is always the old or the new one.

A new directory appears with its file in it, and is deleted with it: containerd reads an empty
directory as "this registry has no mirrors, not even the default ones". Mode, owner and extended
attributes (SELinux's label) of a file stay. A symbolic link stays one; its target is changed. What
a killed command left is swept by the next one.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airside.core.errors import AirsideError, ConflictError, UnavailableError
from airside.store.filesystem import make_directories, sync_directory

_PREFIX = ".airside-mirror-"


def read_text(path: Path) -> str | None:
    """Returns the text of a file, None if absent. Raises ConflictError, UnavailableError."""
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError) as exc:
        if path.is_symlink():
            raise ConflictError(
                "it is a symbolic link to a missing file", hint="correct or remove the link"
            ) from exc
        return None
    except UnicodeDecodeError as exc:
        raise ConflictError(
            "it is not UTF-8 text", hint="correct it, and run the command again"
        ) from exc
    except OSError as exc:
        raise _unavailable("read", path, exc) from exc


def names_in(directory: Path) -> list[str]:
    """Returns the names in a directory, [] if it is absent. Raises UnavailableError."""
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - names are wanted
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise _unavailable("list", directory, exc) from exc


def is_there(path: Path) -> bool:
    """Returns True if the path exists. Raises UnavailableError if that cannot be determined."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise _unavailable("look at", path, exc) from exc
    return True


def missing_directories(path: Path) -> int:
    """Returns how many directories above the path are absent. Raises UnavailableError."""
    return sum(not is_there(parent) for parent in path.parents)


def change_file(
    path: Path, before: str | None, after: str | None, *, made: int = 0, mode: int = 0o644
) -> None:
    """Writes the text `after`; None deletes the file and the `made` directories above it.

    Raises ConflictError if the file is not as `before` says, UnavailableError.
    """
    try:
        _sweep(path.parent, path.parent.parent)
        if read_text(path) != before:
            raise ConflictError(
                "another program changed it meanwhile", hint="run the command again"
            )
        if after is None:
            _delete(path, made)
        elif before is None:
            _create(path, after.encode(), mode)
        else:
            _replace(Path(os.path.realpath(path)), after.encode(), mode)
    except OSError as exc:
        raise _unavailable("write", path, exc) from exc


def _unavailable(doing: str, path: Path, exc: OSError) -> AirsideError:
    hint = "run the command as root (sudo)" if isinstance(exc, PermissionError) else None
    return UnavailableError(f"cannot {doing} {path}: {exc.strerror}", path=path, hint=hint)


def _create(path: Path, data: bytes, mode: int) -> None:
    directory = path.parent
    if is_there(directory):
        _replace(path, data, mode)
        return
    make_directories(directory.parent)
    with _staging(directory.parent) as staging:
        _write(staging / path.name, data, mode, None)
        staging.chmod(0o755)
        sync_directory(staging)
        staging.rename(directory)
    sync_directory(directory.parent)


def _replace(path: Path, data: bytes, mode: int) -> None:
    with _staging(path.parent) as staging:
        temporary = staging / path.name
        _write(temporary, data, mode, path if is_there(path) else None)
        temporary.replace(path)
    sync_directory(path.parent)


def _delete(path: Path, made: int) -> None:
    directory = path.parent
    if made and names_in(directory) == [path.name]:
        with _staging(directory.parent) as staging:
            directory.rename(staging)
        sync_directory(directory.parent)
    else:
        path.unlink()
        sync_directory(directory)
        return
    with suppress(OSError):  # others put files beside ours
        for parent in directory.parents[: made - 1]:
            parent.rmdir()


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """A private directory beside the target, deleted at the end unless it was renamed."""
    staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(path: Path, data: bytes, mode: int, like: Path | None) -> None:
    with path.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
        if like is not None:
            _copy_attributes(like, file.fileno())
        file.flush()
        os.fsync(file.fileno())


def _copy_attributes(like: Path, descriptor: int) -> None:
    status = like.stat()
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o7777)
    with suppress(OSError):  # a file system without them
        for name in os.listxattr(like):
            os.setxattr(descriptor, name, os.getxattr(like, name))


def _sweep(*directories: Path) -> None:
    for directory in directories:
        for left in directory.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
