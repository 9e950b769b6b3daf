"""The order in which images are published: first what a node cannot start a pod without. Pure.

1. Sandbox (pause) images: without one no pod starts. Nothing else begins before they are done.
2. What pods want: containers, static pods, pulls that run.
3. By the `priority` of the watched directory of an archive that has the image, highest first.
4. By size, smallest first: most pods start soonest.
"""

from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path

from airside.containerd.desired_state import DesiredImage
from airside.containerd.sandbox_image import is_sandbox_name
from airside.core.settings import WatchedDirectory

Due = tuple[DesiredImage, bool]
"""An image to publish, and whether to unpack it."""
Rank = tuple[int, int, int, str]
_SANDBOX, _WANTED, _OTHER = range(3)


class PublishOrder:
    """The order of the images of one runtime. Thread-safe."""

    def __init__(self, directories: Iterable[WatchedDirectory]) -> None:
        self._priorities = {directory.path: directory.priority for directory in directories}

    def groups(self, due: Iterable[Due], wanted: Callable[[], frozenset[str]]) -> list[list[Due]]:
        """Returns what is due in its order: the sandbox images, then all others."""
        images = list(due)
        names = wanted() if len(images) > 1 else frozenset()
        ranked = sorted(((self.of(each[0], names), each) for each in images), key=itemgetter(0))
        first = [each for rank, each in ranked if is_first(rank)]
        rest = [each for rank, each in ranked if not is_first(rank)]
        return [group for group in (first, rest) if group]

    def of(self, desired: DesiredImage, wanted: frozenset[str]) -> Rank:
        """Returns the rank; the lowest goes first. `wanted`: names and digests that pods want."""
        priority = max(map(self._priority, desired.tag.archives), default=0)
        size_bytes = desired.content.size_bytes
        return _kind(desired, wanted), -priority, size_bytes, desired.tag.reference

    def _priority(self, archive: str) -> int:
        """Returns the priority of the innermost watched directory around an archive."""
        found = (self._priorities.get(parent) for parent in _parents(archive))
        return next((priority for priority in found if priority is not None), 0)


def is_first(rank: Rank) -> bool:
    """Returns True for a sandbox image."""
    return rank[0] == _SANDBOX


def _kind(desired: DesiredImage, wanted: frozenset[str]) -> int:
    if any(is_sandbox_name(name) for name in desired.names):
        return _SANDBOX
    content = desired.content
    digests = {str(content.config), *(str(each.digest) for each in content.chain)}
    return _WANTED if wanted & digests or wanted.intersection(desired.names) else _OTHER


def _parents(archive: str) -> list[Path]:
    return list(Path(archive).parents)
