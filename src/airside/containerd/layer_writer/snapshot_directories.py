"""The directories that a snapshot's mounts name, and how deletions are recorded in them."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from airside.containerd.layer_writer.directories import FLAGS
from airside.containerd.layer_writer.messages import MOST_DIRECTORIES
from airside.containerd.layer_writer.target import WhiteoutForm
from airside.containerd.services.snapshots import Mount
from airside.core.errors import UnusualLayerError

_BIND_OPTIONS = frozenset({"rw", "rbind", "bind"})
_OVERLAY_OPTIONS = frozenset({"rw", "index=off", "userxattr", "metacopy=off", "redirect_dir=off"})


@dataclass(frozen=True, slots=True)
class SnapshotDirectories:
    """Paths of containerd's mount namespace; `lowers` from the uppermost."""

    upper: str
    lowers: tuple[str, ...]
    whiteouts: WhiteoutForm

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[int]]:
        """Opens them, `upper` first. Raises UnusualLayerError."""
        numbers: list[int] = []
        try:
            for path in (self.upper, *self.lowers):
                numbers.append(_opened(path))  # noqa: PERF401 - those before are closed if one fails
            yield numbers
        finally:
            for number in numbers:
                os.close(number)


def _opened(path: str) -> int:
    try:
        return os.open(path, FLAGS)
    except OSError as exc:
        raise UnusualLayerError(f"{path} cannot be opened here: {exc.strerror}") from exc


def directories_of(mounts: Sequence[Mount]) -> SnapshotDirectories:
    """Returns the directories of a prepared snapshot's mounts, read as containerd's Apply does.

    Raises UnusualLayerError for mounts that are no plain directories.
    """
    if len(mounts) != 1:
        raise UnusualLayerError(f"a snapshot of {len(mounts)} mounts")
    [mount] = mounts
    options = set(mount.options)
    if mount.type == "bind" and options <= _BIND_OPTIONS:
        return SnapshotDirectories(mount.source, (), WhiteoutForm.DELETION)
    if mount.type != "overlay":
        raise UnusualLayerError(f"a mount of the type {mount.type} with {sorted(options)}")
    named = dict(option.split("=", 1) for option in options - _OVERLAY_OPTIONS if "=" in option)
    unknown = named.keys() - {"upperdir", "lowerdir", "workdir"}
    lower, upper = named.get("lowerdir", ""), named.get("upperdir", "")
    if unknown or not upper or "\\" in lower or len(named) != len(options - _OVERLAY_OPTIONS):
        raise UnusualLayerError(f"an overlay with the options {sorted(options)}")
    lowers = tuple(lower.split(":"))
    if not lower or not all(lowers) or len(lowers) >= MOST_DIRECTORIES:
        raise UnusualLayerError(f"an overlay over {len(lowers)} directories")
    form = WhiteoutForm.USER if "userxattr" in options else WhiteoutForm.TRUSTED
    return SnapshotDirectories(upper, lowers, form)
