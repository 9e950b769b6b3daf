"""A small file system of its own, and the least free space that it ever had."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@contextlib.contextmanager
def small_disk(where: Path, size_bytes: int) -> Iterator[Path]:
    """An ext4 file system of this size, mounted from a file beside it. Needs root."""
    image = where.with_name(f"{where.name}.ext4")
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)
        image.unlink()


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@dataclass
class LeastFree:
    """Looks at the free space of a path again and again, in a thread, within `with`."""

    path: Path
    least_bytes: int = 1 << 62
    looks: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, name="least-free")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.001):
            self.least_bytes = min(self.least_bytes, free_bytes(self.path))
            self.looks += 1
