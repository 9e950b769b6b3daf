"""Finds, in the members of an archive while it is read, which layers can be unpacked already. Pure.

A config lists the diff IDs of its image, and the digest of a plain layer is its diff ID: so a
docker-archive needs no `manifest.json` for this. Of compressed layers a manifest says which diff ID
is whose. Documents and layers may come in any order. What an image without a name costs is wasted
work: whether the archive names it is often known only at its end.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from airside.core.errors import InputError
from airside.oci.chain import file_system_layers, is_compressed
from airside.oci.digest import Digest
from airside.oci.model import (
    OCI_LAYER,
    Descriptor,
    Document,
    ImageConfig,
    Manifest,
    parse_bare_document,
    parse_config,
)
from airside.oci.platform import Platform, best_for

DOCUMENT_BYTES = 256 * 1024
"""Larger documents are not looked at: a config of a hundred layers has a tenth of this."""
_MOST_IMAGES = 512
_MOST_LAYERS = 8_192
"""Layers of all images together."""


@dataclass(slots=True)
class Found:
    """What a member has made known: images by their diff IDs, and layers by their diff ID."""

    images: list[tuple[Digest, ...]] = field(default_factory=list)
    layers: list[tuple[Digest, Descriptor]] = field(default_factory=list)


class EarlyImages:
    """The images of one archive for one node. Not thread-safe."""

    def __init__(self, node: Platform) -> None:
        self._node = node
        self._images: dict[Digest, tuple[Digest, ...]] = {}
        """Diff IDs by the digest of the config."""
        self._manifests: dict[Digest, list[Manifest]] = {}
        """Manifests by the digest of their config."""
        self._diff_ids: dict[Digest, Digest] = {}
        """Diff IDs of compressed layers by their digest."""
        self._media_types: dict[Digest, str] = {}
        self._wanted: set[Digest] = set()
        self._sizes: dict[Digest, int] = {}
        """Sizes in bytes of the members that were verified, by digest."""
        self._count = 0

    def add(self, digest: Digest, size_bytes: int, raw: bytes | None = None) -> Found:
        """Returns what a verified member has made known; `raw` is the content of a small one."""
        found = Found()
        self._sizes[digest] = size_bytes
        if raw is not None:
            self._add_document(digest, raw, found)
        found.layers += self._layers([digest])
        return found

    def _add_document(self, digest: Digest, raw: bytes, found: Found) -> None:
        with contextlib.suppress(InputError):  # the plan says what is wrong with it
            if b'"rootfs"' in raw:
                self._add_config(digest, parse_config(raw, "a config"), found)
            elif b'"layers"' in raw and b'"config"' in raw:
                self._add_manifest(parse_bare_document(raw, "a manifest"), found)

    def _add_config(self, digest: Digest, config: ImageConfig, found: Found) -> None:
        diff_ids = config.diff_ids
        self._count += len(diff_ids)
        if not diff_ids or digest in self._images or not self._runs(config.platform):
            return
        if len(self._images) >= _MOST_IMAGES or self._count > _MOST_LAYERS:
            return
        self._images[digest] = diff_ids
        found.images.append(diff_ids)
        fresh = [each for each in dict.fromkeys(diff_ids) if each not in self._wanted]
        self._wanted.update(fresh)
        found.layers += self._layers(each for each in fresh if each in self._sizes)
        for manifest in self._manifests.pop(digest, ()):
            self._match(manifest, diff_ids, found)

    def _runs(self, platform: Platform | None) -> bool:
        return platform is None or best_for(self._node, [platform]) is not None

    def _add_manifest(self, document: Document, found: Found) -> None:
        manifest = document.content
        if not isinstance(manifest, Manifest) or not document.is_image:
            return
        diff_ids = self._images.get(manifest.config.digest)
        if diff_ids is not None:
            self._match(manifest, diff_ids, found)
        elif self._count <= _MOST_LAYERS:
            self._count += len(manifest.layers)
            self._manifests.setdefault(manifest.config.digest, []).append(manifest)

    def _match(self, manifest: Manifest, diff_ids: tuple[Digest, ...], found: Found) -> None:
        """Notes which compressed layer has which diff ID."""
        layers = file_system_layers(manifest, len(diff_ids))
        if len(layers) != len(diff_ids):
            return
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            is_new = layer.digest not in self._diff_ids
            if is_compressed(layer) and is_new:
                self._diff_ids[layer.digest] = diff_id
                self._media_types[layer.digest] = layer.media_type
                if layer.digest in self._sizes:
                    found.layers += self._layers([layer.digest])

    def _layers(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, Descriptor]]:
        """Yields the verified members that are layers of an image, each with its diff ID."""
        for digest in digests:
            size_bytes = self._sizes[digest]
            if digest in self._wanted:
                yield digest, Descriptor(OCI_LAYER, digest, size_bytes)
            diff_id = self._diff_ids.get(digest)
            if diff_id is not None:
                yield diff_id, Descriptor(self._media_types[digest], digest, size_bytes)

    def weights(self, sizes: Mapping[Digest, int]) -> dict[Digest, tuple[int, int]]:
        """Returns how much each layer holds up, for the order in which members are read.

        The most bytes of a chain from the layer upwards, then the number of images with it: so a
        layer comes before those on top of it, and the base of the longest chain first. `sizes`: the
        members' sizes in bytes.
        """
        compressed = {diff_id: digest for digest, diff_id in self._diff_ids.items()}
        found: dict[Digest, tuple[int, int]] = {}
        for diff_ids in self._images.values():
            above = 0
            for diff_id in reversed(diff_ids):
                digest = diff_id if diff_id in sizes else compressed.get(diff_id, diff_id)
                above += sizes.get(digest, 0)
                most, count = found.get(digest, (0, 0))
                found[digest] = max(most, above), count + 1
        return found
