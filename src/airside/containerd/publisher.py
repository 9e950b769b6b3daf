"""Desired against actual in one container runtime: what is published, and what is taken back.

One pass compares the catalog's tags with the runtime's names and repairs the difference; it may
be repeated at any time. What became of each tag is recorded (`publication`), in a state:

- `published`: there under all its names; `failed`: it could not be, with the reason;
- `not-for-node`, `artifact`, `incomplete`: nothing in it is for this node to run;
- `conflict`: somebody else moved its name, and the setting `conflict` leaves it theirs;
- `left`: it was removed from the runtime, and stays removed (`respect_rmi`, or no archive);
- `waiting`: it was removed again and again, and is put back later.

Left to others: when to look (`airside.agent.runtime_supervisor`), and how (the `Runtime`).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from airside.catalog.catalog import Catalog
from airside.catalog.publications import PublicationRow, TagState
from airside.core.config import registry_hosts
from airside.core.errors import (
    ContainerdError,
    InputError,
    ManifestInvalidError,
    NotFoundError,
    StoppedError,
    StoreError,
)
from airside.core.settings import Settings
from airside.oci.digest import parse_digest
from airside.oci.model import Descriptor, Document, Manifest, parse_config, parse_document
from airside.oci.platform import Platform, node_platform, parse_platform
from airside.oci.reference import Repository
from airside.ports.content import ContentStore, Published, Runtime
from airside.ports.publication import (
    NamedImage,
    Naming,
    NodeContent,
    Publication,
    Selector,
    Unwanted,
    name_labels,
    parse_rewrite,
)

log = logging.getLogger("airside.publish")

_AGAIN_SECONDS = 600.0
"""An image that is removed again within this time is put back ever later."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 60.0, 3600.0
_FAILED_AGAIN_SECONDS = 300.0
_CACHED = 20_000
_AT_ONCE = 8
"""So many images are published at once; how many layers are unpacked at once is the runtime's."""

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tag that the runtime shall have, and under which names."""

    tag: TagState
    content: NodeContent
    names: tuple[str, ...]

    @property
    def repository(self) -> Repository:
        return Repository(self.tag.host, self.tag.path)


@dataclass(slots=True)
class _Restored:
    """How often a tag was put back lately."""

    count: int = 0
    at: float = 0.0

    @property
    def wait_seconds(self) -> float:
        return min(_FIRST_WAIT_SECONDS * 2.0 ** max(self.count - 2, 0), _LONGEST_WAIT_SECONDS)


@dataclass(slots=True)
class Pass:
    """What one pass did. `again_seconds`: when something is due before the next pass."""

    published: int = 0
    withdrawn: int = 0
    failed: int = 0
    again_seconds: float | None = None
    rows: list[PublicationRow] = field(default_factory=list)

    def due(self, seconds: float) -> None:
        found = self.again_seconds
        self.again_seconds = seconds if found is None else min(found, seconds)


@dataclass(slots=True)
class _Task:
    """What one pass works on."""

    runtime: Runtime
    rows: Mapping[str, PublicationRow]
    actual: Mapping[str, NamedImage]
    labels: Mapping[str, Mapping[str, str]]
    held: frozenset[str] | None
    """The blobs that the runtime has; None: not asked."""
    found: Pass
    stop: Stop
    due: list[tuple[Wanted, bool]] = field(default_factory=list)
    """What is to be published, and whether it is unpacked."""
    protected: set[str] = field(default_factory=set)
    """Names of an earlier version, which stay because the newer one can't be published."""

    def own(self, wanted: Wanted) -> dict[str, Mapping[str, str]]:
        return {name: self.labels[name] for name in wanted.names}

    def protect(self, wanted: Wanted) -> None:
        before = self.rows.get(wanted.tag.reference)
        self.protected.update(_names(before) if before is not None else ())

    def is_whole(self, wanted: Wanted) -> bool:
        held = self.held
        if held is None:
            return True
        return all(str(d.digest) in held for d in wanted.content.blobs if d.is_distributable)

    def is_as_wanted(self, wanted: Wanted, own: Mapping[str, Mapping[str, str]]) -> bool:
        target = wanted.content.target.digest
        return self.is_whole(wanted) and all(
            name in self.actual and self.actual[name].has(target, own[name])
            for name in wanted.names
        )

    def moved(self, wanted: Wanted) -> list[str]:
        """The names that point elsewhere."""
        target = wanted.content.target.digest
        return [n for n in wanted.names if n in self.actual and self.actual[n].target != target]


def naming_of(settings: Settings) -> Naming:
    """The names that the settings ask for. Raises ValueError for a rule that is none."""
    rules = parse_rewrite(settings.rewrite)
    return Naming(settings.extra_registries, rules, registry_hosts(settings))


def node_of(settings: Settings) -> Platform:
    """The platform whose images this node runs."""
    return parse_platform(settings.platform) if settings.platform else node_platform()


class Publisher:
    """Keeps one runtime as the catalog says. One thread at a time."""

    def __init__(
        self,
        runtime_name: str,
        catalog: Catalog,
        store: ContentStore,
        settings: Settings,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._catalog, self._store = runtime_name, catalog, store
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._naming = naming_of(settings)
        self._selector = Selector(node_of(settings), self._load, self._platform_of, self._is_whole)
        self._chosen: dict[str, NodeContent] = {}
        self._known: dict[str, Wanted] = {}
        """As at the last pass: most tags are as they were."""
        self._restored: dict[str, _Restored] = {}
        self._failed_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def run(
        self, runtime: Runtime, *, stop: Stop, everything: bool = False, adding: bool = False
    ) -> Pass:
        """One pass.

        `everything`: also see whether the blobs are still there. `adding`: of names that no tag
        has now, take back only those that this catalog has published.

        Raises ContainerdError if the runtime is away, StoreError.
        """
        found = Pass()
        tags = self._catalog.tag_states()
        rows = {row.reference: row for row in self._catalog.published(self._name)}
        actual = runtime.images()
        wanted = self._wanted(tags, rows, found)
        labels = _labels(wanted)
        held = runtime.blobs() if everything else None
        given_up = threading.Event()
        task = _Task(
            runtime, rows, actual, labels, held, found, lambda: given_up.is_set() or stop()
        )
        task.protected.update(*(_names(row) for row in found.rows if row.state == "incomplete"))
        for each in wanted:
            if stop():
                return found
            self._one(each, task)
        self._publish_all(task, given_up)
        if adding:
            published = {name for row in rows.values() for name in _names(row)}
            task.protected.update(set(actual) - published)
        self._withdraw(wanted, tags, task)
        self._catalog.publications.record(_changed(found.rows, rows), self._clock())
        return found

    # what is wanted

    def _wanted(
        self, tags: Iterable[TagState], rows: Mapping[str, PublicationRow], found: Pass
    ) -> list[Wanted]:
        wanted: list[Wanted] = []
        for tag in tags:
            known = self._known.get(tag.reference)
            if known is not None and known.tag == tag and tag.digest in self._chosen:
                wanted.append(known)
                continue
            chosen = self._choose(tag)
            names = self._naming.names(
                Repository(tag.host, tag.path), tag.tag, parse_digest(tag.digest)
            )
            if isinstance(chosen, Unwanted):
                found.rows.append(self._unwanted(tag, chosen, rows.get(tag.reference)))
            elif not names:
                reason = "its name has no registry: a runtime can't ask for it"
                found.rows.append(self._row(tag, "artifact", reason=reason))
            else:
                wanted.append(Wanted(tag, chosen, names))
        self._known = {each.tag.reference: each for each in wanted}
        return wanted

    def _unwanted(
        self, tag: TagState, chosen: Unwanted, before: PublicationRow | None
    ) -> PublicationRow:
        """What was published and lost a blob of ours since keeps its names: theirs may be whole."""
        row = self._row(tag, chosen.state, reason=chosen.reason)
        if chosen.state != "incomplete" or before is None or before.digest != tag.digest:
            return row
        kept = {key: before.detail[key] for key in ("names", "image_id") if key in before.detail}
        return replace(row, detail={**row.detail, **kept})

    def _choose(self, tag: TagState) -> NodeContent | Unwanted:
        chosen = self._chosen.get(tag.digest)
        if chosen is not None:
            return chosen
        if tag.artifact_type:
            return Unwanted("artifact", f"it is no image but an artifact ({tag.artifact_type})")
        target = self._load(Descriptor(tag.media_type, parse_digest(tag.digest), 0))
        if target is None:
            return Unwanted("incomplete", "its manifest is not held")
        found = self._selector.choose(target)
        if isinstance(found, NodeContent):
            if len(self._chosen) >= _CACHED:
                self._chosen.clear()
            self._chosen[tag.digest] = found
        return found

    def _load(self, descriptor: Descriptor) -> Document | None:
        raw = self._catalog.document(descriptor.digest)
        if raw is None:
            return None
        try:
            digest = descriptor.digest
            return parse_document(
                raw, descriptor.media_type, str(digest), algorithm=digest.algorithm
            )
        except ManifestInvalidError:
            return None

    def _platform_of(self, manifest: Document) -> Platform | None:
        assert isinstance(manifest.content, Manifest)
        try:
            with self._store.open(manifest.content.config.digest) as file:
                raw = file.read(self._settings.limits.document_bytes)
            return parse_config(raw, str(manifest.content.config.digest)).platform
        except (NotFoundError, ManifestInvalidError):
            return None

    def _is_whole(self, manifest: Document) -> bool:
        assert isinstance(manifest.content, Manifest)
        needed = [blob for blob in manifest.content.blobs if blob.is_distributable]
        return not self._store.missing(needed)

    # one tag

    def _one(self, wanted: Wanted, task: "_Task") -> None:
        """Bring one tag about."""
        tag, row, own = wanted.tag, task.rows.get(wanted.tag.reference), task.own(wanted)
        same = row is not None and (row.digest, row.detail.get("sequence")) == (
            tag.digest,
            tag.sequence,
        )
        there = [name for name in wanted.names if name in task.actual]
        if row is not None and same and not there:
            if row.state == "left":
                return
            if row.state == "published":
                self._removed(wanted, row, task)
                return
        if task.is_as_wanted(wanted, own):
            if row is None or row.state != "published" or row.digest != tag.digest:
                task.due.append((wanted, True))  # it was not ended: not unpacked, or not durable
            elif not same:
                task.found.rows.append(self._row(tag, "published", wanted, before=row))
        elif same and row is not None and row.state == "conflict" and task.moved(wanted):
            return
        elif same and row is not None and row.state == "published" and task.is_whole(wanted):
            self._differs(wanted, row, task)
        else:
            task.due.append((wanted, True))

    def _differs(self, wanted: Wanted, row: PublicationRow, task: "_Task") -> None:
        """Names are missing, point elsewhere, or have other labels than we gave them."""
        manifest = wanted.content.manifest.digest
        others = [n for n in task.moved(wanted) if task.runtime.manifest_of(n) != manifest]
        missing = [name for name in wanted.names if name not in task.actual]
        if others and self._settings.conflict == "theirs":
            where = task.actual[others[0]].target
            reason = f"{others[0]} points at {where}: somebody else moved it"
            task.found.rows.append(self._row(wanted.tag, "conflict", wanted, reason=reason))
        elif not others and not missing:  # only labels, or another index of the same manifest
            task.runtime.relabel(task.own(wanted), str(wanted.content.config))
            task.found.rows.append(self._row(wanted.tag, "published", wanted, before=row))
        else:
            self._again(wanted, row, task)

    def _removed(self, wanted: Wanted, row: PublicationRow, task: "_Task") -> None:
        """All names that we gave are gone: somebody removed the image."""
        if not self._settings.respect_rmi and wanted.tag.backed:
            self._again(wanted, row, task)
            return
        why = "(respect_rmi)" if wanted.tag.backed else "and no archive brings it any more"
        reason = f"it was removed from the runtime {why}"
        task.found.rows.append(self._row(wanted.tag, "left", wanted, reason=reason, before=row))

    def _again(self, wanted: Wanted, row: PublicationRow, task: "_Task") -> None:
        """Put back what somebody removed or moved; ever later if it happens again and again."""
        reference, now = wanted.tag.reference, self._monotonic()
        restored = self._restored.setdefault(reference, _Restored())
        since = now - restored.at
        if restored.count and since > max(_AGAIN_SECONDS, restored.wait_seconds):
            restored.count = 0
        if restored.count >= 2 and since < restored.wait_seconds:
            left = restored.wait_seconds - since
            reason = f"removed or moved again and again: it is put back {restored.wait_seconds:.0f}"
            reason += " s after the last time"
            task.found.rows.append(
                self._row(wanted.tag, "published", wanted, reason=reason, before=row)
            )
            task.found.due(left)
            return
        restored.count += 1
        restored.at = now
        task.due.append((wanted, False))

    def _publish_all(self, task: "_Task", given_up: threading.Event) -> None:
        """Publish what is due, several at once: most of it is waiting for runtime and disk.

        The first that finds the runtime away ends the others.
        """
        if not task.due:
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(task.due)), "publish-image") as pool:
            running = [pool.submit(self._publish, *each, task) for each in task.due]
            try:
                for each in running:
                    each.result()
            except BaseException:
                given_up.set()
                for each in running:
                    each.cancel()
                raise

    def _publish(self, wanted: Wanted, unpack: bool, task: "_Task") -> None:  # noqa: FBT001 - of `due`
        if task.stop():
            raise StoppedError("publishing was stopped")
        tag, key = wanted.tag, f"{wanted.tag.reference} {wanted.tag.digest}"
        failed_at, started = self._failed_at.get(key), self._monotonic()
        if failed_at is not None and started - failed_at < _FAILED_AGAIN_SECONDS:
            with self._lock:
                task.protect(wanted)
            return
        publication = Publication(
            wanted.content,
            task.own(wanted),
            (wanted.repository,),
            unpack=unpack and self._settings.unpack == "node-platform",
        )
        try:
            done = task.runtime.publish(publication, stop=task.stop)
        except ContainerdError as exc:
            if exc.is_away or task.stop():
                raise
            self._failed(wanted, exc.message, task)
        except (InputError, NotFoundError, StoreError) as exc:
            self._failed(wanted, exc.message, task)
        except StoppedError:
            raise
        except Exception as exc:  # a bug that one image meets: the others go on (ADR 0008)
            log.exception("%s: internal error", tag.reference)
            self._failed(wanted, f"internal error, please report it: {exc!r}", task)
        else:
            self._failed_at.pop(key, None)
            seconds = self._monotonic() - started
            row = self._row(tag, "published", wanted, published=done, seconds=seconds)
            self._catalog.publications.record([row], self._clock())
            with self._lock:
                task.found.published += 1
            log.info("%s: published to %s in %.2f s", tag.reference, self._name, seconds)

    def _failed(self, wanted: Wanted, reason: str, task: "_Task") -> None:
        """Say so, and try again later; what was published before stays."""
        tag = wanted.tag
        log.error("%s: not published to %s: %s", tag.reference, self._name, reason)
        self._failed_at[f"{tag.reference} {tag.digest}"] = self._monotonic()
        self._chosen.pop(tag.digest, None)
        with self._lock:
            task.protect(wanted)
            task.found.failed += 1
            task.found.due(_FAILED_AGAIN_SECONDS)
        before = task.rows.get(tag.reference)
        kept = {} if before is None else {"names": before.detail.get("names", [])}
        row = self._row(tag, "failed", reason=reason)
        task.found.rows.append(replace(row, detail={**kept, **row.detail}))

    def _row(
        self,
        tag: TagState,
        state: str,
        wanted: Wanted | None = None,
        *,
        reason: str = "",
        published: Published | None = None,
        seconds: float = 0.0,
        before: PublicationRow | None = None,
    ) -> PublicationRow:
        detail: dict[str, object] = dict(before.detail) if before is not None else {}
        detail["sequence"] = tag.sequence
        detail["reason"] = reason
        detail["pinned"] = state == "published" and tag.backed
        if wanted is not None:
            detail["names"] = list(wanted.names)
            detail["manifest"] = str(wanted.content.manifest.digest)
            detail["image_id"] = str(wanted.content.config)
        if published is not None:
            detail["adopted"] = dict(published.ways)
            detail["unpacked"] = published.unpacked
            detail["not_unpacked"] = published.not_unpacked
            detail["seconds"] = round(seconds, 3)
        return PublicationRow(self._name, tag.reference, tag.digest, state, detail)

    # what is not wanted

    def _withdraw(self, wanted: Iterable[Wanted], tags: Iterable[TagState], task: "_Task") -> None:
        """Take back names that are ours and that no tag has now, and what only they held."""
        names = task.protected.union(*(each.names for each in wanted))
        stale = [n.name for n in task.actual.values() if n.is_ours and n.name not in names]
        gone = sorted(set(task.rows) - {tag.reference for tag in tags})
        current = {str(each.content.config) for each in wanted}
        current |= {
            str(row.detail.get("image_id")) for row in task.found.rows if row.state == "incomplete"
        }
        before = {str(row.detail.get("image_id", "")) for row in task.rows.values()}
        ids, left = before - current - {""}, self._leaving() - current
        if stale or ids or left:
            used = task.runtime.withdraw(stale, ids | left)
            task.found.withdrawn += len(stale)
            self._remember_leaving(used)
            if used:
                task.found.due(_FAILED_AGAIN_SECONDS)
        if gone:
            self._catalog.publications.forget(self._name, gone, self._clock())

    def _leaving(self) -> set[str]:
        """IDs of images that are to go as soon as no container uses them."""
        return set(filter(None, (self._catalog.meta(f"leaving:{self._name}") or "").split()))

    def _remember_leaving(self, used: Iterable[str]) -> None:
        text = " ".join(sorted(used))
        if text != (self._catalog.meta(f"leaving:{self._name}") or ""):
            self._catalog.set_meta({f"leaving:{self._name}": text})


def _labels(wanted: Iterable[Wanted]) -> dict[str, dict[str, str]]:
    """The labels of each name; several tags may share a `name@digest`."""
    archives: dict[str, list[str]] = {}
    pinned: dict[str, bool] = {}
    for each in wanted:
        for name in each.names:
            archives.setdefault(name, []).extend(each.tag.archives)
            pinned[name] = pinned.get(name, False) or each.tag.backed
    return {
        name: name_labels(pinned=pinned[name], archives=dict.fromkeys(found))
        for name, found in archives.items()
    }


def _names(row: PublicationRow) -> list[str]:
    """The names that a tag was published under."""
    names = row.detail.get("names")
    return names if isinstance(names, list) else []


def _changed(
    found: Iterable[PublicationRow], rows: Mapping[str, PublicationRow]
) -> list[PublicationRow]:
    """Those that say something else than what is recorded."""
    changed = []
    for row in found:
        before = rows.get(row.reference)
        if before is None or (before.digest, before.state, before.detail) != (
            row.digest,
            row.state,
            row.detail,
        ):
            changed.append(row)
    return changed
