"""A member of a layer's tar, as its header says it."""

from collections.abc import Mapping

FILE, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0123456"


class Member:
    """One member. `path` is relative and has no `.` or `..`; empty means the root itself.

    `data` is the offset of its bytes in the tar; times are in nanoseconds since the epoch; `mode`
    has the permission, setuid, setgid and sticky bits only.
    """

    size = 0
    data = 0
    mode = uid = gid = 0
    mtime = atime = 0
    device = 0
    xattrs: Mapping[bytes, bytes] = {}

    def __init__(self, kind: int, path: bytes, link: bytes) -> None:
        self.kind, self.path, self.link = kind, path, link
