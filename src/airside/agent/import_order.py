"""The order of the imports that wait: the same as that of publishing, as far as names tell. Pure.

An archive's images are unknown before it is read, so its file name stands for them: that of a
sandbox (pause) image first, then what has the name of an image that pods want, then by the
`priority` of the watched directory, then by size.
"""

import re
from collections.abc import Iterable

from airside.archive.stat_key import StatKey
from airside.importer.importer import Job

Rank = tuple[int, int, int]
_SANDBOX = re.compile(r"(?<![a-z0-9])pause(?![a-z0-9])")
_SHORTEST_NAME = 3


class ImportOrder:
    """The order of imports, by what pods want now. `wanted`: full names of images."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        names = {_short_name(name) for name in wanted}
        words = sorted(re.escape(name) for name in names if len(name) >= _SHORTEST_NAME)
        self._wanted = (
            re.compile(f"(?<![a-z0-9])({'|'.join(words)})(?![a-z0-9])") if words else None
        )

    def of(self, job: Job) -> Rank:
        """Returns the rank; the lowest goes first."""
        size_bytes = StatKey.parse(job.stat_key).size_bytes if job.stat_key else 0
        return self._kind(job.path.name.lower()), -job.priority, size_bytes

    def _kind(self, name: str) -> int:
        if _SANDBOX.search(name):
            return 0
        return 1 if self._wanted is not None and self._wanted.search(name) else 2


def _short_name(name: str) -> str:
    """Returns the last part of an image's path."""
    return name.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
