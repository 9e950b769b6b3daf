"""A container runtime's own files of blobs, in a directory: `ports.content.RuntimeCopies`."""

import os
from pathlib import Path

from airside.core.errors import ContainerdError
from airside.oci.digest import Digest, digest_of
from airside.ports.content import RuntimeBlob
from airside.store.local import LocalStore


class DirectoryCopies:
    """`away`: the runtime does not answer."""

    runtime = "/run/test.sock"

    def __init__(self, directory: Path, store: LocalStore) -> None:
        self.directory, self.store = directory, store
        self.away = False
        directory.mkdir()

    def path(self, digest: Digest) -> Path:
        return self.directory / digest.hex

    def link(self, digest: Digest) -> None:
        os.link(self.store.path(digest), self.path(digest))

    def put(self, digest: Digest) -> None:
        """A file of its own."""
        self.path(digest).write_bytes(self.store.path(digest).read_bytes())

    def copy(self, digest: Digest) -> RuntimeBlob | None:
        if self.away:
            raise ContainerdError("it is away")
        path = self.path(digest)
        if not path.exists():
            return None
        return RuntimeBlob(path.stat().st_size, lambda: path.open("rb"))

    def mend(self, digest: Digest) -> str:
        if self.away:
            raise ContainerdError("it is away")
        path = self.path(digest)
        if not path.exists():
            return "absent"
        if digest_of(path.read_bytes(), digest.algorithm) == digest:
            return "right"
        path.unlink()
        self.link(digest)
        return "replaced"
