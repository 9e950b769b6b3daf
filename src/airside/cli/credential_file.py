"""Rewrites the htpasswd and access files atomically."""

import os
from collections.abc import Callable
from pathlib import Path

from airside.core.errors import ConfigError

_MODE = 0o640
"""The permissions of a new file."""


def rewrite_file(path: Path, change: Callable[[str], str]) -> None:
    """Replaces the text of a file with `change(text)`, atomically by a rename.

    Preserves mode and, as root, owner. `change` gets '' for a file that does not exist. Raises
    ConfigError.
    """
    try:
        before = path.stat() if path.exists() else None
        after = change(path.read_text(encoding="utf-8") if before else "")
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                os.fchmod(descriptor, before.st_mode & 0o777 if before else _MODE)
                if before is not None and os.geteuid() == 0:
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                file.write(after)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot change {path}: {reason}") from exc
