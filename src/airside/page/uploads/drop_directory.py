"""The watched directory for uploaded archives, and why there may be none. Blocking."""

import os
from dataclasses import dataclass
from pathlib import Path

from airside.core.settings import Settings

NONE = "none"
"""The value of the setting `upload_directory` that switches uploads off."""


@dataclass(frozen=True, slots=True)
class DropDirectory:
    """`path` is None if a setting switches uploads off; then `reason` says which."""

    path: Path | None
    reason: str = ""

    def refusal(self) -> str:
        """Returns why no archive can be stored now, with what to do; empty if it can."""
        return self.reason if self.path is None else _refusal(self.path)


def _refusal(path: Path) -> str:
    try:
        is_read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        return f"the directory {path} does not exist: create it"
    except OSError as exc:
        return f"the directory {path} cannot be used: {exc.strerror}"
    found = ""
    if not path.is_dir():
        found = f"{path} is not a directory: change the setting upload_directory"
    elif is_read_only:
        found = f"the directory {path} is mounted read-only here: copy archives into it on the host"
    elif not os.access(path, os.W_OK | os.X_OK):
        found = f"the agent may not write to the directory {path}: copy archives into it yourself"
    return found


def drop_directory(settings: Settings) -> DropDirectory:
    """Returns the directory by the settings."""
    if settings.read_only:
        return DropDirectory(None, "this registry is read-only (setting read_only)")
    if settings.upload_directory == NONE:
        return DropDirectory(None, "uploads are switched off (setting upload_directory)")
    if settings.upload_directory:
        return DropDirectory(Path(settings.upload_directory))
    if not settings.images:
        return DropDirectory(None, "no directory is watched: add an [[images]] table")
    return DropDirectory(settings.images[0].path)
