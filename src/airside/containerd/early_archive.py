"""Unpacks the layers of one archive while it is read (ADR 0047).

The layers form a tree of chain IDs. One is written when it is verified and the one below it is
there. What always holds:

- All snapshots are held by a lease of this archive, and each is recorded in `pending_sync` first.
- Nothing is raised to the importer: what fails here is unpacked, or reported, by the publisher.
- When it ends, the lease is deleted once no thread writes; what the archive's refusal leaves
  without any other user is collected at once.
"""

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Protocol

from airside.containerd.chain_claims import ChainClaims
from airside.containerd.client import Client
from airside.containerd.early_ahead import EarlyAhead
from airside.containerd.fair_pool import FairPool
from airside.containerd.pending_sync import PendingSync
from airside.containerd.verified_tars import Stop, VerifiedTar
from airside.core.errors import AirsideError, NotFoundError, StoppedError
from airside.core.failpoints import fault
from airside.oci.chain import Step, chain_ids, is_compressed
from airside.oci.digest import Digest
from airside.ports.early_layers import VerifiedLayer

log = logging.getLogger("airside.containerd")

LEASE_SECONDS = 6 * 3600.0
_END_SECONDS = 30.0
"""The time to wait for layers that are being written when an archive is refused."""


OpenEarly = Callable[[Step, VerifiedLayer, Stop], VerifiedTar]
"""Opens the tar of a verified layer, decompressed. Raises AirsideError."""


class Layers(Protocol):
    """The part of `LayerUnpacker` that is used here."""

    @property
    def is_durable(self) -> bool: ...
    def has(self, chain: Digest) -> bool: ...
    def hold(self, chain: Digest, lease: str) -> None: ...
    def write(self, step: Step, lease: str, stop: Stop, tar: Callable[[], VerifiedTar]) -> bool: ...


@dataclass(frozen=True, slots=True)
class EarlyMeans:
    """What the archives of one connection share."""

    client: Client
    identity: str
    layers: Layers
    claims: ChainClaims
    pool: FairPool
    pending_sync: PendingSync
    open_tar: OpenEarly
    is_closed: Callable[[], bool]
    pass_number: Callable[[], int]
    """Returns the number of the publisher's last pass that has begun."""


class _State(Enum):
    WAITING = auto()
    QUEUED = auto()
    THERE = auto()
    FAILED = auto()


@dataclass(eq=False, slots=True)
class _Chain:
    """A layer on those below it."""

    chain: Digest
    parent: Digest | None
    diff_id: Digest
    state: _State = _State.WAITING
    above: list["_Chain"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lacking:
    """An image of which `there` layers, the lowest, are unpacked and not all."""

    diff_ids: tuple[Digest, ...]
    chains: tuple[Digest, ...]
    there: int


class EarlyArchive:
    """Implements `EarlyLayers`. `on_end` is called once, when the lease is deleted."""

    def __init__(self, means: EarlyMeans, on_end: Callable[["EarlyArchive"], None]) -> None:
        self._means, self._on_end = means, on_end
        self.lease = f"{means.identity}-early-{uuid.uuid4().hex[:12]}"
        self._chains: dict[Digest, _Chain] = {}
        self._by_diff_id: dict[Digest, list[_Chain]] = {}
        self._layers: dict[Digest, VerifiedLayer] = {}
        self._tops: set[Digest] = set()
        """The top chains of images that are not published yet."""
        self._published: set[Digest] = set()
        self._images: list[tuple[Digest, ...]] = []
        """Those that were added and not looked at."""
        self._needed: list[Digest] = []
        self._claimed: set[_Chain] = set()
        """Those that are queued to be written."""
        self._ahead = EarlyAhead()
        self._has_lease = self._is_over = self._has_ended = False
        self._collects = True
        """True if what nobody else holds is to be collected at the end."""
        self._running = 0
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._looking = threading.Lock()
        self.kept_at = -1
        """The pass that had begun when the import was committed; -1: it is not."""

    # what the importer calls

    def add_image(self, diff_ids: tuple[Digest, ...]) -> None:
        with self._lock:
            self._images.append(diff_ids)
        self._submit(self._look)

    def add_layer(self, diff_id: Digest, layer: VerifiedLayer) -> None:
        with self._lock:
            self._layers.setdefault(diff_id, layer)
            chains = list(self._by_diff_id.get(diff_id, ()))
            ready = self._ready(chains)
        self._write_all(ready)
        self._prepare_tars([*chains, *(above for each in ready for above in each.above)])

    def keep(self) -> None:
        with self._lock:
            self.kept_at = self._means.pass_number()
        self._end_if_published()

    def discard(self) -> None:
        self.end()
        with self._idle:
            self._idle.wait_for(lambda: self._has_ended, _END_SECONDS)

    # what the connection calls

    def published(self, top: Digest) -> None:
        """An image with this top chain was published: its config holds the snapshots now."""
        with self._lock:
            self._published.add(top)
        self._end_if_published()

    def end(self) -> None:
        """Stops, and removes what nobody else holds."""
        with self._lock:
            self._is_over = True
            self._running -= self._means.pool.drop(self.lease)
            claimed, self._claimed = self._claimed, set()
            is_idle = not self._running
        for each in claimed:
            self._means.claims.release(each.chain)
        if is_idle:
            self._end()

    def _end_if_published(self) -> None:
        with self._lock:
            is_done = self.kept_at >= 0 and not self._running and self._tops <= self._published
            if not is_done or self._is_over:
                return
            self._collects = False
        self.end()

    # in the threads of the pool

    def _submit(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._is_over:
                return
            self._running += 1
        self._resubmit(call)

    def _resubmit(self, call: Callable[[], None]) -> None:
        try:
            self._means.pool.submit(self.lease, partial(self._run, call))
        except RuntimeError:  # closed: the next connection sweeps
            self.end()
            self._ran()

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except AirsideError as exc:
            if not isinstance(exc, StoppedError):
                log.debug("nothing is unpacked early: %s", exc)
        except Exception:  # a bug here fails no import, and the publisher unpacks (ADR 0008)
            log.exception("internal error while a layer was unpacked early")
        self._ran()

    def _ran(self) -> None:
        with self._lock:
            self._running -= 1
            is_last = self._is_over and not self._running
        if is_last:
            self._end()
        else:
            self._end_if_published()

    def _stopped(self) -> bool:
        return self._is_over or self._means.is_closed()

    def _look(self) -> None:
        """Finds what the images lack that were added, and begins with what is verified of it."""
        with self._looking:
            with self._lock:
                images, self._images = self._images, []
            found = [lacking for diff_ids in images if (lacking := self._lacking(diff_ids))]
            if not found:
                return
            self._prepare(found)
            with self._lock:
                for image in found:
                    self._plant(image)
                ready = self._ready(list(self._chains.values()))
        self._write_all(ready)
        self._prepare_tars(above for each in ready for above in each.above)

    def _lacking(self, diff_ids: tuple[Digest, ...]) -> "_Lacking | None":
        """Returns an image that lacks snapshots; None for one that the publisher should handle."""
        means, chains = self._means, chain_ids(diff_ids)
        if self._stopped() or any(map(means.pending_sync.is_suspect, chains)):
            return None  # the publisher knows how to rewrite what a power cut damaged
        if chains[-1] in self._chains or means.layers.has(chains[-1]):
            return None
        there = sum(chain in self._chains for chain in chains)  # they are the lowest
        is_held = there > 0
        while there < len(chains) and not is_held and means.layers.has(chains[there]):
            there += 1
        return _Lacking(diff_ids, chains, 0 if is_held else there)

    def _prepare(self, images: Sequence["_Lacking"]) -> None:
        """Takes the lease, and records what is about to be unpacked."""
        means = self._means
        if not self._has_lease:
            means.client.leases.create(self.lease, seconds=LEASE_SECONDS)
            self._has_lease = True
            fault("early.after_lease")
        for image in images:
            if image.there:
                means.layers.hold(image.chains[image.there - 1], self.lease)
        needed = list(dict.fromkeys(chain for image in images for chain in image.chains))
        means.claims.need(needed)
        self._needed += needed
        if not means.layers.is_durable:
            means.pending_sync.expect(chain for i in images for chain in i.chains[i.there :])
        fault("early.after_record")

    def _plant(self, image: "_Lacking") -> None:
        """Adds the chains of an image to the tree; the lock is held."""
        chains = image.chains
        self._tops.add(chains[-1])
        for place, (chain, diff_id) in enumerate(zip(chains, image.diff_ids, strict=True)):
            if chain not in self._chains:
                self._chain(chain, chains[place - 1] if place else None, diff_id)
                if place >= image.there:
                    self._means.claims.coming(chain)
            if place < image.there and self._chains[chain].state is _State.WAITING:
                self._chains[chain].state = _State.THERE

    def _chain(self, chain: Digest, parent: Digest | None, diff_id: Digest) -> _Chain:
        made = self._chains[chain] = _Chain(chain, parent, diff_id)
        self._by_diff_id.setdefault(diff_id, []).append(made)
        if parent is not None:
            self._chains[parent].above.append(made)
        return made

    def _ready(self, chains: Iterable[_Chain]) -> list[_Chain]:
        """Returns those to write now, and marks them so; the lock is held."""
        ready = []
        for each in chains:
            below = self._chains[each.parent] if each.parent is not None else None
            stands = below is None or below.state is _State.THERE
            if each.state is _State.WAITING and stands and each.diff_id in self._layers:
                each.state = _State.QUEUED
                ready.append(each)
        return ready

    def _write_all(self, ready: Iterable[_Chain]) -> None:
        for each in ready:
            with self._lock:
                if self._is_over:
                    return
                self._running += 1
            self._claim(each)

    def _claim(self, each: _Chain) -> None:
        """Claims a chain and queues it; at once, so that no publish begins it meanwhile."""
        if self._means.claims.claim(each.chain, partial(self._claim, each)):
            with self._lock:
                self._claimed.add(each)
            self._resubmit(partial(self._write, each))

    def _write(self, each: _Chain) -> None:
        with self._lock:
            if each not in self._claimed:
                return  # it has ended
            self._claimed.remove(each)
        state = _State.FAILED
        try:
            self._add(each)
            state = _State.THERE
        finally:
            self._came(each, state)
            with self._lock:
                each.state = state
                ready = self._ready(each.above) if state is _State.THERE else []
            self._write_all(ready)
            self._means.claims.release(each.chain)
            self._prepare_tars(above for below in ready for above in below.above)

    def _came(self, each: _Chain, state: _State) -> None:
        """Lets others open a layer ahead: it is there, or it and those above it never will be."""
        due = [each]
        while due:
            came = due.pop()
            self._means.claims.came(came.chain)
            self._ahead.drop(came.chain)
            due += came.above if state is _State.FAILED else ()

    def _prepare_tars(self, chains: Iterable[_Chain]) -> None:
        """Decompresses layers whose turn comes after those that are being written."""
        for each in list(chains):
            layer = self._layers.get(each.diff_id)
            below = self._chains[each.parent] if each.parent is not None else None
            is_next = below is not None and below.state is _State.QUEUED
            if layer is None or not is_next or not is_compressed(layer.descriptor):
                continue
            call = self._ahead.prepare(each.chain, self._opening(each, layer))
            if call is not None:
                self._submit(call)

    def _opening(self, each: _Chain, layer: VerifiedLayer) -> Callable[[], VerifiedTar]:
        return partial(self._means.open_tar, _step(each, layer), layer, self._stopped)

    def _add(self, each: _Chain) -> None:
        means, layer = self._means, self._layers[each.diff_id]
        if self._stopped():
            raise StoppedError("stopped before a layer was unpacked")
        if means.layers.has(each.chain):
            with contextlib.suppress(NotFoundError):  # another archive's, which was refused now
                means.layers.hold(each.chain, self.lease)
                return
        if not means.layers.is_durable:  # again: a publish that wrote it before has ended
            means.pending_sync.expect([each.chain])
        tar = partial(self._ahead.take, each.chain, self._opening(each, layer))
        means.layers.write(_step(each, layer), self.lease, self._stopped, tar)

    def _end(self) -> None:
        """Deletes the lease, once; no thread of this archive writes any more."""
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
        self._ahead.close()
        for chain in self._chains:
            self._means.claims.came(chain)
        try:
            if self._has_lease:
                fault("early.before_end")
                self._means.client.leases.delete(self.lease, sync=self._collects)
                fault("early.after_end")
            self._means.claims.done(self._needed, self._forget if self._collects else None)
        except AirsideError as exc:
            log.info("%s is not deleted; the next connection does it: %s", self.lease, exc)
        with self._idle:
            self._idle.notify_all()
        self._on_end(self)

    def _forget(self, chains: list[Digest]) -> None:
        """Deletes those from the record that were never made, or were removed."""
        gone = [chain for chain in chains if not self._means.layers.has(chain)]
        self._means.pending_sync.forget(gone)


def _step(each: _Chain, layer: VerifiedLayer) -> Step:
    return Step(layer.descriptor, each.diff_id, each.chain, each.parent)
