"""The rights of another user to a file, by its mode and its POSIX ACL (acl(5))."""

import errno
import os
import pwd
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from airside.archive.beneath.acting import Credentials

READ, SEARCH = 4, 1
"""Bits of a mode: read a file or list a directory; reach what is in a directory."""

_NO_GROUP = 65_534
"""`nogroup`, for users that this host does not know."""
_ACL = "system.posix_acl_access"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NO_ACL = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EINVAL})


@dataclass(frozen=True)
class User:
    """A user and their groups, as this host's `passwd` and `group` have them."""

    uid: int

    @cached_property
    def credentials(self) -> Credentials:
        """The user as the kernel knows them; without groups if this host does not know the user."""
        try:
            entry = pwd.getpwuid(self.uid)
        except KeyError:
            return Credentials(self.uid, _NO_GROUP)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return Credentials(self.uid, entry.pw_gid, tuple(groups))

    @property
    def groups(self) -> frozenset[int]:
        """The user's groups."""
        return frozenset(self.credentials.groups)

    def may(self, descriptor: int, wanted: int) -> bool:
        """Returns True if the user has all the rights `wanted`. Raises OSError.

        `descriptor`: opened with O_PATH or for reading.
        """
        found = os.fstat(descriptor)
        entries = _acl_entries(descriptor)
        granted = self._by_mode(found) if entries is None else self._by_acl(found, entries, wanted)
        return granted & wanted == wanted

    def _by_mode(self, found: os.stat_result) -> int:
        if found.st_uid == self.uid:
            return found.st_mode >> 6 & 7
        if found.st_gid in self.groups:
            return found.st_mode >> 3 & 7
        return found.st_mode & 7

    def _by_acl(
        self, found: os.stat_result, entries: list[tuple[int, int, int]], wanted: int
    ) -> int:
        """Decide as `posix_acl_permission` of Linux does."""
        by_tag = {tag: bits for tag, bits, _ in entries if tag not in {_USER, _GROUP}}
        if found.st_uid == self.uid:
            return by_tag.get(_OWNER, 0)
        if not found.st_mode & 0o070:  # an empty mask: Linux does not look at the ACL
            return self._by_mode(found)
        mask = by_tag.get(_MASK, 7)
        for tag, bits, who in entries:
            if tag == _USER and who == self.uid:
                return bits & mask
        theirs = list(self._of_groups(found, entries))
        if theirs:
            return next((bits for bits in theirs if bits & wanted == wanted), 0) & mask
        return by_tag.get(_OTHER, 0)

    def _of_groups(
        self, found: os.stat_result, entries: list[tuple[int, int, int]]
    ) -> Iterator[int]:
        for tag, bits, who in entries:
            owning = tag == _OWNING_GROUP and found.st_gid in self.groups
            if owning or (tag == _GROUP and who in self.groups):
                yield bits


def _acl_entries(descriptor: int) -> list[tuple[int, int, int]] | None:
    """Returns (tag, rights, ID) of each entry; None without an ACL. Raises OSError."""
    try:
        raw = os.getxattr(f"/proc/self/fd/{descriptor}", _ACL)
    except OSError as exc:
        if exc.errno in _NO_ACL:
            return None
        raise
    return list(_ENTRY.iter_unpack(raw[_HEADER.size :]))


def name_of(uid: int) -> str:
    """Returns a user's name and number, for messages."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
