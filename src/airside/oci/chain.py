"""The unpack steps of an image: its layers in order, each with its diff ID and chain ID.

Decides which manifests can be unpacked, and gives the reason for the others. A chain ID identifies
the file system of a layer and all below it (config.md, "Layer ChainID"). The media types of layers
are those of containerd's `images.DiffCompression`, the same from 1.6 to 2.1. Left to others:
verifying the bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from airside.core.errors import NotRunnableError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    IMAGE_CONFIG_TYPES,
    OCI_LAYER,
    Descriptor,
    Document,
    Manifest,
    parse_config,
)

_COMPRESSED_TYPES = frozenset({DOCKER_LAYER_GZIP, f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+zstd"})
_LAYER_TYPES = _COMPRESSED_TYPES | {DOCKER_LAYER, OCI_LAYER}
_ENCRYPTED = "+encrypted"


@dataclass(frozen=True, slots=True)
class Step:
    """One layer to unpack: `chain` is the snapshot's name, `parent` that of the snapshot below."""

    layer: Descriptor
    diff_id: Digest
    chain: Digest
    parent: Digest | None


@dataclass(frozen=True, slots=True)
class Rootfs:
    """The layers of one manifest, lowest first, with their diff IDs."""

    config: Digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The layers as unpack steps, the lowest first."""
        chains = chain_ids(self.diff_ids)
        parents = (None, *chains[:-1])
        rows = zip(self.layers, self.diff_ids, chains, parents, strict=True)
        return tuple(Step(*row) for row in rows)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Returns the chain ID of each layer; that of the first is its diff ID."""
    found: list[Digest] = []
    for diff_id in diff_ids:
        found.append(digest_of(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return tuple(found)


def is_compressed(layer: Descriptor) -> bool:
    """Returns True if containerd detects and undoes a compression in a layer of this type."""
    return layer.media_type in _COMPRESSED_TYPES


def rootfs_of(manifest: Document, config_raw: bytes) -> Rootfs:
    """Returns the layers of a manifest with their diff IDs, from its config.

    Raises NotRunnableError with the reason, ManifestInvalidError for an invalid config.
    """
    content = manifest.content
    if not isinstance(content, Manifest):
        raise NotRunnableError("it is an index, not the manifest of one platform")
    kind = manifest.kind_of_artifact
    if kind or content.config.media_type not in IMAGE_CONFIG_TYPES:
        raise NotRunnableError(
            f"it is no image but an artifact ({kind or content.config.media_type})"
        )
    for number, layer in enumerate(content.layers, start=1):
        _check_layer(layer, number)
    diff_ids = parse_config(config_raw, "the image's config").diff_ids
    _check_config(config_raw, content, diff_ids)
    return Rootfs(content.config.digest, content.layers, diff_ids)


def _check_layer(layer: Descriptor, number: int) -> None:
    if _ENCRYPTED in layer.media_type:
        reason = "is encrypted; import the image as it was before encryption"
    elif not layer.is_distributable:
        reason = "is a foreign layer, whose bytes are not in archives; images of Windows have these"
    elif layer.media_type not in _LAYER_TYPES:
        reason = f"has the media type {layer.media_type!r:.120}, which containerd cannot unpack"
    else:
        return
    raise NotRunnableError(f"layer {number} ({layer.digest.short}) {reason}", blob=layer.digest)


def _check_config(raw: bytes, content: Manifest, diff_ids: tuple[Digest, ...]) -> None:
    rootfs = json.loads(raw).get("rootfs")
    kind = rootfs.get("type") if isinstance(rootfs, dict) else None
    if kind not in (None, "", "layers"):
        raise NotRunnableError(f"its config has a rootfs of type {kind!r:.40}, not layers")
    if len(content.layers) != len(diff_ids):
        raise NotRunnableError(
            f"its manifest has {len(content.layers)} layers and its config {len(diff_ids)} "
            "diff IDs; build or save the image again",
            expected=len(diff_ids),
            found=len(content.layers),
        )
    if not diff_ids:
        raise NotRunnableError("it has no layers")
    if any(diff_id.algorithm != "sha256" for diff_id in diff_ids):
        raise NotRunnableError(
            "its diff IDs are not sha256, the only kind that containerd supports"
        )
