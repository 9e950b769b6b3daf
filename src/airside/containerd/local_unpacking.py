"""Puts together what unpacks images into the snapshotter of one containerd.

Layers are written by us where the proof succeeds and the options allow it (ADR 0046); else
containerd applies them, decompressed by us where it adopts what we decompress (ADR 0017).
"""

from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.content_directory import BlobSource
from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.discovery import Facts
from airside.containerd.early_unpacks import EarlyTars, EarlyUnpacks
from airside.containerd.erofs.layer_writer import ErofsLayerWriter
from airside.containerd.erofs.platform import EROFS, find_mkfs, kernel_numbers
from airside.containerd.erofs.proof import ErofsProof
from airside.containerd.erofs.tar_index import IndexLimits
from airside.containerd.layer_footprint import LayerFootprints, OpenTar
from airside.containerd.layer_tars import LayerTars
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_connection import WorkerConnection
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_process import started
from airside.containerd.layer_writer.worker_unit import UnitWorker, is_needed
from airside.containerd.pending_sync import PendingSync
from airside.containerd.runtime_options import RuntimeOptions
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.snapshot_writer import BY_SETTING, LayerWriter, Proof, SnapshotWriter
from airside.containerd.uncompressed_layers import UncompressedLayers
from airside.containerd.unpack import Unpacker, Writing
from airside.containerd.verified_tars import VerifiedTars
from airside.containerd.writer_proof import WriterProof
from airside.ports.unpacking_facts import AGENT, UNIT, UnpackingFacts


class LocalUnpacking:
    """The unpacker of one connection. Thread-safe. Start it after adoption is proved; close it."""

    def __init__(
        self,
        client: Client,
        facts: Facts,
        store: BlobSource,
        options: RuntimeOptions,
        open_tar: OpenTar | None,
        pending_sync: PendingSync | None,
    ) -> None:
        self._client, self._facts, self._options = client, facts, options
        self._mkfs = find_mkfs() if facts.snapshotter == EROFS else None
        footprints = LayerFootprints(store.open, open_tar) if open_tar is not None else None
        self._uncompressed = self._uncompressed_layers(open_tar, footprints)
        is_unit = facts.snapshotter != EROFS and is_needed(options.layers_socket)
        self._writes_by = UNIT if is_unit else AGENT
        writing = self._writing(store, open_tar, footprints)
        self._writer = writer = writing.writer if writing is not None else None
        where = Path(facts.snapshotter_root) if facts.snapshotter_root else None
        self.unpacker = Unpacker(
            client,
            facts.snapshotter,
            threads=options.threads,
            identity=options.identity,
            space=SnapshotSpace(where, options.space, footprints),
            uncompressed_layers=self._uncompressed,
            pending_sync=pending_sync,
            writing=writing,
        )
        self.early: EarlyUnpacks | None = None
        temporary = options.temporary if options.early else None
        if writer is not None and temporary is not None and isinstance(open_tar, LayerTars):
            tars = EarlyTars(open_tar, temporary, options.space, footprints)
            self.early = EarlyUnpacks(self.unpacker, options.identity, tars, lambda: writer.is_on)

    def _uncompressed_layers(
        self, open_tar: OpenTar | None, footprints: LayerFootprints | None
    ) -> UncompressedLayers | None:
        if not self._facts.content_root or open_tar is None:
            return None
        root, options = Path(self._facts.content_root), self._options
        directory = root / f".{options.identity}-twins"
        return UncompressedLayers(
            self._client, directory, root, open_tar, options.space, footprints
        )

    def _writing(
        self, store: BlobSource, open_tar: OpenTar | None, footprints: LayerFootprints | None
    ) -> Writing | None:
        options = self._options
        if options.temporary is None or open_tar is None:
            return None
        tars = VerifiedTars(store, open_tar, options.temporary, options.space, footprints)
        limits = LayerLimits(content_bytes=options.limits.blob_bytes)
        if self._facts.snapshotter == EROFS:
            index_limits = IndexLimits(members=limits.entries)
            writer: LayerWriter = ErofsLayerWriter(self._mkfs, index_limits)
        else:
            pool = WorkerPool(start=self._start_worker)
            writer = DirectoryWriter(pool, limits, most_big=options.threads)
        return Writing(SnapshotWriter(writer), tars, options.priority)

    def _start_worker(self) -> WorkerConnection:
        options = self._options
        if self._writes_by == UNIT:
            return UnitWorker(options.layers_socket, options.priority)
        return started(options.priority)

    def start(self, *, shares_content: bool) -> None:
        """Proves that we can write layers. `shares_content`: containerd adopts blobs.

        Raises ContainerdError if containerd is away.
        """
        if self._uncompressed is not None and not shares_content:
            self._uncompressed.disable()
        if self._writer is not None:
            self._writer.prove(self._proof(self._writer))

    def _proof(self, writer: SnapshotWriter) -> Proof:
        snapshotter, identity = self._facts.snapshotter, self._options.identity
        if snapshotter == EROFS:
            return ErofsProof(self._client, identity, self._mkfs, kernel_numbers())
        return WriterProof(self._client, snapshotter, writer, identity)

    def close(self) -> None:
        """Ends running work a moment later."""
        self.unpacker.close(wait=False)
        if self._writer is not None:
            self._writer.close()

    @property
    def facts(self) -> UnpackingFacts:
        writer = self._writer
        if writer is None:
            return UnpackingFacts(why_applied=BY_SETTING)
        by = self._writes_by if writer.is_on else ""
        return UnpackingFacts(writer.counts, writer.why_not, writer.why_unusual, by)
