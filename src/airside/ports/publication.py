"""Decides what a container runtime holds of an image: names, documents, blobs and labels. Pure.

Chooses the names of an image, and the labels of its blobs and names (containerd's
`images/handlers.go`: garbage collection follows labels). Left to others: which manifest is the
node's (`node_manifest`), whether the runtime has it already, and how it is published.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from airside.oci.digest import Digest
from airside.oci.model import Descriptor, Document, Manifest
from airside.oci.reference import Repository

PINNED_LABEL = "io.cri-containerd.pinned"
PINNED = "pinned"
ARCHIVES_LABEL = "io.airside.archives"
"""The label of names that an Airside published: the archives behind each."""
NO_ARCHIVE = "none"
"""Its value without archives: containerd deletes a label without a value."""
AGENT_LABEL = "io.airside.agent"
"""The label of the same names: the identity of the catalog that published them (ADR 0031)."""
SOURCE_LABEL = "containerd.io/distribution.source."
GC_LABEL = "containerd.io/gc.ref.content."
_LABEL_BYTES = 4096
"""A label's key and value together (containerd's `labels/validate.go`)."""
_MORE = ", …"


@dataclass(frozen=True, slots=True)
class NodeContent:
    """The part of an image that a node needs: the documents from the target down, and the blobs."""

    chain: tuple[Document, ...]
    """The documents: the target first, the manifest of the node's platform last."""
    note: str = ""
    """What is unusual about the choice; empty for a manifest of the node's platform."""

    @property
    def target(self) -> Document:
        return self.chain[0]

    @property
    def manifest(self) -> Document:
        return self.chain[-1]

    @property
    def config(self) -> Digest:
        """The digest of the config. Its text is the image ID."""
        assert isinstance(self.manifest.content, Manifest)
        return self.manifest.content.config.digest

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All blobs, each once: layers, config, then the documents from below."""
        assert isinstance(self.manifest.content, Manifest)
        manifest = self.manifest.content
        documents = [_descriptor(document) for document in reversed(self.chain)]
        found = {d.digest: d for d in (*manifest.layers, manifest.config, *documents)}
        return tuple(found.values())

    def children(self, digest: Digest) -> Mapping[str, Digest]:
        """Returns the labels by which garbage collection follows a document: key → child."""
        for position, document in enumerate(self.chain):
            if document.digest == digest:
                if isinstance(document.content, Manifest):
                    return _below_manifest(document.content)
                return _below_index(self.chain[position + 1])
        return {}


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The reason why an image is not published, and the state to record."""

    state: str
    reason: str


def _descriptor(document: Document) -> Descriptor:
    return Descriptor(document.media_type, document.digest, document.size_bytes)


def _below_manifest(manifest: Manifest) -> dict[str, Digest]:
    found = {f"{GC_LABEL}config": manifest.config.digest}
    return found | {f"{GC_LABEL}l.{n}": d.digest for n, d in enumerate(manifest.layers)}


def _below_index(child: Document) -> dict[str, Digest]:
    """An index refers to the chosen child only; containerd numbers the children that it keeps."""
    key = "m.0" if isinstance(child.content, Manifest) else "0"
    return {f"{GC_LABEL}{key}": child.digest}


def missing_labels(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels to add to a blob that has others.

    A reference to a child never replaces another's: it gets the next free number. The repositories
    of one registry are joined.
    """
    added: dict[str, str] = {}
    children = {value for key, value in present.items() if key.startswith(GC_LABEL)}
    for key, value in wanted.items():
        if key.startswith(SOURCE_LABEL):
            paths = [*filter(None, present.get(key, "").split(",")), *value.split(",")]
            joined = ",".join(dict.fromkeys(paths))
            if joined != present.get(key) and len(key) + len(joined) <= _LABEL_BYTES:
                added[key] = joined
        elif key.startswith(GC_LABEL):
            if value not in children:
                added[_free(key, {*present, *added})] = value
        elif present.get(key) != value:
            added[key] = value
    return added


def _free(key: str, taken: Container[str]) -> str:
    if key not in taken:
        return key
    stem = key.rstrip("0123456789")
    stem = stem if stem.endswith(".") else f"{key}."
    number = 0
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"


@dataclass(frozen=True, slots=True)
class Naming:
    """The rules by which an image is named in a runtime."""

    extra_registries: tuple[str, ...] = ()
    rewrite: tuple[tuple[str, str], ...] = ()
    """Pairs (prefix, replacement); the longest matching prefix counts."""
    own_hosts: tuple[str, ...] = ()
    """The names of this registry for clients: the hosts of images that were pushed without one."""

    def names(self, repository: Repository, tag: str, *digests: Digest) -> tuple[str, ...]:
        """Returns `name:tag`, unless `tag` is empty, and `name@digest`; also in extra registries.

        An image that was pushed without a host gets the hosts of this registry.
        """
        hosts = (repository.host,) if repository.host else self.own_hosts
        own = [self._rewritten(f"{host}/{repository.path}") for host in hosts]
        stems = [*own, *(f"{host}/{repository.path}" for host in self.extra_registries)]
        ends = [*([f":{tag}"] if tag else []), *(f"@{digest}" for digest in digests)]
        return tuple(dict.fromkeys(f"{stem}{end}" for stem in stems for end in ends))

    def _rewritten(self, name: str) -> str:
        fitting = [rule for rule in self.rewrite if name.startswith(rule[0])]
        if not fitting:
            return name
        prefix, instead = max(fitting, key=lambda rule: len(rule[0]))
        return instead + name.removeprefix(prefix)


def parse_rewrite(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parses rules `FROM=TO`. Raises ValueError with the malformed one."""
    rules = []
    for text in texts:
        prefix, equals, instead = text.partition("=")
        if not equals or not prefix or not instead:
            raise ValueError(text)
        rules.append((prefix, instead))
    return tuple(rules)


def name_labels(*, pinned: bool, archives: Iterable[str], agent: str = "") -> dict[str, str]:
    """Returns the labels of a name: the pin, the archives behind it, and who published it."""
    room = _LABEL_BYTES - len(ARCHIVES_LABEL)
    found = {ARCHIVES_LABEL: _fitting(", ".join(archives) or NO_ARCHIVE, room)}
    found |= {AGENT_LABEL: agent} if agent else {}
    return found | ({PINNED_LABEL: PINNED} if pinned else {})


def _fitting(text: str, room: int) -> str:
    raw = text.encode()
    if len(raw) <= room:
        return text
    return raw[: room - len(_MORE.encode())].decode(errors="ignore") + _MORE


@dataclass(frozen=True, slots=True)
class Publication:
    """An image to publish: content, and names with their labels."""

    content: NodeContent
    names: Mapping[str, Mapping[str, str]]
    repositories: tuple[Repository, ...] = ()
    """The repositories of the image: other nodes find blobs by them (Spegel, K3s)."""
    unpack: bool = True

    @property
    def target(self) -> Descriptor:
        return _descriptor(self.content.target)

    def target_of(self, name: str) -> Descriptor:
        """Returns the document that a name points at: `name@digest` that of its digest."""
        named = (d for d in self.content.chain if name.endswith(f"@{d.digest}"))
        return _descriptor(next(named, self.content.target))

    def blob_labels(self, digest: Digest) -> dict[str, str]:
        """Returns all labels of a blob."""
        children = self.content.children(digest)
        return {key: str(child) for key, child in children.items()} | self._sources()

    def _sources(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for repository in self.repositories:
            if repository.host:
                found.setdefault(SOURCE_LABEL + repository.host, []).append(repository.path)
        return {key: ",".join(dict.fromkeys(paths)) for key, paths in found.items()}


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A name in a runtime: its target, and its labels."""

    name: str
    target: Digest
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_of_airside(self) -> bool:
        """True if an Airside published the name, this one or another."""
        return ARCHIVES_LABEL in self.labels or AGENT_LABEL in self.labels

    @property
    def agent(self) -> str:
        """The identity that published the name; empty if an earlier version did."""
        return self.labels.get(AGENT_LABEL, "")

    @property
    def pinned(self) -> bool:
        return self.labels.get(PINNED_LABEL) == PINNED

    def has(self, target: Digest, labels: Mapping[str, str]) -> bool:
        """Returns True if target and labels are as given; labels of others do not count."""
        pin = labels.get(PINNED_LABEL) == self.labels.get(PINNED_LABEL)
        same = all(self.labels.get(key) == value for key, value in labels.items())
        return self.target == target and pin and same
