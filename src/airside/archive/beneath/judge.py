"""Judges what lies outside a watched directory by the owners of the links that lead there."""

import os
import stat
from dataclasses import dataclass
from functools import cached_property

from airside.archive.beneath.rights import READ, SEARCH, User
from airside.archive.beneath.system_calls import is_on_disk


class LinkOutsideError(Exception):
    """A link leads to what the setting `links` does not allow."""


@dataclass(frozen=True)
class Judge:
    """The setting `links` and the owners of all the links on the way."""

    links: str
    owners: frozenset[int] = frozenset()

    def with_owner(self, uid: int) -> "Judge":
        """Returns the judge of a way that has a link of this user too."""
        return self if uid in self.owners else Judge(self.links, self.owners | {uid})

    @cached_property
    def reader(self) -> User | None:
        """The user who must have the rights: the links' owner; None if that is root or ourselves.

        Raises LinkOutsideError if the links belong to several users.
        """
        if self.links == "any":
            return None
        users = self.owners - {0, os.geteuid()}
        if len(users) > 1:
            raise LinkOutsideError
        return User(min(users)) if users else None

    def check_search(self, directory: int) -> None:
        """Check the right to reach what is in a directory. Raises OSError, LinkOutsideError."""
        if self.reader is not None and not self.reader.may(directory, SEARCH):
            raise LinkOutsideError

    def check(self, found: int) -> os.stat_result:
        """Check the right to read. Returns the stat. Raises OSError, LinkOutsideError."""
        status = os.fstat(found)
        if not is_on_disk(found):
            raise LinkOutsideError
        if self.links == "any" or not self.owners:
            return status
        reader, is_directory = self.reader, stat.S_ISDIR(status.st_mode)
        owners = self.owners if reader is None else {reader.uid}
        if not is_directory and status.st_uid not in owners | {0}:  # each file in it is judged
            raise LinkOutsideError
        wanted = READ | SEARCH if is_directory else READ
        if reader is not None and not reader.may(found, wanted):
            raise LinkOutsideError
        return status
