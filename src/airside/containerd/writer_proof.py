"""Proves that we can write containerd's snapshots: that its directories are those we see.

A snapshot is prepared, and the worker writes a small layer into it with all that needs a power:
owners, set-user-ID bits, file capabilities, devices, attributes of overlayfs. Then containerd
applies a layer of one hard link to a file of ours. If that link is the same file as seen here, it
sees what we write and we see what it writes, in the same directory.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.layer_writer.snapshot_directories import directories_of
from airside.containerd.proof_snapshot import ProofSnapshot, why_not_proved
from airside.containerd.services.snapshots import Mount
from airside.containerd.snapshot_writer import SnapshotWriter
from airside.containerd.verified_tars import VerifiedTar
from airside.oci.digest import digest_of

WRITABLE_SNAPSHOTTERS = frozenset({"overlayfs", "native"})
"""Their mounts are plain directories."""
_BLOCK = 512
_OWNER, _GROUP, _MODE = 2_000_001, 2_000_002, 0o6751
_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""CAP_NET_BIND_SERVICE, permitted and effective (`struct vfs_cap_data`)."""
_CAPABILITY_XATTR = "security.capability"
_OTHER = "containerd's snapshots are not those in {}: its mount namespace shows other directories"


class WriterProof:
    """One try with one containerd and snapshotter. `writer` is used though it is not on."""

    def __init__(
        self, client: Client, snapshotter: str, writer: SnapshotWriter, identity: str
    ) -> None:
        self._client, self._snapshotter = client, snapshotter
        self._writer, self._identity = writer, identity

    def run(self) -> str:
        """Returns why layers are to be unpacked by containerd; "" if we can write them.

        Raises ContainerdError if containerd is away.
        """
        if self._snapshotter not in WRITABLE_SNAPSHOTTERS:
            return f"snapshots of {self._snapshotter} are no plain directories"
        return why_not_proved(self._client, self._snapshotter, self._identity, self._tried)

    def _tried(self, snapshot: ProofSnapshot) -> str:
        name, mounts = snapshot.name, snapshot.mounts
        upper = directories_of(mounts).upper
        self._write(self._as_overlay(mounts, upper), _ours(name))
        if why := _why_not_written(Path(upper), name):
            return why
        snapshot.apply(_linking(name))
        try:
            ours, theirs = os.lstat(f"{upper}/{name}"), os.lstat(f"{upper}/{name}.link")
        except FileNotFoundError:
            return _OTHER.format(upper)
        return "" if os.path.samestat(ours, theirs) else _OTHER.format(upper)

    def _as_overlay(self, mounts: Sequence[Mount], upper: str) -> Sequence[Mount]:
        """Returns mounts in whose form layers above the lowest one are written."""
        if self._snapshotter != "overlayfs":
            return mounts
        return [Mount("overlay", "overlay", "", (f"upperdir={upper}", f"lowerdir={upper}"))]

    def _write(self, mounts: Sequence[Mount], tar: bytes) -> None:
        number = os.memfd_create("proof", os.MFD_CLOEXEC)
        with open(number, "r+b", buffering=0) as file:  # noqa: PTH123 - a descriptor
            file.write(tar)
            self._writer.write(mounts, VerifiedTar(file, digest_of(tar)), lambda: False)


def _why_not_written(upper: Path, name: str) -> str:
    """Returns what our layer lacks in a directory; "" if nothing."""
    found = (upper / name).lstat()
    owner = (found.st_uid, found.st_gid)
    if owner != (_OWNER, _GROUP):
        return f"{upper} does not keep owners: found {owner[0]}:{owner[1]}"
    if stat.S_IMODE(found.st_mode) != _MODE:
        return f"{upper} does not keep modes: found {stat.S_IMODE(found.st_mode):o}, not {_MODE:o}"
    if os.getxattr(upper / name, _CAPABILITY_XATTR) != _CAPABILITY:
        return f"{upper} does not keep file capabilities"
    return ""


def _ours(name: str) -> bytes:
    record = f" SCHILY.xattr.{_CAPABILITY_XATTR}=".encode() + _CAPABILITY + b"\n"
    length = len(record) + len(str(len(record) + 2))
    pax = str(length).encode() + record
    return b"".join(
        (
            _header("pax", b"x", size=len(pax)),
            pax.ljust(-(-len(pax) // _BLOCK) * _BLOCK, b"\0"),
            _header(name, b"0", mode=_MODE),
            _header(f"{name}.device", b"3", mode=0o600),
            _header(f"{name}.d/", b"5", mode=0o755),
            _header(f"{name}.d/.wh..wh..opq", b"0", mode=0o600),
            bytes(2 * _BLOCK),
        )
    )


def _linking(name: str) -> bytes:
    return _header(f"{name}.link", b"1", link=name, mode=_MODE) + bytes(2 * _BLOCK)


def _header(name: str, kind: bytes, *, link: str = "", mode: int = 0, size: int = 0) -> bytes:
    """Returns a header of a USTAR archive; a device is 1/3."""
    raw = b"".join(
        (
            name.encode().ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (mode, *((_OWNER, _GROUP) if kind == b"0" else (0, 0))),
            b"%011o\0%011o\0" % (size, 0),
            b" " * 8,
            kind,
            link.encode().ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % ((1, 3) if kind == b"3" else (0, 0)),
            bytes(167),
        )
    )
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]
