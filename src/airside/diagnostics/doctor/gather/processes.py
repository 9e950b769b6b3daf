"""Facts about processes in /proc, as far as this user may read. Blocking; never raises OSError."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def iter_processes(proc: Path = PROC) -> Iterator[Path]:
    """Yields the directory of each process in /proc."""
    with suppress(OSError):
        for path in proc.iterdir():
            if path.name.isdigit():
                yield path


def command_line(process: Path) -> list[str]:
    """Returns the arguments of a process; empty if unreadable."""
    return _texts(process / "cmdline")


def environment(process: Path) -> Mapping[str, str] | None:
    """Returns the environment a process started with; None if unreadable."""
    with suppress(OSError):
        raw = (process / "environ").read_bytes()
        pairs = (os.fsdecode(part).partition("=") for part in raw.split(b"\0") if part)
        return {key: value for key, _, value in pairs}
    return None


def owner(pid: int) -> int | None:
    """Returns the UID of a process; None if it does not exist."""
    with suppress(OSError):
        return (PROC / str(pid)).stat().st_uid
    return None


def shares_mounts(process: Path) -> bool | None:
    """Returns True if the process has our mount namespace; None if unreadable."""
    with suppress(OSError):
        return (process / "ns/mnt").readlink() == (PROC / "self/ns/mnt").readlink()
    return None


def _texts(path: Path) -> list[str]:
    with suppress(OSError):
        return [os.fsdecode(part) for part in path.read_bytes().split(b"\0") if part]
    return []
