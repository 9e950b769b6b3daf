"""Proves that the snapshots of erofs which we see are containerd's.

A snapshot is prepared, and containerd applies a small layer to it. What that leaves in the
snapshot's directory, as seen here, shows whether the directory is the same, and whether a layer is
`layer.erofs` alone: later containerds may put what dm-verity needs beside it, which we do not make.
"""

import io
import os
import tempfile

from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.containerd.client import Client
from airside.containerd.erofs.platform import EROFS, Mkfs, why_no_index
from airside.containerd.erofs.snapshot_directory import (
    LAYER,
    UPPER,
    directory_of,
    names_in,
    open_fresh,
)
from airside.containerd.erofs.tar_index import IndexLimits, make_index
from airside.containerd.proof_snapshot import ProofSnapshot, why_not_proved
from airside.core.errors import AirsideError


class ErofsProof:
    """One try with one containerd."""

    def __init__(
        self, client: Client, identity: str, mkfs: Mkfs | None, kernel: tuple[int, ...]
    ) -> None:
        self._client, self._identity = client, identity
        self._mkfs, self._why_no_index = mkfs, why_no_index(mkfs, kernel)

    def run(self) -> str:
        """Returns why layers are to be unpacked by containerd; "" if we can write them.

        Raises ContainerdError if containerd is away.
        """
        if why := self._why_no_index or self._why_no_process():
            return why
        return why_not_proved(self._client, EROFS, self._identity, _tried)

    def _why_no_process(self) -> str:
        """Returns why mkfs.erofs cannot be run as `nobody`, "" if it can."""
        assert self._mkfs is not None
        try:
            with tempfile.TemporaryFile() as tar:
                tar.write(_tar("proof"))
                tar.flush()
                uuid = "00000000-0000-0000-0000-000000000000"
                make_index(self._mkfs.path, tar, uuid, IndexLimits(), lambda: False)
        except (AirsideError, OSError) as exc:
            return str(exc)
        return ""


def _tried(snapshot: ProofSnapshot) -> str:
    name, directory = snapshot.name, directory_of(snapshot.mounts)
    number = open_fresh(directory)
    try:
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            return f"{directory} cannot be written"
        before = names_in(number)
        snapshot.apply(_tar(name))
        more = names_in(number) - before
        is_unpacked = name in names_in(f"{directory}/{UPPER}")
    finally:
        os.close(number)
    if is_unpacked:
        return "containerd's differ erofs is not in use: it is no default of the diff service"
    if LAYER not in more:
        return f"containerd's snapshots are not those in {directory}: it mounts another there"
    others = ", ".join(sorted(more - {LAYER}))
    return f"containerd's layers are more than {LAYER}: {others}" if others else ""


def _tar(name: str) -> bytes:
    """Returns a tar with an empty file."""
    out = io.BytesIO()
    write_archive(out, [Member(name, blob_of(b""))])
    return out.getvalue()
