"""Layers written by containerd's Apply and by our layer writer, and the trees compared."""

import itertools
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airside.containerd.layer_writer.removal import names_in
from airside.containerd.layer_writer.target import LayerLimits, Target, WhiteoutForm
from airside.containerd.layer_writer.write import write_layer
from airside.containerd.services.snapshots import Mount
from airside.core.errors import AirsideError
from airside.oci.model import Descriptor
from support.images import sha256
from support.unpacking import LEASE, Namespace

TAR = "application/vnd.oci.image.layer.v1.tar"
NOW = "while it was written"
_COARSE = 5
"""CLOCK_REALTIME_COARSE, which stamps files; the other clock is a tick ahead of it."""
_numbers = itertools.count()

Row = dict[str, Any]
Tree = dict[bytes, Row]
Write = Callable[[bytes, Sequence[Mount]], None]


@dataclass
class Stack:
    """Committed snapshots on each other; `directories` are what they were written into."""

    node: Namespace
    snapshotter: str
    write: Write
    top: str = ""
    keys: tuple[str, ...] = ()
    began: int = field(default_factory=lambda: time.clock_gettime_ns(_COARSE))

    def add(self, tar: bytes) -> Tree:
        """Writes one more layer. Returns its tree. Nothing stays after an error of `write`."""
        key = f"layer-{next(_numbers)}"
        snapshots = self.node.client.snapshots
        mounts = snapshots.prepare(self.snapshotter, key, self.top, {}, LEASE)
        try:
            self.write(tar, mounts)
        except AirsideError:
            snapshots.remove(self.snapshotter, key)
            raise
        snapshots.commit(self.snapshotter, f"{key} done", key, {}, LEASE)
        self.top = f"{key} done"
        self.keys += (self.top,)
        return tree_of(directory_of(mounts), self.began)

    def usage(self) -> list[tuple[str, ...]]:
        """Bytes and inodes of each snapshot, as containerd reports them."""
        shown = self.node.ctr("snapshots", "--snapshotter", self.snapshotter, "usage", "-b")
        rows = [line.rsplit(maxsplit=2) for line in shown.splitlines()]
        found = {row[0]: tuple(row[1:]) for row in rows}
        return [found[key] for key in self.keys]

    def drop(self) -> None:
        for key in reversed(self.keys):
            self.node.client.snapshots.remove(self.snapshotter, key)


def applied(node: Namespace) -> Write:
    """Returns what has containerd apply a layer."""

    def write(tar: bytes, mounts: Sequence[Mount]) -> None:
        digest = sha256(tar)
        node._send(digest, tar, {})
        assert node.client.diff.apply(Descriptor(TAR, digest, len(tar)), mounts, LEASE) == digest

    return write


def written(node: Namespace) -> Write:
    """Returns what has our layer writer write a layer, from a file beside the snapshots."""

    def write(tar: bytes, mounts: Sequence[Mount]) -> None:
        form = WhiteoutForm.TRUSTED if mounts[0].type == "overlay" else WhiteoutForm.DELETION
        directories = [directory_of(mounts), *lowers_of(mounts)]
        with tempfile.TemporaryFile(dir=node.containerd.home) as file, ExitStack() as stack:
            file.write(tar)
            file.flush()
            opened = [os.open(each, os.O_RDONLY) for each in directories]
            for each in opened:
                stack.callback(os.close, each)
            target = Target(opened[0], tuple(opened[1:]), form)
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as tar_map:
                write_layer(tar_map, target, LayerLimits(), file=file.fileno())

    return write


def directory_of(mounts: Sequence[Mount]) -> Path:
    [mount] = mounts
    return Path(_option(mount, "upperdir=") or mount.source)


def lowers_of(mounts: Sequence[Mount]) -> list[Path]:
    [mount] = mounts
    return [Path(each) for each in _option(mount, "lowerdir=").split(":") if each]


def _option(mount: Mount, prefix: str) -> str:
    return next((o.removeprefix(prefix) for o in mount.options if o.startswith(prefix)), "")


def tree_of(directory: Path, began: int) -> Tree:
    """Returns all attributes of each file. Times from `began` to now are equal."""
    found: Tree = {}
    inodes: dict[int, bytes] = {}
    root = os.fsencode(directory)

    def look(path: bytes, name: bytes) -> None:
        found[name or b"."] = _row(path, name, began, inodes)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            for each in _names(path):
                look(path + b"/" + each, name + b"/" + each)

    look(root, b"")
    for name in (b".",):  # the root is containerd's, and its times are nobody's
        del found[name]["mtime"], found[name]["atime"]
    return found


def _names(path: bytes) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        return sorted(names_in(descriptor))
    finally:
        os.close(descriptor)


def _read(path: bytes) -> bytes:
    """Reads without a trace: native snapshots copy the time of the last access."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:
        return file.read()


def _row(path: bytes, name: bytes, began: int, inodes: dict[int, bytes]) -> Row:
    status = os.lstat(path)
    row: Row = {"mode": oct(status.st_mode), "owner": (status.st_uid, status.st_gid)}
    times = range(began, time.time_ns())
    row["mtime"] = NOW if status.st_mtime_ns in times else status.st_mtime_ns
    row["atime"] = NOW if status.st_atime_ns in times else status.st_atime_ns
    row["xattrs"] = {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in os.listxattr(path, follow_symlinks=False)
    }
    if not stat.S_ISDIR(status.st_mode):
        row["links"] = status.st_nlink, inodes.setdefault(status.st_ino, name)
    if stat.S_ISREG(status.st_mode):
        row["bytes"] = _read(path)
    elif stat.S_ISLNK(status.st_mode):
        row["target"] = Path(os.fsdecode(path)).readlink()
    elif not stat.S_ISDIR(status.st_mode):
        row["device"] = status.st_rdev
    return row


def outcome(add: Callable[[bytes], Tree], tar: bytes) -> Tree | AirsideError:
    try:
        return add(tar)
    except AirsideError as exc:
        return exc


def differences(ours: Tree, theirs: Tree) -> list[str]:
    return [
        f"{name!r}: ours {ours.get(name)}, theirs {theirs.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
