"""Parses the mount table `/proc/self/mountinfo` (proc(5)) and finds the mount of a path. Pure.

Paths are absolute and real (no symbolic links). Left to others: reading the file.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airside.core.paths import is_within

_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "lustre", "fuse"})
_MAKES_UP_INODES = frozenset({"vfat", "msdos", "exfat", "fuse", "fuseblk", "smbfs", "cifs"})
_ESCAPES = (b"\\040", b"\\011", b"\\012", b"\\134")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system. `id` differs after each mount."""

    id: int
    point: str
    kind: str

    @property
    def is_remote(self) -> bool:
        """True if other hosts, with their own clocks, may change it, unseen by inotify."""
        return self.kind in _REMOTE or self.kind.startswith("fuse.")

    @property
    def keeps_inodes(self) -> bool:
        """True if a file has the same inode number after the next mount."""
        return self.kind not in _MAKES_UP_INODES and not self.kind.startswith("fuse.")


@dataclass(frozen=True, slots=True)
class MountTable:
    """The mounts in the order of their creation: a later one hides an earlier one."""

    mounts: tuple[Mount, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a mountinfo file. A line of another form is skipped."""
        return cls(tuple(_mounts(text)))

    def covering(self, path: str) -> Mount:
        """Returns the mount that the path lies on."""
        best = Mount(0, "", "")
        for mount in self.mounts:
            if len(mount.point) >= len(best.point) and is_within(path, mount.point):
                best = mount
        return best

    def below(self, path: str) -> list[Mount]:
        """Returns the mounts whose points are inside the directory, the last one of each point."""
        points = {m.point: m for m in self.mounts if is_within(m.point, path)}
        points.pop(path, None)
        return list(points.values())


Remembered = Mapping[Path, Mapping[Path, Mount]]
"""Per watched directory, the mounts on which its archives were found, by their places in it."""


def to_text(remembered: Remembered) -> str:
    """Returns the text for the catalog. Mount ids are left out: they do not outlive a mount."""
    return json.dumps(
        {
            str(root): {str(place): [mount.point, mount.kind] for place, mount in mounts.items()}
            for root, mounts in remembered.items()
        }
    )


def from_text(text: str) -> dict[Path, dict[Path, Mount]]:
    """Parse the text of `to_text`. Returns {} for another form: a scan finds the mounts."""
    try:
        return {
            Path(root): {Path(p): Mount(0, str(point), str(kind)) for p, (point, kind) in m.items()}
            for root, m in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _mounts(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        fields, dash, rest = line.partition(" - ")
        words = fields.split(" ")
        if not dash or len(words) < 6 or not words[0].isdigit():
            continue
        point = words[4].encode("utf-8", "surrogateescape")
        for code in _ESCAPES:
            point = point.replace(code, bytes([int(code[1:], 8)]))
        yield Mount(int(words[0]), os.fsdecode(point), rest.split(" ")[0])
