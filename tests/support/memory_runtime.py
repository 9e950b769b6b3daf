"""A container runtime in memory: what the publisher's decisions are tested on."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from airside.content import Published, RuntimeFacts
from airside.errors import AirsideError
from airside.oci.digest import Digest
from airside.publication import PINNED_LABEL, NamedImage, Publication


class MemoryRuntime:
    """Implements `airside.content.Runtime`. `fail` is raised by the next publish of a name."""

    def __init__(self) -> None:
        self.named: dict[str, NamedImage] = {}
        self.held: set[str] = set()
        self.manifests: dict[Digest, Digest] = {}
        self.unpacked: set[Digest] = set()
        self.used: set[str] = set()
        self.fail: dict[str, AirsideError] = {}
        self.published: list[Publication] = []

    @property
    def facts(self) -> RuntimeFacts:
        return RuntimeFacts(
            version="2.1.9",
            server_id="memory",
            knows_pins=True,
            has_cri=True,
            snapshotter="memory",
            unpacks=True,
            content_root="",
            why_streamed="",
            ways={},
        )

    @property
    def content(self) -> None:
        return None

    @property
    def copies(self) -> None:
        return None

    @property
    def puller(self) -> None:
        return None

    def images(self) -> dict[str, NamedImage]:
        return dict(self.named)

    def blobs(self) -> frozenset[str]:
        return frozenset(self.held)

    def manifest_of(self, name: str) -> Digest | None:
        found = self.named.get(name)
        return self.manifests.get(found.target, found.target) if found is not None else None

    def publish(self, publication: Publication, *, stop: Callable[[], bool]) -> Published:
        assert not stop()
        for name in publication.names:
            if name in self.fail:
                raise self.fail[name]
        self.published.append(publication)
        target, content = publication.target.digest, publication.content
        before = len(self.held)
        self.held |= {str(d.digest) for d in content.blobs}
        self.manifests[target] = content.manifest.digest
        if publication.unpack:
            self.unpacked.add(content.config)
        for name, labels in publication.names.items():
            self.named[name] = NamedImage(name, target, dict(labels))
        return Published({"link": len(self.held) - before}, content.config in self.unpacked)

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        assert image_id.startswith("sha256:")
        for name, labels in names.items():
            if name in self.named:
                kept = {k: v for k, v in self.named[name].labels.items() if k != PINNED_LABEL}
                self.named[name] = NamedImage(name, self.named[name].target, kept | dict(labels))

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        for name in names:
            self.named.pop(name, None)
        return frozenset(set(image_ids) & self.used)

    def changes(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        pass
