"""Unpacks images: their layers become snapshots that containers run from (ADR 0017).

Images are unpacked side by side on a bounded pool, the layers of each in order, each chain ID once:
an image whose next layer is being unpacked by another gives its thread back and continues after
that one. While a layer is applied, the next compressed one is decompressed (`uncompressed_layers`).

The order makes sure that "unpacked" is never said of what a power cut can undo:

1. the chain IDs are recorded (`pending_sync`);
2. the layers are committed, and the caller may name the images, for containers can run from them;
3. the snapshotter's file system is synced, once for all images of a call;
4. the config of each gets `containerd.io/gc.ref.snapshot.<snapshotter>`, and the record ends.

Until step 4 only the lease holds the snapshots, so that deleting the lease after a power cut undoes
a half-done unpack. A snapshot that a container uses by then cannot be undone: `sweep` removes what
it can, and the rest is rewritten when the image is unpacked again (`LayerUnpacker.mend`).

A kill of us or of containerd at any point leaves committed snapshots, which the next call finds,
and at most one prepared one per thread, which `sweep` removes. The blobs are in the content store
already, under the lease; the caller makes and deletes the lease.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial

from airside.containerd.chain_claims import ChainClaims
from airside.containerd.client import Client
from airside.containerd.early_archive import EarlyMeans, OpenEarly
from airside.containerd.fair_pool import FairPool
from airside.containerd.fsync import SharedSync
from airside.containerd.layers_ahead import LayersAhead
from airside.containerd.pending_sync import MemoryRecord, PendingSync
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.snapshot_writer import SnapshotWriter
from airside.containerd.uncompressed_layers import UncompressedLayers
from airside.containerd.unpack_layer import LayerSource, LayerUnpacker
from airside.containerd.verified_tars import VerifiedTars
from airside.core.disk_space import DiskSpace
from airside.core.errors import AirsideError, NotFoundError, StoppedError
from airside.core.failpoints import fault
from airside.core.priority import NORMAL, Priority
from airside.oci.chain import Rootfs, Step
from airside.oci.digest import Digest

log = logging.getLogger("airside.containerd")

__all__ = ["UncompressedLayers", "Unpacked", "Unpacker", "Writing"]

Stop = Callable[[], bool]
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot."
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The result of unpacking an image: layers unpacked now, and layers found unpacked."""

    layers: int
    layers_there: int
    seconds: float


@dataclass(eq=False, slots=True)
class _Image:
    """An image being unpacked: `position` is its next layer."""

    rootfs: Rootfs
    lease: str
    stop: Stop
    steps: tuple[Step, ...]
    position: int = -1
    made: int = 0
    tries: int = 0
    needed: list[Digest] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    done: "Future[None]" = field(default_factory=Future)

    @property
    def top(self) -> Digest:
        return self.steps[-1].chain


@dataclass(frozen=True, slots=True)
class Writing:
    """What writes layers instead of containerd's Apply, and what opens them for it."""

    writer: SnapshotWriter
    tars: VerifiedTars
    priority: Priority = NORMAL
    """That of the threads that decompress and write."""


class Unpacker:
    """Unpacks into one snapshotter of one namespace. Thread-safe. Close it, then the client.

    `threads` is how many layers are applied at once, by all calls together. `identity` is the
    prefix of our snapshots. `space` is that of the snapshotter's directory. Without
    `uncompressed_layers` containerd decompresses. With `writing` we write layers ourselves, as long
    as its writer is on.
    """

    def __init__(
        self,
        client: Client,
        snapshotter: str,
        *,
        threads: int,
        identity: str = "airside",
        space: SnapshotSpace | None = None,
        uncompressed_layers: UncompressedLayers | None = None,
        pending_sync: PendingSync | None = None,
        writing: Writing | None = None,
    ) -> None:
        space = space or SnapshotSpace(None, DiskSpace(0))
        self._client, self._uncompressed_layers = client, uncompressed_layers
        self._pending_sync = pending_sync or PendingSync(MemoryRecord(), "")
        self._label = f"{GC_SNAPSHOT}{snapshotter}"
        writer, tars = (writing.writer, writing.tars) if writing else (None, None)
        priority = writing.priority if writing else NORMAL
        self._layer_unpacker = LayerUnpacker(
            client, snapshotter, identity=identity, space=space, writer=writer
        )
        self._ahead = LayersAhead(
            uncompressed_layers,
            tars,
            lambda: self._layer_unpacker.writes,
            threads=threads,
            priority=priority,
        )
        self._disk = SharedSync(space.root)
        self._closed = threading.Event()
        lanes = threads if writer is None else 2 * threads  # small layers do not wait for big ones
        self._pool = FairPool(lanes, "unpack", priority)
        self._claims = ChainClaims()

    def close(self, *, wait: bool = True) -> None:
        """Ends running work; without `wait` a moment later: closing the client hastens it."""
        self._closed.set()
        self._pool.shutdown(wait=wait)
        self._ahead.close(wait=wait)

    def early_means(
        self, identity: str, open_tar: OpenEarly, pass_number: Callable[[], int]
    ) -> EarlyMeans:
        """Returns what early archives share with the images that are unpacked here."""
        return EarlyMeans(
            self._client,
            identity,
            self._layer_unpacker,
            self._claims,
            self._pool,
            self._pending_sync,
            open_tar,
            self._closed.is_set,
            pass_number,
        )

    def sweep(self) -> int:
        """Removes what a dead process of ours left. Returns how many snapshots.

        Call it at each connect, before the first unpack and after our old leases were deleted.
        """
        if self._uncompressed_layers is not None:
            self._uncompressed_layers.sweep()
        swept = self._layer_unpacker.sweep()
        left = self._pending_sync.left()
        if left:  # a container may use it by now, and nothing else makes it durable
            self._disk.sync()
            self._pending_sync.forget(left)
        return swept + self._sweep_suspects()

    def _sweep_suspects(self) -> int:
        """Removes the snapshots that a power cut may have damaged, children before parents."""
        left, count = self._pending_sync.suspects(), 0
        while gone := [chain for chain in left if self._layer_unpacker.discard(chain)]:
            self._pending_sync.forget(gone)
            left = [chain for chain in left if chain not in gone]
            count += len(gone)
        for chain in left:
            log.error(
                "snapshot %s was not synced before a power cut and is in use; "
                "it is rewritten when its image is published",
                chain,
            )
        return count

    def is_unpacked(self, rootfs: Rootfs) -> bool:
        """Returns True if all layers are unpacked, durable, and held as long as the config is."""
        top = rootfs.steps[-1].chain
        config = self._client.content.info(rootfs.config)
        said = config.labels.get(self._label) if config else None
        return (
            said == str(top) and self._layer_unpacker.has(top) and not self._suspects(rootfs.steps)
        )

    def _suspects(self, steps: Sequence[Step]) -> bool:
        return any(self._pending_sync.is_suspect(step.chain) for step in steps)

    def unpack(
        self,
        rootfs: Rootfs,
        *,
        lease: str,
        stop: Stop,
        ready: Callable[[], None] = lambda: None,
    ) -> Unpacked:
        """Unpacks one image. Raises the errors of `unpack_all`, and those of `ready`."""
        [found] = self.unpack_all([rootfs], lease=lease, stop=stop, ready=ready)
        if isinstance(found, AirsideError):
            raise found
        return found

    def unpack_all(
        self,
        images: Sequence[Rootfs],
        *,
        lease: str,
        stop: Stop,
        ready: Callable[[], None] = lambda: None,
    ) -> list[Unpacked | AirsideError]:
        """Unpacks images side by side. Returns for each the result, or the error.

        `ready` is called when containers can run from all of them, before they are durable.

        DiffIdMismatchError: a layer is not what the config says. NotFoundError: the lease or a blob
        is gone; restart the publish. StorageFullError, StoreError, ContainerdError: retry later.
        """

        def stopped() -> bool:
            return self._closed.is_set() or stop()

        jobs = [_Image(rootfs, lease, stopped, rootfs.steps) for rootfs in images]
        for job in jobs:
            self._submit(job)
        wait(job.done for job in jobs)
        try:
            return self._named_and_finished(jobs, ready)
        finally:
            for job in jobs:
                self._claims.done(job.needed)

    def _named_and_finished(
        self, jobs: list[_Image], ready: Callable[[], None]
    ) -> list[Unpacked | AirsideError]:
        errors = [job.done.exception() for job in jobs]
        for error in errors:
            if error is not None and not isinstance(error, AirsideError):
                raise error
        good = [job for job, error in zip(jobs, errors, strict=True) if error is None]
        if len(good) == len(jobs):
            ready()
        failed = self._finish(good)
        return [failed.get(job) or _result(job) for job in jobs]

    def _finish(self, jobs: list[_Image]) -> dict[_Image, AirsideError]:
        """Syncs once, then labels each config with the snapshot that it holds."""
        fresh = [job for job in jobs if job.made or not self._is_done(job)]
        if not fresh:
            return {}
        try:
            self._disk.sync()
            fault("unpack.after_sync")
        except AirsideError as exc:
            return dict.fromkeys(fresh, exc)
        failed: dict[_Image, AirsideError] = {}
        for job in fresh:
            try:
                self._layer_unpacker.label_early(job.steps)
                self._client.content.label(job.rootfs.config, {self._label: str(job.top)})
            except AirsideError as exc:
                failed[job] = exc
        done = [job for job in fresh if job not in failed]
        self._pending_sync.forget({step.chain for job in done for step in job.steps})
        return failed

    def _is_done(self, job: _Image) -> bool:
        """Returns True if an image that was found unpacked is durable and labelled."""
        # made early, or by an image of another config: a label of before says nothing of it
        is_recorded = self._pending_sync.has_any(step.chain for step in job.steps)
        return not is_recorded and self.is_unpacked(job.rootfs)

    # one image, layer by layer

    def _submit(self, image: _Image) -> None:
        try:
            self._pool.submit(image.lease, partial(self._unpack_layers, image))
        except RuntimeError:  # closed
            self._end(image, StoppedError("stopped before an image was unpacked"))

    def _unpack_layers(self, image: _Image) -> None:
        """Unpacks the remaining layers; returns early if another image unpacks the next one."""
        try:
            while self._unpack_next(image):
                if image.position == len(image.steps):
                    self._end(image, None)
                    return
        except BaseException as exc:  # noqa: BLE001 - raised in the thread that waits
            self._end(image, exc)

    def _unpack_next(self, image: _Image) -> bool:
        """Unpacks the next layer. Returns False if another image is unpacking it."""
        if image.stop():
            raise StoppedError("stopped while an image was unpacked")
        if image.position < 0:
            image.position = self._first_missing(image)
            self._claims.need(step.chain for step in image.steps[len(image.needed) :])
            image.needed = [step.chain for step in image.steps]
            if not self._layer_unpacker.is_durable:
                self._pending_sync.expect(image.needed[image.position :])
            return True
        step = image.steps[image.position]
        if not self._claim(step, image):
            return False
        try:
            image.made += self._add(step, image)
            image.position += 1
        except NotFoundError:
            image.tries += 1
            if image.tries == _TRIES:
                raise
            image.position = -1  # the parent was removed: look again
        finally:
            self._claims.release(step.chain)
        return True

    def _first_missing(self, image: _Image) -> int:
        """Returns the first layer without a snapshot. The lease holds those below from here on."""
        if self._layer_unpacker.has(image.top) and not self._suspects(image.steps):
            position = len(image.steps)
        else:
            missing = (n for n, s in enumerate(image.steps) if not self._is_good(s.chain))
            position = next(missing, len(image.steps))
        if position:
            self._layer_unpacker.hold(image.steps[position - 1].chain, image.lease)
        return position

    def _is_good(self, chain: Digest) -> bool:
        return self._layer_unpacker.has(chain) and not self._pending_sync.is_suspect(chain)

    def _claim(self, step: Step, image: _Image) -> bool:
        """Claims a chain ID for this thread; else queues the image behind the one that has it."""
        self._look_ahead(image)
        return self._claims.claim(step.chain, partial(self._submit, image))

    def _end(self, image: _Image, error: BaseException | None) -> None:
        self._ahead.drop_all(image)
        if error is None:
            image.done.set_result(None)
        else:
            image.done.set_exception(error)

    def _add(self, step: Step, image: _Image) -> bool:
        with self._ahead.source(step, image.lease, image.stop) as source:
            if self._layer_unpacker.has(step.chain):
                return self._mend_if_suspect(step, image, source)
            return self._layer_unpacker.add(step, image.lease, image.stop, source)

    def _mend_if_suspect(self, step: Step, image: _Image, source: LayerSource) -> bool:
        """Rewrites an existing snapshot if it is suspect. Returns True if it was rewritten."""
        self._layer_unpacker.hold(step.chain, image.lease)
        if not self._pending_sync.is_suspect(step.chain):
            return False
        self._layer_unpacker.mend(step, image.lease, image.stop, source)
        return True

    def _look_ahead(self, image: _Image) -> None:
        """Starts to decompress the layer after the next one."""
        for step in image.steps[image.position + 1 : image.position + 2]:
            if not self._claims.is_claimed(step.chain):
                self._ahead.prepare(step, image, image.lease, image.stop)


def _result(job: _Image) -> Unpacked | AirsideError:
    error = job.done.exception()
    if isinstance(error, AirsideError):
        return error
    there = len(job.steps) - job.made
    return Unpacked(job.made, there, time.monotonic() - job.started)
