"""Opens layers as plain tars whose bytes this process has hashed (ADR 0046).

What always holds: the digest of a `VerifiedTar` is that of the bytes of its open file, by our own
hashing, never by a name or label. A plain layer is the store's file, if the store verified that
very file; else it is hashed here. A compressed layer is decompressed once, into a file without a
name, and hashed meanwhile: a crash leaves nothing of it.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from airside.containerd.layer_footprint import LayerFootprints, OpenTar, TarFootprint
from airside.core.disk_space import DiskSpace
from airside.core.errors import AirsideError, DiffIdMismatchError, StoppedError, UnusualLayerError
from airside.core.settings import CHUNK_BYTES
from airside.oci.chain import Step, is_compressed
from airside.oci.digest import Digest, new_hasher
from airside.oci.model import Descriptor

Stop = Callable[[], bool]

_DIFF_ID = "sha256"
"""The algorithm of diff IDs."""


class TarStore(Protocol):
    """The part of our blob store that layers are read from."""

    def open(self, digest: Digest) -> BinaryIO: ...
    def is_right(self, digest: Digest) -> bool: ...
    def is_fresh(self, digest: Digest, file: BinaryIO | None = None) -> bool: ...


@dataclass(frozen=True, slots=True)
class VerifiedTar:
    """An open tar, to be closed. `digest` is that of its bytes."""

    file: BinaryIO
    digest: Digest
    footprint_bytes: int = 0
    """The disk space that it takes when it is unpacked; 0: not measured."""

    def close(self) -> None:
        self.file.close()


class VerifiedTars:
    """Opens the layers of a store. Thread-safe. `directory` is for decompressed tars."""

    def __init__(
        self,
        store: TarStore,
        open_tar: OpenTar,
        directory: Path,
        space: DiskSpace,
        footprints: LayerFootprints | None = None,
    ) -> None:
        self._store, self._open_tar = store, open_tar
        self._directory, self._space, self._footprints = directory, space, footprints

    def open(self, step: Step, stop: Stop) -> VerifiedTar:
        """Opens a layer. Raises DiffIdMismatchError if its tar is not what the config says.

        UnusualLayerError: it cannot be read here, so containerd shall say what is wrong with it.
        StoppedError.
        """
        try:
            found = self._opened(step.layer, stop)
        except (StoppedError, DiffIdMismatchError):
            raise
        except (AirsideError, OSError) as exc:
            raise UnusualLayerError(f"it cannot be read here: {exc}") from exc
        if found.digest != step.diff_id:
            found.close()
            raise mismatch(step, found.digest)
        return found

    def _opened(self, layer: Descriptor, stop: Stop) -> VerifiedTar:
        chunks = self._open_tar(layer, stop) if is_compressed(layer) else None
        if chunks is None:
            return self._plain(layer.digest, stop)
        with contextlib.closing(chunks):
            return self._decompressed(layer.digest, chunks, stop)

    def _plain(self, digest: Digest, stop: Stop) -> VerifiedTar:
        file = self._store.open(digest)
        try:
            is_diff_id = digest.algorithm == _DIFF_ID  # a blob may be named by another hash
            if is_diff_id and self._store.is_right(digest) and self._store.is_fresh(digest, file):
                return VerifiedTar(file, digest)
            return VerifiedTar(file, _hashed(file, stop))
        except BaseException:
            file.close()
            raise

    def _decompressed(self, digest: Digest, chunks: Iterator[bytes], stop: Stop) -> VerifiedTar:
        hasher, footprint = new_hasher(_DIFF_ID), TarFootprint()
        file: BinaryIO = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        try:
            for chunk in _until(stop, chunks):
                hasher.update(chunk)
                footprint.feed(chunk)
                with self._space.writing(self._directory, len(chunk)):
                    _write(file, chunk)
        except BaseException:
            file.close()
            raise
        finally:
            if self._footprints is not None:
                self._footprints.learn(digest, footprint.size_bytes)
        return VerifiedTar(file, Digest(_DIFF_ID, hasher.hexdigest()), footprint.size_bytes)


def mismatch(step: Step, found: Digest) -> DiffIdMismatchError:
    """Returns the error of a layer whose tar is another than the config says."""
    return DiffIdMismatchError(
        f"layer {step.layer.digest} unpacks to {found}, but the image's config says "
        f"{step.diff_id}: build or save the image again",
        blob=step.layer.digest,
        expected=step.diff_id,
        found=found,
    )


def _until(stop: Stop, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if stop():
            raise StoppedError("stopped while a layer was read")
        yield chunk


def _write(file: BinaryIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


def _hashed(file: BinaryIO, stop: Stop) -> Digest:
    hasher = new_hasher(_DIFF_ID)
    for chunk in _until(stop, iter(partial(file.read, CHUNK_BYTES), b"")):
        hasher.update(chunk)
    return Digest(_DIFF_ID, hasher.hexdigest())
