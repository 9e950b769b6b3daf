"""Gives directories that a layer has no entry for the attributes of the layers below.

mkfs.erofs makes them with the mode 0777 and the time of the index, and overlayfs shows the
attributes of the uppermost layer: without this module, as with containerd's own differ, a layer
that lists `usr/bin/tool` alone would let everybody write to `/usr`. containerd's other snapshotters
show the directory of the layer below, or 0755.
"""

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from airside.containerd.erofs.image import Attributes, Image, Inode, set_attributes
from airside.containerd.verified_tars import Stop
from airside.core.errors import StoppedError, UnusualLayerError

_MADE = 0o777
_MODE = 0o755
_STOP_EACH = 1024
Path = tuple[bytes, ...]
Item = TypeVar("Item")


def mend_directories(index: bytearray, lowers: Sequence[str], stop: Stop) -> int:
    """Changes the directories in an index that were not in its tar. Returns how many.

    `lowers` are the files of the layers below, the uppermost first. Raises UnusualLayerError if one
    is not visible here, or not read here; StoppedError.
    """
    image = Image(index)
    made = {path: inode for path, inode in _until(stop, image.walk()) if _is_made(inode, image)}
    if made:
        with contextlib.ExitStack() as stack:
            images = [stack.enter_context(_opened(lower)) for lower in lowers]
            for path in _until(stop, sorted(made)):  # in order: `find` reads each directory once
                set_attributes(index, made[path], _below(path, images, image))
    return len(made)


def _until(stop: Stop, items: Iterable[Item]) -> Iterator[Item]:
    for number, item in enumerate(items):
        if number % _STOP_EACH == 0 and stop():
            raise StoppedError("stopped while a layer was written")
        yield item


def _is_made(inode: Inode, image: Image) -> bool:
    """True if the tar has no entry of it: no file is of the very nanosecond of the index."""
    attributes = inode.attributes
    return attributes.mode == _MADE and attributes.mtime == image.built


def _below(path: Path, lowers: Sequence[Image], image: Image) -> Attributes:
    for lower in lowers:
        if (found := lower.find(path)) is not None:
            return found
    return Attributes(_MODE, 0, 0, image.built)


@contextlib.contextmanager
def _opened(layer: str) -> Iterator[Image]:
    try:
        with (
            open(layer, "rb") as file,  # noqa: PTH123 - containerd's text
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
            memoryview(view) as raw,
        ):
            yield Image(raw)
    except (OSError, ValueError) as exc:
        raise UnusualLayerError(f"{layer} is not readable here: {exc}") from exc
