"""How a blob enters containerd without being sent (design 4.17).

containerd's metadata store takes a write that names a digest which its content directory already
holds, without data. So a blob of our store is hard-linked into that directory (or copied, on
another file system), then committed with all its labels under a lease. Where that does not go, it
is sent; correctness never depends on the fast way.

Always true: nothing is ever given a name in `blobs/<alg>` that is no digest (containerd's garbage
collection would fail for good); temporary files lie in a private directory beside it. What is
linked is recorded before (`Intents`), so that a crash leaves no file that nobody knows.
"""

import contextlib
import errno
import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from airside.containerd.client import Client
from airside.containerd.services.content import BlobInfo
from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    NotFoundError,
    StoreError,
)
from airside.core.failpoints import fault
from airside.core.settings import MIB
from airside.oci.digest import Digest, digest_of, new_hasher
from airside.oci.model import Descriptor
from airside.ports.publication import missing_labels

log = logging.getLogger("airside.containerd")

LINK, COPY, STREAM, HELD = "link", "copy", "stream", "held"
_TRIES = 3
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
PROOF_SECONDS = 60.0


class BlobSource(Protocol):
    """Our store, as far as blobs leave it."""

    def path(self, digest: Digest) -> Path: ...
    def open(self, digest: Digest) -> BinaryIO: ...


class Intents(Protocol):
    """The durable record of links that are about to be made, of one runtime."""

    def record(self, targets: Mapping[str, str]) -> None: ...
    def clear(self, targets: Iterable[str]) -> None: ...
    def left(self) -> list[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """A blob to enter: what it is, and all the labels that it shall have."""

    descriptor: Descriptor
    labels: Mapping[str, str]


class Adopter:
    """Enters blobs into one namespace of one containerd. Thread-safe.

    `root`: containerd's content directory, empty if unknown. `identity` tells our leases, ingest
    keys and private directory from those of others.
    """

    def __init__(
        self, client: Client, store: BlobSource, intents: Intents, root: str, identity: str
    ) -> None:
        self._client, self._store, self._intents = client, store, intents
        self._root = Path(root) if root else None
        self._identity = identity
        self._private = Path(root, f".{identity}") if root else None
        self.why_streamed = "it is not proved yet that its content directory is ours to use"

    @property
    def shares_directory(self) -> bool:
        """Whether blobs need not be sent."""
        return not self.why_streamed

    # the proof

    def prove(self) -> None:
        """Try the fast way with a small blob of our own; `why_streamed` is empty if it goes."""
        self.why_streamed = self._try() or ""
        if self.why_streamed:
            log.warning("%s: blobs are sent: %s", self._client.channel.socket, self.why_streamed)

    def _try(self) -> str | None:
        if self._root is None:
            return "containerd does not tell where its content directory is"
        if not self._root.parent.is_dir():  # a fresh containerd makes its own at the first blob
            return f"its content directory {self._root} is not visible here"
        try:
            return self._try_in(self._root, f"airside {uuid.uuid4()}\n".encode())
        except OSError as exc:
            return f"{self._root} cannot be written: {exc.strerror}"

    def _try_in(self, root: Path, raw: bytes) -> str | None:
        digest = digest_of(raw)
        lease = f"{self._identity}-proof-{uuid.uuid4().hex[:8]}"
        file, target = self._private_file(raw), self._target(digest)
        try:
            self._client.leases.create(lease, seconds=PROOF_SECONDS)
            self._intents.record({str(target): str(digest)})
            file.rename(target)
            self._client.content.adopt(self._key(digest), digest, len(raw), {}, lease)
            if b"".join(self._client.content.read(digest)) != raw:
                return f"{root} is another directory than containerd's"
        except ContainerdError as exc:
            if exc.context.get("status") != "OUT_OF_RANGE":
                raise
            self._client.content.abort(self._key(digest))
            return (
                f"it does not take a blob that lies in {root}: the directory is another one, or "
                "content_sharing_policy is not shared"
            )
        finally:
            self._forget_proof(file, target, lease, digest)
        return None

    def _forget_proof(self, file: Path, target: Path, lease: str, digest: Digest) -> None:
        """Of an error here the next connection's sweep takes care: the intent stays."""
        with contextlib.suppress(OSError):
            file.unlink()
        with contextlib.suppress(AirsideError, OSError):
            self._hand_over(target, digest)
            self._client.content.delete(digest)  # nobody else has one like it
            self._intents.clear([str(target)])
        with contextlib.suppress(AirsideError):
            self._client.leases.delete(lease)
        self._drop_private()

    def _hand_over(self, target: Path, digest: Digest) -> None:
        """Have containerd delete a file of its content directory, at its next collection.

        A blob that nothing refers to goes then. To unlink a file there makes a collection that runs
        at that moment leave its garbage behind, without a word (tried on 1.6, 1.7 and 2.1). So it
        is done only where containerd does not take the file: it is not in its directory, or it
        shares nothing.
        """
        try:
            size_bytes = target.stat().st_size
            self._client.content.adopt(self._key(digest), digest, size_bytes, {}, "")
        except (FileNotFoundError, ConflictError):
            return
        except ContainerdError as exc:
            if exc.context.get("status") != "OUT_OF_RANGE":
                raise
            self._client.content.abort(self._key(digest))
            target.unlink(missing_ok=True)

    # blobs

    def place(self, blobs: Sequence[Placed], lease: str) -> Counter[str]:
        """Have all these blobs in the namespace, labelled and held by the lease.

        Gives how many went which way. Raises ContainerdError, StoreError, and NotFoundError if
        the lease is gone.
        """
        ways: Counter[str] = Counter()
        absent = [blob for blob in blobs if not self._holds(blob, lease)]
        ways[HELD] = len(blobs) - len(absent)
        linked: dict[Digest, str] = {}
        try:
            if self.shares_directory:
                linked = self._link_all(absent)
            for blob in absent:
                ways[self._enter(blob, lease, linked.get(blob.descriptor.digest, ""))] += 1
        finally:
            self._settle(linked)
            self._drop_private()  # what was collected in between was copied once more
        return +ways

    def _settle(self, linked: Mapping[Digest, str]) -> None:
        """Forget the intents of what was adopted; what was not stays recorded."""
        known = [d for d in linked if self._is_known(d)]
        self._intents.clear([str(self._target(digest)) for digest in known])

    def _is_known(self, digest: Digest) -> bool:
        with contextlib.suppress(AirsideError):
            return self._client.content.info(digest) is not None
        return False

    def _holds(self, blob: Placed, lease: str) -> bool:
        """Take a blob that the namespace has into the lease, and add the labels it lacks."""
        digest = blob.descriptor.digest
        info = self._client.content.info(digest)
        return info is not None and self._hold(blob, info, lease)

    def _hold(self, blob: Placed, info: BlobInfo, lease: str) -> bool:
        digest = blob.descriptor.digest
        self._client.leases.add_blob(lease, digest)
        added = missing_labels(blob.labels, info.labels)
        if not added:
            return self._client.content.info(digest) is not None
        try:
            self._client.content.label(digest, added)
        except NotFoundError:  # collected just now
            return False
        return True

    def _enter(self, blob: Placed, lease: str, way: str) -> str:
        """Commit one blob; gives the way that it went."""
        descriptor = blob.descriptor
        digest, key = descriptor.digest, self._key(descriptor.digest)
        for _ in range(_TRIES if way else 0):
            try:
                self._client.content.adopt(key, digest, descriptor.size_bytes, blob.labels, lease)
            except ConflictError:
                if self._holds(blob, lease):
                    return HELD
            except ContainerdError as exc:
                if exc.context.get("status") != "OUT_OF_RANGE":
                    raise
                self._client.content.abort(key)  # the link is gone again: collected in between
                way = self._link(digest)
            else:
                fault("publish.after_adopt")
                return way
        return self._send(blob, lease, key)

    def _send(self, blob: Placed, lease: str, key: str) -> str:
        descriptor = blob.descriptor
        for _ in range(_TRIES):
            with self._open(descriptor.digest) as file:
                try:
                    self._client.content.send(
                        key, descriptor.digest, descriptor.size_bytes, blob.labels, lease, file
                    )
                except ConflictError:
                    if self._holds(blob, lease):
                        return HELD
                    continue
                except ContainerdError:
                    with contextlib.suppress(AirsideError):
                        self._client.content.abort(key)
                    raise
            fault("publish.after_send")
            return STREAM
        raise ContainerdError(
            f"containerd takes and loses blob {descriptor.digest} again and again"
        )

    def _open(self, digest: Digest) -> BinaryIO:
        try:
            return self._store.open(digest)
        except NotFoundError as exc:
            raise StoreError(f"blob {digest} was collected meanwhile", blob=digest) from exc

    # files

    def _link_all(self, blobs: Sequence[Placed]) -> dict[Digest, str]:
        """Put files into the content directory, durably; gives the way of each that went."""
        digests = [blob.descriptor.digest for blob in blobs]
        if not digests:
            return {}
        self._intents.record({str(self._target(d)): str(d) for d in digests})
        fault("publish.after_intent")
        found = {digest: way for digest in digests if (way := self._link(digest))}
        for directory in {self._target(digest).parent for digest in found}:
            _sync_directory(directory)
        fault("publish.after_link")
        return found

    def _link(self, digest: Digest) -> str:
        """Give a blob of ours its name in the content directory; empty if it can't be had."""
        ours, target = self._store.path(digest), self._target(digest)
        try:
            target.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
            try:
                os.link(ours, target)
            except FileExistsError:
                return self._take_over(ours, target, digest)
            except OSError as exc:
                if exc.errno not in _NO_LINK:
                    raise
                self._copy(ours).rename(target)
                return COPY
        except OSError as exc:
            log.warning("blob %s is sent: %s: %s", digest, target, exc.strerror)
            return ""
        return LINK

    def _take_over(self, ours: Path, target: Path, digest: Digest) -> str:
        """A file is there that the namespace does not know: ours, another's, or a damaged one.

        containerd adopts a damaged one of the right size without a word.
        """
        if target.samefile(ours):
            return LINK
        if _hashes_to(target, digest):
            return LINK
        log.warning("%s is damaged: it is replaced", target)
        fresh = self._fresh(ours)
        way = LINK if fresh.samefile(ours) else COPY
        fresh.replace(target)
        return way

    def is_same(self, digest: Digest) -> bool:
        """Whether containerd's file of a blob is ours, by hard link."""
        try:
            return self._target(digest).samefile(self._store.path(digest))
        except OSError:
            return False

    def replace(self, digest: Digest) -> bool:
        """Give the store's blob the name in the content directory in place of what has it.

        False where that directory is not proved to be containerd's. Raises StoreError.
        """
        if not self.shares_directory:
            return False
        target = self._target(digest)
        fault("repair.before_replace")
        try:
            self._fresh(self._store.path(digest)).replace(target)
        except OSError as exc:
            raise StoreError(f"cannot replace {target}: {exc.strerror}", path=target) from exc
        _sync_directory(target.parent)
        self._drop_private()
        fault("repair.after_replace")
        return True

    def _fresh(self, ours: Path) -> Path:
        """Another name of a blob of ours in the private directory, or a copy."""
        name = self._private_name()
        try:
            os.link(ours, name)
        except OSError as exc:
            if exc.errno not in _NO_LINK:
                raise
            return self._copy(ours)
        return name

    def _copy(self, ours: Path) -> Path:
        """A durable copy in the private directory."""
        name = self._private_name()
        with ours.open("rb") as source, name.open("xb") as copy:
            _copy_bytes(source.fileno(), copy.fileno())
            os.fchmod(copy.fileno(), 0o444)
            os.fsync(copy.fileno())
        return name

    def _private_file(self, raw: bytes) -> Path:
        name = self._private_name()
        with name.open("xb") as file:
            file.write(raw)
            os.fchmod(file.fileno(), 0o444)
        (self._target(digest_of(raw)).parent).mkdir(mode=0o755, exist_ok=True, parents=True)
        return name

    def _private_name(self) -> Path:
        assert self._private is not None
        self._private.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._private / uuid.uuid4().hex

    def _drop_private(self) -> None:
        if self._private is not None:
            with contextlib.suppress(OSError):
                self._private.rmdir()

    def _target(self, digest: Digest) -> Path:
        assert self._root is not None
        return self._root / "blobs" / digest.algorithm / digest.hex

    def _key(self, digest: Digest) -> str:
        return f"{self._identity}-{digest}"

    # after a crash

    def sweep(self) -> None:
        """Remove what an interrupted publish left: leases, ingests, private files, links."""
        for lease in self._client.leases.list():
            if lease.startswith(f"{self._identity}-"):
                # collected at once: snapshots that only it holds may be half written, after a
                # power cut, and must not be taken for unpacked
                self._client.leases.delete(lease, sync=True)
        for key in self._client.content.ingests():
            if key.startswith(f"{self._identity}-"):
                self._client.content.abort(key)
        self._sweep_private()
        self._sweep_links()

    def _sweep_private(self) -> None:
        if self._private is None:
            return
        with contextlib.suppress(OSError):
            for leftover in self._private.iterdir():
                leftover.unlink()
        self._drop_private()

    def _sweep_links(self) -> None:
        """Have intended files removed that no namespace knows."""
        left = self._intents.left()
        namespaces = self._client.namespaces.list() if left else []
        for text, name in left:
            digest = Digest(*name.split(":", 1))
            known = any(
                self._client.content.info(digest, namespace=n) is not None for n in namespaces
            )
            if not known:
                with contextlib.suppress(OSError):
                    self._hand_over(Path(text), digest)
        self._intents.clear([text for text, _ in left])


def _sync_directory(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise StoreError(f"cannot sync {path}: {exc.strerror}", path=path) from exc


def _hashes_to(path: Path, digest: Digest) -> bool:
    hasher = new_hasher(digest.algorithm)
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            hasher.update(chunk)
    return hasher.hexdigest() == digest.hex


def _copy_bytes(source: int, target: int) -> None:
    """Copy within the kernel where it can, which shares extents on some file systems."""
    remaining = os.fstat(source).st_size
    while remaining:
        try:
            count = os.copy_file_range(source, target, min(remaining, 64 * MIB))
        except OSError as exc:
            if exc.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            count = os.sendfile(target, source, None, min(remaining, 64 * MIB))
        if not count:
            raise OSError(errno.EIO, "the file ended early")
        remaining -= count
