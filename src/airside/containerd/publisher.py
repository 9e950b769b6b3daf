"""Compares the desired images with those of one container runtime, publishes and withdraws.

One pass compares the catalog's tags with the runtime's names and repairs the difference; it may be
repeated at any time. The result for each tag is recorded (`publication`) as a state:

- `published`: the runtime has it under all its names;
- `waiting`: somebody removed or moved it again and again; it is restored at `next_try_at`;
- `failed`: it could not be published, for `reason`; retried at `next_try_at`;
- `not-for-node`, `artifact`, `incomplete`: nothing in it is for this node to run;
- `conflict`: somebody else moved its name, and the setting `conflict` leaves the name to them;
- `left`: it was removed from the runtime and stays removed (`respect_rmi`, or no archive).

Left to others: when to run (`airside.agent.runtime_supervisor`), and how (the `Runtime`).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from airside.catalog.catalog import Catalog
from airside.catalog.identity import identity_of
from airside.catalog.publications import PublicationRow
from airside.catalog.tag_states import TagState
from airside.containerd.desired_state import DesiredImage, DesiredState, labels_of, node_of
from airside.containerd.foreign_names import ForeignNames
from airside.containerd.image_documents import ImageDocuments
from airside.containerd.publication_rows import PublicationRows, changed_rows, names_of
from airside.containerd.publish_failures import PublishFailures
from airside.containerd.publish_measure import PublishMeasure
from airside.containerd.publish_order import Due, PublishOrder
from airside.containerd.publish_pass import Pass, PassState, Stop
from airside.containerd.relabel_log import RelabelLog
from airside.containerd.restore_backoff import RestoreBackoff, Wait
from airside.containerd.unpacked_images import UnpackedImages
from airside.core.errors import (
    ContainerdError,
    InputError,
    NotFoundError,
    StoppedError,
    StoreError,
)
from airside.core.memory_account import MemoryAccount
from airside.core.settings import Settings
from airside.core.timeline import recorded
from airside.oci.digest import is_digest
from airside.ports.content import ContentStore, Runtime
from airside.ports.measures import UNMEASURED, PublishMeter
from airside.ports.publication import Publication

log = logging.getLogger("airside.publish")

_IN_USE_AGAIN_SECONDS = 300.0
_CLAIM_AGAIN_SECONDS = 5.0
"""The time until the next try to claim a runtime that another agent has."""
_AT_ONCE = 16
"""Images published at once. The runtime limits how many layers are unpacked at once."""


class Publisher:
    """Makes one runtime match the catalog. Used by one thread at a time."""

    def __init__(
        self,
        runtime_name: str,
        catalog: Catalog,
        store: ContentStore,
        settings: Settings,
        clock: Callable[[], float],
        memory: MemoryAccount,
        monotonic: Callable[[], float] = time.monotonic,
        meter: PublishMeter = UNMEASURED,
    ) -> None:
        self._measure = PublishMeasure(runtime_name, meter, clock)
        self._name, self._catalog = runtime_name, catalog
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._rows = PublicationRows(runtime_name)
        limit = settings.limits.document_bytes
        self._documents = ImageDocuments(
            catalog, store, node_of(settings), limit, memory, settings.other_platforms
        )
        self._desired = DesiredState(self._documents, settings)
        self._order = PublishOrder(settings.images)
        self._backoff = RestoreBackoff(monotonic)
        self._relabelled = RelabelLog(monotonic)
        self._snapshots = UnpackedImages(catalog)
        self._foreign = ForeignNames(runtime_name, catalog, clock)
        self._failures = PublishFailures(monotonic)
        self._lock = threading.Lock()

    def run(
        self,
        runtime: Runtime,
        *,
        stop: Stop,
        everything: bool = False,
        pods_started: bool = False,
    ) -> Pass:
        """Runs one pass and returns its result.

        `everything` also checks that the runtime still has the blobs. Of the names without a tag,
        only those that this catalog published are withdrawn. While another agent has claimed the
        runtime, nothing is published.

        Raises ContainerdError if the runtime is away, StoreError.
        """
        found = Pass(other=runtime.claim())
        if found.other is not None:
            found.due(_CLAIM_AGAIN_SECONDS)
            return found
        self._rows = PublicationRows(self._name, runtime.facts.knows_pins)
        tags = [*self._catalog.tag_states(), *self._catalog.held_digests()]
        rows = {row.reference: row for row in self._catalog.published(self._name)}
        actual, held = runtime.images(), runtime.blobs() if everything else None
        desired, unwanted = self._desired.of(tags, stop)
        unwanted = [(t, why) for t, why in unwanted if t.tag or why.state == "incomplete"]
        found.rows += [self._rows.unwanted(t, why, rows.get(t.reference)) for t, why in unwanted]
        labels = labels_of(desired, identity_of(self._catalog))
        given_up = threading.Event()
        state = PassState(
            runtime,
            rows,
            actual,
            labels,
            lambda image: held is None or self._documents.is_held(image.content, held, stop),
            found,
            lambda: given_up.is_set() or stop(),
            pods_started,
        )
        for row in found.rows:
            if row.state == "incomplete":
                state.protect(row)
        state.protected.update(*(self._desired.names(t, why) for t, why in unwanted if not t.tag))
        for each in desired:
            if stop():
                return found
            self._compare(each, state)
        self._publish_all(state, given_up)
        self._snapshots.compare(state, everything=everything)
        self._withdraw(desired, tags, state)
        self._catalog.publications.record(changed_rows(found.rows, rows), self._clock())
        runtime.pass_ended()
        return found

    def _compare(self, desired: DesiredImage, state: PassState) -> None:
        """Compares one tag with the runtime, and queues or records what follows."""
        tag, row, own = desired.tag, state.rows.get(desired.tag.reference), state.own(desired)
        same = row is not None and (row.digest, row.detail.get("sequence")) == (
            tag.digest,
            tag.sequence,
        )
        there = [name for name in desired.names if name in state.actual]
        if row is not None and same and not there:
            if row.state == "left" and (self._settings.respect_rmi or not tag.backed):
                return
            if row.is_placed:
                self._restore_or_leave(desired, row, state)
                return
        ended = row or state.published_as_tag(desired)
        if state.is_as_wanted(desired, own):
            if ended is None or not ended.is_placed or ended.digest != tag.digest:
                # the publish has not ended: not unpacked, or not durable
                state.due.append((desired, bool(tag.tag)))
            elif not same or ended.state == "waiting":
                state.found.rows.append(self._rows.row(tag, "published", desired, before=ended))
        elif same and row is not None and row.state == "conflict" and state.moved(desired):
            return
        elif same and row is not None and row.is_placed and state.is_whole(desired):
            self._repair(desired, row, state)
        elif row is None and ended is not None and state.is_there(desired):  # of a tag before
            state.runtime.relabel(own, str(desired.content.config))
            state.found.rows.append(self._rows.row(tag, "published", desired, before=ended))
        else:
            state.due.append((desired, bool(tag.tag)))

    def _repair(self, desired: DesiredImage, row: PublicationRow, state: PassState) -> None:
        """Repairs names that are missing, point elsewhere, or lack our labels."""
        manifest = desired.content.manifest.digest
        others = [n for n in state.moved(desired) if state.runtime.manifest_of(n) != manifest]
        missing = [name for name in desired.names if name not in state.actual]
        if others and self._settings.conflict == "theirs":
            where = state.actual[others[0]].target
            reason = f"{others[0]} points at {where}: somebody else moved it"
            state.found.rows.append(self._rows.row(desired.tag, "conflict", desired, reason=reason))
        elif not others and not missing:  # only labels, or another index of the same manifest
            state.runtime.relabel(state.own(desired), str(desired.content.config))
            if state.are_stripped(desired, row):
                self._relabelled.tell(desired.tag.reference, self._name)
            state.found.rows.append(self._rows.row(desired.tag, "published", desired, before=row))
        else:
            self._restore(desired, row, state)

    def _restore_or_leave(
        self, desired: DesiredImage, row: PublicationRow, state: PassState
    ) -> None:
        """Handles an image whose names are all gone: somebody removed it."""
        if not self._settings.respect_rmi and desired.tag.backed:
            self._restore(desired, row, state)
            return
        why = "(respect_rmi)" if desired.tag.backed else "and no archive has it any more"
        reason = f"it was removed from the runtime {why}"
        state.found.rows.append(
            self._rows.row(desired.tag, "left", desired, reason=reason, before=row)
        )

    def _restore(self, desired: DesiredImage, row: PublicationRow, state: PassState) -> None:
        """Restores what somebody removed or moved, with a growing back-off if that repeats.

        What a pod wants, and whose names nobody moved, does not wait.
        """
        wait = self._backoff.attempt(desired.tag.reference)
        if wait is not None and not state.moved(desired) and state.is_wanted(desired):
            wait = self._backoff.attempt(desired.tag.reference, at_once=True)
        if wait is not None:
            self._wait(desired, row, wait, state)
            return
        state.restored.add(desired.tag.reference)
        state.due.append((desired, False))

    def _wait(
        self, desired: DesiredImage, row: PublicationRow, wait: Wait, state: PassState
    ) -> None:
        """Records that the runtime lacks an image until the back-off has ended."""
        next_try_at = self._clock() + wait.left_seconds
        reason = (
            "somebody removed or moved it in the runtime again and again: it is restored "
            f"{wait.seconds:.0f} s after the last time"
        )
        waiting = self._rows.waiting(desired, reason, row, next_try_at=next_try_at)
        if row.state != "waiting":
            left = wait.left_seconds
            log.warning("%s: %s: %s, in %.0f s", desired.tag.reference, self._name, reason, left)
        state.found.rows.append(waiting)
        state.found.waiting += 1
        state.found.due(wait.left_seconds)

    def _publish_all(self, state: PassState, given_up: threading.Event) -> None:
        """Publishes what is due in its order (`publish_order`); sandbox images alone, before all.

        Several images at once: it mostly waits for runtime and disk. The first image that finds the
        runtime away ends the others.
        """
        for group in self._order.groups(state.due, state.wanted):
            self._publish_group(group, state, given_up)

    def _publish_group(self, due: list[Due], state: PassState, given_up: threading.Event) -> None:
        with ThreadPoolExecutor(min(_AT_ONCE, len(due)), "publish-image") as pool:
            running = [pool.submit(recorded()(self._publish), *each, state) for each in due]
            try:
                for each in wait(running, return_when=FIRST_EXCEPTION).done:
                    each.result()
            except BaseException:
                given_up.set()
                for each in running:
                    each.cancel()
                raise

    def _publish(self, desired: DesiredImage, unpack: bool, state: PassState) -> None:  # noqa: FBT001 - of `due`
        if state.stop():
            raise StoppedError("publishing was stopped")
        tag = desired.tag
        before, started = state.rows.get(tag.reference), self._monotonic()
        left = self._failures.left_seconds(desired)
        if left > 0 and before is not None and before.state == "failed":
            with self._lock:
                state.protect(before)
                state.found.due(left)
            return
        try:
            with self._documents.loaded(desired.content, state.stop) as content:
                publication = Publication(
                    content,
                    state.own(desired),
                    (desired.repository,),
                    unpack=unpack and self._settings.unpack == "node-platform",
                )
                done = state.runtime.publish(publication, stop=state.stop)
        except ContainerdError as exc:
            if exc.is_away or state.stop():
                raise
            self._failed(desired, exc.message, state, started)
        except (InputError, NotFoundError, StoreError) as exc:
            self._failed(desired, exc.message, state, started)
        except StoppedError:
            raise
        except Exception as exc:  # a bug with one image does not stop the others (ADR 0008)
            log.exception("%s: internal error while publishing to %s", tag.reference, self._name)
            self._failed(desired, f"internal error, please report it: {exc!r}", state, started)
        else:
            self._failures.forget(desired)
            seconds = self._monotonic() - started
            is_restore = tag.reference in state.restored
            row = self._rows.published(desired, done, seconds, before, is_restore=is_restore)
            self._catalog.publications.record([row], self._clock())
            self._measure.published(tag, done, seconds, again=is_restore)
            with self._lock:
                state.found.published += 1
            log.info("%s: published to %s in %.2f s", tag.reference, self._name, seconds)

    def _failed(self, desired: DesiredImage, reason: str, state: PassState, started: float) -> None:
        """Logs, records and retries a failed publish. What was published before stays."""
        tag, seconds = desired.tag, self._failures.note(desired)
        self._measure.failed(tag, self._monotonic() - started, reason)
        told = f"{reason}; retrying in {seconds:.0f} s"
        log.error("%s: not published to %s: %s", tag.reference, self._name, told)
        self._desired.forget(tag.digest)
        before = state.rows.get(tag.reference)
        with self._lock:
            state.protect(before)
            state.found.failed += 1
            state.found.due(seconds)
        next_try_at = self._clock() + seconds
        state.found.rows.append(self._rows.failed(tag, reason, before, next_try_at=next_try_at))

    def _withdraw(
        self, desired: Iterable[DesiredImage], tags: Iterable[TagState], state: PassState
    ) -> None:
        """Withdraws names of ours that no tag has now, and the images that only they held."""
        stale = self._stale(desired, state)
        wanted = {tag.reference for tag in tags if tag.tag}
        wanted.update(row.reference for row in state.found.rows)
        wanted.update(each.tag.reference for each in desired)
        gone = sorted(set(state.rows) - wanted)
        self._failures.keep_only(wanted)
        current = {str(each.content.config) for each in desired}
        current |= state.protected_ids
        before = {str(row.detail.get("image_id", "")) for row in state.rows.values()}
        ids, left = before - current - {""}, self._leaving() - current
        if stale or ids or left:
            used = state.runtime.withdraw(stale, ids | left)
            state.found.withdrawn += len(stale) - len(used.intersection(stale))
            self._remember_leaving(used)
            state.found.in_use = len(used)
            if used:
                state.found.due(_IN_USE_AGAIN_SECONDS)
        if gone:
            names = {name for each in desired for name in each.names}
            kept = {reference for reference in gone if reference in names}
            self._catalog.publications.forget(self._name, gone, self._clock(), kept=kept)

    def _stale(self, desired: Iterable[DesiredImage], state: PassState) -> list[str]:
        """Returns the names to withdraw; records those that another catalog published."""
        wanted = state.protected.union(*(each.names for each in desired))
        recorded = {name for row in state.rows.values() for name in names_of(row)}
        found = self._foreign.split(state.actual.values(), wanted, recorded)
        if self._settings.foreign_names == "release":
            return [*found.stale, *found.foreign]
        self._foreign.record(found, state.actual)
        state.found.foreign = len(found.foreign)
        return found.stale

    def _leaving(self) -> set[str]:
        """Returns the IDs of images to withdraw as soon as no container uses them."""
        return set(filter(None, (self._catalog.meta(f"leaving:{self._name}") or "").split()))

    def _remember_leaving(self, used: Iterable[str]) -> None:
        text = " ".join(sorted(filter(is_digest, used)))
        if text != (self._catalog.meta(f"leaving:{self._name}") or ""):
            self._catalog.set_meta({f"leaving:{self._name}": text})
