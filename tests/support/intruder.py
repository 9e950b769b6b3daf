"""A user who may write into a watched directory and wants what root alone may read.

Run as root by a test, with the directory, a private directory, seconds and a seed; becomes another
user, then exchanges files, links, directories and pipes under the agent's reading until the time
is over. What the kernel refuses is left out.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

INTRUDER = 65534
WORK = ".work"
"""Where the intruder keeps what is whole: `good.tar`, `good.txt` and the layout `good`."""
_KERNEL = (
    *(
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/1/environ",
        "/proc/self/fd/3",
        "/proc/version",
    ),
    *("/dev/zero", "/dev/stdin", "/proc/self/root/etc/shadow", "/proc/self/cwd"),
)


class Intruder:
    """The attacks, each on a few names, so that they meet each other and the agent."""

    def __init__(self, images: Path, private: Path, seed: str) -> None:
        self.images, self.private = images, private
        self.random = random.Random(seed)
        self.count = 0
        self.attacks: tuple[Callable[[], None], ...] = (
            *(self.archive, self.listed, self.blob, self.blobs, self.directory, self.layout),
            *(self.pipe, self.of_kernel, self.hard_link, self.chain, self.document, self.root),
        )

    def step(self) -> None:
        self.count += 1
        with contextlib.suppress(OSError, shutil.Error):
            self.random.choice(self.attacks)()

    def name(self, suffix: str = "") -> Path:
        return self.images / f"{self.random.choice('abc')}{suffix}"

    def link(self, path: Path, target: Path | str) -> None:
        """Put a link in the place of whatever is there, at once where that is no directory."""
        made = self.images / WORK / f"link-{self.count}"
        made.symlink_to(target)
        with contextlib.suppress(IsADirectoryError):
            made.replace(path)
            return
        path.rename(self.images / WORK / f"old-{self.count}")
        made.replace(path)

    def put(self, path: Path, good: str) -> None:
        made = self.images / WORK / f"made-{self.count}"
        os.link(self.images / WORK / good, made)
        made.replace(path)

    def archive(self) -> None:
        path, target = self.name(".tar"), self.private / "archive.tar"
        self.put(path, "good.tar")
        self.link(path, self.random.choice((target, os.path.relpath(target, self.images))))
        if self.random.random() < 0.5:
            self.put(path, "good.tar")

    def listed(self) -> None:
        path = self.name(".txt")
        self.put(path, "good.txt")
        self.link(path, self.private / self.random.choice(("list.txt", "shadow")))
        if self.random.random() < 0.3:
            path.unlink()
            os.mkfifo(path)

    def fresh_layout(self) -> Path:
        path = self.name("-layout")
        if path.is_symlink() or not (path / "blobs/sha256").is_dir():
            with contextlib.suppress(FileNotFoundError):
                path.rename(self.images / WORK / f"gone-{self.count}")
            shutil.copytree(self.images / WORK / "good", path, copy_function=os.link)
        return path

    def blob(self) -> None:
        path = self.fresh_layout() / "blobs/sha256"
        for blob in self.random.sample(sorted(path.iterdir()), 2):
            self.link(blob, self.private / "shadow")
            if self.random.random() < 0.7:
                self.put(blob, f"good/blobs/sha256/{blob.name}")

    def blobs(self) -> None:
        layout = self.fresh_layout()
        for part in ("blobs", "blobs/sha256"):
            path, aside = layout / part, self.images / WORK / f"aside-{self.count}"
            path.rename(aside)
            path.symlink_to(self.private / "layout" / part)
            path.unlink()
            aside.rename(path)

    def document(self) -> None:
        layout = self.fresh_layout()
        for part in ("index.json", "oci-layout"):
            self.link(layout / part, self.private / "layout" / part)
            self.put(layout / part, f"good/{part}")

    def directory(self) -> None:
        """A directory with an archive in it is a link to the private one for a moment."""
        path, aside = self.name("-sub"), self.images / WORK / f"sub-{self.count}"
        path.mkdir(exist_ok=True)
        self.put(path / "archive.tar", "good.tar")
        path.rename(aside)
        path.symlink_to(self.private)
        path.unlink()
        aside.rename(path)

    def layout(self) -> None:
        self.link(self.name("-link"), self.private / self.random.choice(("layout", ".")))

    def root(self) -> None:
        self.link(self.name("-root.tar"), self.random.choice(("../..", "/", "..", ".", "/proc")))

    def pipe(self) -> None:
        path = self.name(self.random.choice((".tar", ".txt", "-pipe.tar")))
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o666)

    def of_kernel(self) -> None:
        suffix = self.random.choice((".tar", ".txt", "-kernel.txt"))
        self.link(self.name(suffix), self.random.choice(_KERNEL))

    def hard_link(self) -> None:
        target = self.random.choice(
            (self.private / "archive.tar", self.private.parent / "rootonly")
        )
        os.link(target, self.name("-hard.tar"))

    def chain(self) -> None:
        """Links through links of its own and of root's."""
        way = self.images / WORK / f"way-{self.count}"
        way.symlink_to(self.private)
        self.link(self.name("-chain.tar"), f"{WORK}/{way.name}/archive.tar")
        self.link(self.name("-chain.txt"), "roots-link/list.txt")


def main(images: str, private: str, seconds: str, seed: str) -> None:
    os.setgroups([])
    os.setresgid(INTRUDER, INTRUDER, INTRUDER)
    os.setresuid(INTRUDER, INTRUDER, INTRUDER)
    signal.alarm(int(float(seconds)) + 60)
    intruder = Intruder(Path(images), Path(private), seed)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        intruder.step()
        time.sleep(0.002)
    print(intruder.count)


if __name__ == "__main__":
    main(*sys.argv[1:])
