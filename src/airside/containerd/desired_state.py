"""The images that a runtime shall have: the catalog's tags that this node can run."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from airside.catalog.catalog import Catalog
from airside.catalog.publications import TagState
from airside.core.config import registry_hosts
from airside.core.errors import ManifestInvalidError, NotFoundError
from airside.core.settings import MIB, Settings
from airside.oci.digest import parse_digest
from airside.oci.model import Descriptor, Document, Manifest, parse_config, parse_document
from airside.oci.platform import Platform, node_platform, parse_platform
from airside.oci.reference import Repository
from airside.ports.content import ContentStore
from airside.ports.publication import (
    Naming,
    NodeContent,
    Selector,
    Unwanted,
    name_labels,
    parse_rewrite,
)

_CACHED = 20_000
_CACHED_BYTES = 64 * MIB
"""Documents may have megabytes; usual ones have 1 or 2 KiB."""


@dataclass(frozen=True, slots=True)
class DesiredImage:
    """A tag that the runtime shall have, with its content and its names there."""

    tag: TagState
    content: NodeContent
    names: tuple[str, ...]

    @property
    def repository(self) -> Repository:
        return Repository(self.tag.host, self.tag.path)


def naming_of(settings: Settings) -> Naming:
    """Returns the naming rules of the settings. Raises ValueError for a malformed one."""
    rules = parse_rewrite(settings.rewrite)
    return Naming(settings.extra_registries, rules, registry_hosts(settings))


def node_of(settings: Settings) -> Platform:
    """Returns the platform whose images this node runs."""
    return parse_platform(settings.platform) if settings.platform else node_platform()


class DesiredState:
    """The images that the tags of a catalog ask for. Used by one thread, except `forget`."""

    def __init__(self, catalog: Catalog, store: ContentStore, settings: Settings) -> None:
        self._catalog, self._store = catalog, store
        self._document_bytes = settings.limits.document_bytes
        self._naming = naming_of(settings)
        self._selector = Selector(node_of(settings), self._load, self._platform_of, self._is_whole)
        self._chosen: dict[str, NodeContent] = {}
        self._chosen_bytes = 0
        self._known: dict[str, DesiredImage] = {}
        """The images of the last pass: most tags have not changed since."""

    def of(
        self, tags: Iterable[TagState]
    ) -> tuple[list[DesiredImage], list[tuple[TagState, Unwanted]]]:
        """Returns the images of these tags, and the tags not to publish with the reason."""
        desired: list[DesiredImage] = []
        unwanted: list[tuple[TagState, Unwanted]] = []
        for tag in tags:
            known = self._known.get(tag.reference)
            if known is not None and known.tag == tag and tag.digest in self._chosen:
                desired.append(known)
                continue
            chosen = self._choose(tag)
            names = self._naming.names(
                Repository(tag.host, tag.path), tag.tag, parse_digest(tag.digest)
            )
            if isinstance(chosen, Unwanted):
                unwanted.append((tag, chosen))
            elif not names:
                reason = "its name has no registry, so a runtime cannot ask for it"
                unwanted.append((tag, Unwanted("artifact", reason)))
            else:
                desired.append(DesiredImage(tag, chosen, names))
        self._known = {each.tag.reference: each for each in desired}
        return _without_collisions(desired, unwanted), unwanted

    def forget(self, digest: str) -> None:
        """Drops the cached content of a target: the next pass chooses again. Thread-safe."""
        self._chosen.pop(digest, None)

    def _choose(self, tag: TagState) -> NodeContent | Unwanted:
        chosen = self._chosen.get(tag.digest)
        if chosen is not None:
            return chosen
        if tag.artifact_type:
            return Unwanted("artifact", f"it is an artifact ({tag.artifact_type}), not an image")
        target = self._load(Descriptor(tag.media_type, parse_digest(tag.digest), 0))
        if target is None:
            return Unwanted("incomplete", "its manifest is missing")
        found = self._selector.choose(target)
        if isinstance(found, NodeContent):
            size = sum(document.size_bytes for document in found.chain)
            if len(self._chosen) >= _CACHED or self._chosen_bytes + size > _CACHED_BYTES:
                self._chosen.clear()
                self._chosen_bytes = 0
            self._chosen[tag.digest] = found
            self._chosen_bytes += size
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
                raw = file.read(self._document_bytes)
            return parse_config(raw, str(manifest.content.config.digest)).platform
        except (NotFoundError, ManifestInvalidError):
            return None

    def _is_whole(self, manifest: Document) -> bool:
        assert isinstance(manifest.content, Manifest)
        needed = [blob for blob in manifest.content.blobs if blob.is_distributable]
        return not self._store.missing(needed)


def _without_collisions(
    desired: list[DesiredImage], unwanted: list[tuple[TagState, Unwanted]]
) -> list[DesiredImage]:
    """Gives each name in the runtime to one tag where rules of naming give it to several.

    A push never gets the name of an archive's image; of two of a kind the newer one gets it.
    """
    owners: dict[str, DesiredImage] = {}
    for each in desired:
        for name in each.names:
            owner = owners.setdefault(name, each)
            if owner is not each and _rank(each) > _rank(owner):
                owners[name] = each
    found: list[DesiredImage] = []
    for each in desired:
        names = tuple(n for n in each.names if owners[n].tag.digest == each.tag.digest)
        if names:
            found.append(each if names == each.names else replace(each, names=names))
        else:
            other = owners[each.names[0]].tag.reference
            reason = f"its names belong to {other}, by `extra_registries` or `rewrite`"
            unwanted.append((each.tag, Unwanted("conflict", reason)))
    return found


def _rank(image: DesiredImage) -> tuple[bool, int]:
    return not image.tag.pushed, image.tag.sequence


def labels_of(desired: Iterable[DesiredImage]) -> dict[str, dict[str, str]]:
    """Returns the labels of each name; several tags may share a `name@digest`."""
    archives: dict[str, list[str]] = {}
    pinned: dict[str, bool] = {}
    for each in desired:
        for name in each.names:
            archives.setdefault(name, []).extend(each.tag.archives)
            pinned[name] = pinned.get(name, False) or each.tag.backed
    return {
        name: name_labels(pinned=pinned[name], archives=dict.fromkeys(found))
        for name, found in archives.items()
    }
