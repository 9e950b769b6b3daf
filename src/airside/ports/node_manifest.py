"""Chooses the manifest that a node runs of an image, as containerd does (`images.Manifest`). Pure.

The platform in an index counts, as containerd reads that one; a config's only where the index has
none. containerd does not look at the platform of a manifest that is itself the target of a name.
Configs of cross-built images often name a wrong architecture, so an image's only manifest is chosen
whatever its config says (the setting `other_platforms`). WebAssembly runs on any node. Where
containerd would find nothing in an index, the manifest itself is the target.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from airside.oci.digest import Digest
from airside.oci.merge import MOST_PARTS
from airside.oci.model import INDEX_TYPES, Descriptor, Document, Index, Manifest
from airside.oci.platform import Platform, best_for
from airside.ports.publication import NodeContent, Unwanted

_MOST_NESTED = 8

Load = Callable[[Descriptor], Document | None]
"""Returns a stored document, None if it is not stored."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Chooses the manifest of one node. `others`: the setting `other_platforms`."""

    node: Platform
    load: Load
    platform_of: Callable[[Document], Platform | None]
    """Returns the platform in a manifest's config."""
    is_whole: Callable[[Document], bool]
    """Returns True if config and layers of a manifest are stored."""
    others: str = "sole"

    def choose(self, target: Document) -> NodeContent | Unwanted:
        """Returns the content for the node, or why there is none."""
        if target.kind_of_artifact:
            kind = target.kind_of_artifact
            return Unwanted("artifact", f"it is an artifact ({kind}), not an image")
        found = tuple(islice(self._candidates(target), MOST_PARTS))
        if not found:
            return Unwanted("artifact", "it has no image that a runtime could run")
        best = self._best(found)
        if isinstance(best, Unwanted):
            return best
        chain = [self.load(each) for each in best.path]
        if None in chain:
            return Unwanted("incomplete", "a document below its target is missing")
        documents = tuple(document for document in chain if document is not None)
        if not best.note or not documents:
            return NodeContent((target, *documents), best.note)
        return NodeContent(documents[-1:], f"{best.note}; its index is left out")

    def _best(self, images: tuple["_Candidate", ...]) -> "_Candidate | Unwanted":
        whole = [each for each in images if each.is_whole]
        if not whole:
            return Unwanted("incomplete", "layers or the config of its manifests are missing")
        best = best_for(self.node, [each.platform for each in whole if each.platform is not None])
        for each in whole:
            if each.platform is None or each.platform == best:
                return each
        other = self._other(images, whole)
        if other is not None:
            return other
        has = ", ".join(sorted({str(each.platform) for each in whole}))
        return Unwanted("not-for-node", f"not for this node, {self.node} (has: {has})")

    def _other(
        self, images: tuple["_Candidate", ...], whole: list["_Candidate"]
    ) -> "_Candidate | None":
        """Returns the image to run although no platform is the node's, with a note."""
        for each in whole:
            if each.platform is not None and each.platform.is_wasm:
                return replace(each, note=f"it is WebAssembly ({each.platform}), for any node")
        first = whole[0]
        is_sole = len(images) == 1 and not first.declared
        same_os = first.platform is not None and first.platform.os == self.node.os
        if self.others == "sole" and is_sole and same_os:
            says = f"its config says {first.platform}, this node is {self.node}"
            return replace(first, note=f"{says}: published, as it is the only manifest")
        if self.others == "all":
            says = f"it is for {first.platform}, this node is {self.node}"
            return replace(first, note=f"{says}: published, as other_platforms says")
        return None

    def _candidates(self, target: Document) -> Iterator["_Candidate"]:
        """Yields each stored image at or below a document, as listed; holds no document."""
        if not isinstance(target.content, Index):
            alone = self._judged(target)
            if alone is not None:
                is_unknown = alone.platform is not None and alone.platform.is_unknown
                yield replace(alone, platform=None) if is_unknown else alone
            return
        judged: dict[Digest, _Candidate | None] = {}
        for path in self._leaves(target, target.content):
            entry = path[-1]
            if entry.digest not in judged:
                document = self.load(entry)
                judged[entry.digest] = self._judged(document) if document else None
            leaf = judged[entry.digest]
            platform = entry.platform or (leaf.platform if leaf else None)
            if leaf is not None and not (platform and platform.is_unknown):
                declared = entry.platform is not None
                yield replace(leaf, platform=platform, path=path, declared=declared)

    def _leaves(self, target: Document, index: Index) -> Iterator[tuple[Descriptor, ...]]:
        """Yields the way to each listed manifest. Each index is read once, however often listed."""
        seen = {target.digest}
        walks: list[tuple[Iterator[Descriptor], tuple[Descriptor, ...]]]
        walks = [(iter(index.manifests), ())]
        while walks:
            entries, path = walks[-1]
            entry = next(entries, None)
            if entry is None:
                walks.pop()
            elif entry.media_type not in INDEX_TYPES:
                if entry.is_document:
                    yield (*path, entry)
            elif entry.digest not in seen and len(walks) <= _MOST_NESTED:
                seen.add(entry.digest)
                nested = self.load(entry)
                if nested is not None and isinstance(nested.content, Index):
                    walks.append((iter(nested.content.manifests), (*path, entry)))

    def _judged(self, manifest: Document) -> "_Candidate | None":
        """Returns the manifest of an image that a runtime could run, else None."""
        if not isinstance(manifest.content, Manifest) or manifest.kind_of_artifact:
            return None
        return _Candidate(self.platform_of(manifest), (), self.is_whole(manifest))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A stored image manifest; `path` leads to it from the target, which is left out.

    `declared`: its platform is that of the index. `note`: why it is chosen for another platform.
    """

    platform: Platform | None
    path: tuple[Descriptor, ...]
    is_whole: bool
    declared: bool = False
    note: str = ""
