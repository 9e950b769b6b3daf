"""The images that a runtime shall have: the catalog's tags and digests that this node can run."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from airside.catalog.tag_states import TagState
from airside.containerd.image_documents import ChosenImage, ImageDocuments, Stop
from airside.core.config import registry_hosts
from airside.core.settings import Settings
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import INDEX_TYPES
from airside.oci.platform import Platform, node_platform, parse_platform
from airside.oci.reference import Repository
from airside.ports.publication import (
    Naming,
    Unwanted,
    name_labels,
    parse_rewrite,
)

_LISTED = " listed"


@dataclass(frozen=True, slots=True)
class DesiredImage:
    """A tag, or a digest alone, that the runtime shall have, with its names there.

    Holds no document.
    """

    tag: TagState
    content: ChosenImage
    names: tuple[str, ...]

    @property
    def repository(self) -> Repository:
        return Repository(self.tag.host, self.tag.path)

    def target_of(self, name: str) -> Digest:
        """Returns the document that a name points at, as `Publication.target_of`."""
        manifest = self.content.manifest.digest
        return manifest if name.endswith(f"@{manifest}") else self.content.target.digest


def naming_of(settings: Settings) -> Naming:
    """Returns the naming rules of the settings. Raises ValueError for a malformed one."""
    rules = parse_rewrite(settings.rewrite)
    return Naming(settings.extra_registries, rules, registry_hosts(settings))


def node_of(settings: Settings) -> Platform:
    """Returns the platform whose images this node runs."""
    return parse_platform(settings.platform) if settings.platform else node_platform()


class DesiredState:
    """The images that the tags of a catalog ask for. Used by one thread, except `forget`."""

    def __init__(self, documents: ImageDocuments, settings: Settings) -> None:
        self._documents = documents
        self._naming = naming_of(settings)
        self._chosen: dict[str, ChosenImage] = {}
        self._never: dict[str, Unwanted] = {}
        """Manifests that this node never runs."""
        self._known: dict[str, DesiredImage] = {}
        """The images of the last pass: most tags have not changed since."""

    def of(
        self, tags: Iterable[TagState], stop: Stop
    ) -> tuple[list[DesiredImage], list[tuple[TagState, Unwanted]]]:
        """Returns the images of these tags, and the tags not to publish with the reason.

        Visits the documents of one image at a time. Raises StoppedError.
        """
        desired: list[DesiredImage] = []
        unwanted: list[tuple[TagState, Unwanted]] = []
        asked: set[str] = set()
        for tag in tags:
            known, key = self._known.get(tag.reference), _key(tag)
            asked.add(key)
            if known is not None and known.tag == tag and key in self._chosen:
                desired.append(known)
                continue
            chosen = self._choose(tag, key, stop)
            names = self.names(tag, chosen)
            if isinstance(chosen, Unwanted):
                unwanted.append((tag, chosen))
            elif not names:
                reason = "its name has no registry, so a runtime cannot ask for it"
                unwanted.append((tag, Unwanted("artifact", reason)))
            else:
                desired.append(DesiredImage(tag, chosen, names))
        self._known = {each.tag.reference: each for each in desired}
        self._keep_only(asked)
        found = _without_collisions(desired, unwanted)
        return _without_repeats(found), unwanted

    def names(self, tag: TagState, chosen: ChosenImage | Unwanted) -> tuple[str, ...]:
        """Returns the names of a tag: also that of the manifest that the node runs of an index."""
        digests = [parse_digest(tag.digest)]
        if isinstance(chosen, ChosenImage) and chosen.manifest.digest not in digests:
            digests.append(chosen.manifest.digest)
        return self._naming.names(Repository(tag.host, tag.path), tag.tag, *digests)

    def forget(self, digest: str) -> None:
        """Drops the cached content of a target: the next pass chooses again. Thread-safe."""
        for key in (digest, f"{digest}{_LISTED}"):
            self._chosen.pop(key, None)

    def _keep_only(self, keys: set[str]) -> None:
        """Drops what no tag of the last pass has: the memory follows the number of tags."""
        for key in self._chosen.keys() - keys:
            self._chosen.pop(key, None)
        for key in self._never.keys() - keys:
            self._never.pop(key, None)

    def _choose(self, tag: TagState, key: str, stop: Stop) -> ChosenImage | Unwanted:
        chosen = self._chosen.get(key) or self._never.get(key)
        if chosen is not None:
            return chosen
        found = self._documents.choose(tag, stop, is_listed=tag.is_listed)
        if isinstance(found, ChosenImage):
            self._chosen[key] = found
        elif found.state != "incomplete" and tag.media_type not in INDEX_TYPES:
            self._never[key] = found
        return found


def _key(tag: TagState) -> str:
    """Returns the key of what is chosen: a manifest that an index lists has its platform."""
    return f"{tag.digest}{_LISTED}" if tag.is_listed else tag.digest


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
        names = tuple(n for n in each.names if owners[n].target_of(n) == each.target_of(n))
        if names:
            found.append(each if names == each.names else replace(each, names=names))
        else:
            other = owners[each.names[0]].tag.reference
            reason = f"its names belong to {other}, by `extra_registries` or `rewrite`"
            unwanted.append((each.tag, Unwanted("conflict", reason)))
    return found


def _without_repeats(desired: list[DesiredImage]) -> list[DesiredImage]:
    """Leaves out digests whose names pinned images with a tag have too."""
    named = {n for each in desired if each.tag.tag and each.tag.backed for n in each.names}
    return [each for each in desired if each.tag.tag or not named.issuperset(each.names)]


def _rank(image: DesiredImage) -> tuple[bool, int]:
    return not image.tag.pushed, image.tag.sequence


def labels_of(desired: Iterable[DesiredImage], agent: str) -> dict[str, dict[str, str]]:
    """Returns the labels of each name; several tags may share a `name@digest`."""
    archives: dict[str, list[str]] = {}
    pinned: dict[str, bool] = {}
    for each in desired:
        for name in each.names:
            archives.setdefault(name, []).extend(each.tag.archives)
            pinned[name] = pinned.get(name, False) or each.tag.backed
    return {
        name: name_labels(pinned=pinned[name], archives=dict.fromkeys(found), agent=agent)
        for name, found in archives.items()
    }
