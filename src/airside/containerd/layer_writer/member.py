"""A member of a layer's tar, as its header says it."""

from collections.abc import Mapping

FILE, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0123456"


class Member:
    """One member. `path` is relative and has no `.` or `..`; empty means the root itself.

    `data` is the offset of its bytes in the tar; times are in nanoseconds since the epoch; `mode`
    has the permission, setuid, setgid and sticky bits only.
    """

    __slots__ = (
        "atime",
        "data",
        "device",
        "gid",
        "kind",
        "link",
        "mode",
        "mtime",
        "path",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, kind: int, path: bytes, link: bytes) -> None:
        self.kind, self.path, self.link = kind, path, link
        self.mode = self.uid = self.gid = self.size = self.data = 0
        self.mtime = self.atime = self.device = 0
        self.xattrs: Mapping[bytes, bytes] = {}
