"""The unpack steps of an image: its layers in order, each with its diff ID and chain ID.

Decides which manifests can be unpacked, and gives the reason for the others. A chain ID identifies
the file system of a layer and all below it (config.md, "Layer ChainID"). The media types of layers
are those of containerd's `images.DiffCompression`, the same from 1.6 to 2.1. What cannot be
unpacked is published all the same. Left to others: verifying the bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from airside.core.errors import NotRunnableError
from airside.oci.digest import Digest, digest_of
from airside.oci.media_types import IMAGE_CONFIG_TYPES, is_wasm_type
from airside.oci.model import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    OCI_LAYER,
    Descriptor,
    Document,
    Manifest,
    parse_config,
)

_COMPRESSED_TYPES = frozenset({DOCKER_LAYER_GZIP, f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+zstd"})
_LAYER_TYPES = _COMPRESSED_TYPES | {DOCKER_LAYER, OCI_LAYER}
_LAYER_PREFIXES = (OCI_LAYER.removesuffix("v1.tar"), DOCKER_LAYER.removesuffix(".tar"))
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
    if manifest.kind_of_artifact:
        raise NotRunnableError(f"it is no image but an artifact ({manifest.kind_of_artifact})")
    if content.config.media_type not in IMAGE_CONFIG_TYPES:
        raise NotRunnableError(_config_obstacle(content))
    diff_ids = parse_config(config_raw, "the image's config").diff_ids
    layers = file_system_layers(content, len(diff_ids))
    for number, layer in enumerate(layers, start=1):
        _check_layer(layer, number)
    _check_config(config_raw, layers, diff_ids)
    return Rootfs(content.config.digest, layers, diff_ids)


def unpack_obstacle(manifest: Document) -> str:
    """Returns why no snapshotter of ours unpacks a manifest, by its media types alone; else "".

    Layers that are no file systems are passed over, unless there are no others.
    """
    content = manifest.content
    if not isinstance(content, Manifest) or manifest.kind_of_artifact:
        return ""
    if content.config.media_type not in IMAGE_CONFIG_TYPES:
        return _config_obstacle(content)
    for number, layer in enumerate(content.layers, start=1):
        if _is_file_system(layer) or not any(map(_is_file_system, content.layers)):
            reason = _layer_obstacle(layer)
            if reason:
                return f"layer {number} ({layer.digest.short}) {reason}"
    return ""


def _config_obstacle(manifest: Manifest) -> str:
    return (
        f"it is WebAssembly with a config of the type {manifest.config.media_type:.120}, "
        "which a shim of containerd runs"
    )


def file_system_layers(manifest: Manifest, count: int) -> tuple[Descriptor, ...]:
    """Returns the layers that have a diff ID each, if there are `count` such; else all layers."""
    layers = tuple(filter(_is_file_system, manifest.layers))
    return layers if layers and len(layers) == count else manifest.layers


def _is_file_system(layer: Descriptor) -> bool:
    """Returns True for a layer that containerd counts among the diff IDs (`images.IsLayerType`).

    Since 1.6.25 and 1.7.7 containerd passes over the others, such as those of WebAssembly beside a
    root file system.
    """
    return layer.media_type.startswith(_LAYER_PREFIXES)


def _check_layer(layer: Descriptor, number: int) -> None:
    reason = _layer_obstacle(layer)
    if reason:
        raise NotRunnableError(f"layer {number} ({layer.digest.short}) {reason}", blob=layer.digest)


def _layer_obstacle(layer: Descriptor) -> str:
    if _ENCRYPTED in layer.media_type:
        return "is encrypted: containerd needs the key and a stream processor to unpack it"
    if not layer.is_distributable:
        return "is a foreign layer, whose bytes are not in archives; images of Windows have these"
    if is_wasm_type(layer.media_type):
        return f"is WebAssembly ({layer.media_type:.120}), which a shim of containerd runs"
    if layer.media_type not in _LAYER_TYPES:
        return (
            f"has the media type {layer.media_type!r:.120}: "
            "containerd needs a snapshotter or differ that knows it"
        )
    return ""


def _check_config(raw: bytes, layers: tuple[Descriptor, ...], diff_ids: tuple[Digest, ...]) -> None:
    rootfs = json.loads(raw).get("rootfs")
    kind = rootfs.get("type") if isinstance(rootfs, dict) else None
    if kind not in (None, "", "layers"):
        raise NotRunnableError(f"its config has a rootfs of type {kind!r:.40}, not layers")
    if len(layers) != len(diff_ids):
        raise NotRunnableError(
            f"its manifest has {len(layers)} layers and its config {len(diff_ids)} "
            "diff IDs; build or save the image again",
            expected=len(diff_ids),
            found=len(layers),
        )
    if not diff_ids:
        raise NotRunnableError("it has no layers")
    if any(diff_id.algorithm != "sha256" for diff_id in diff_ids):
        raise NotRunnableError(
            "its diff IDs are not sha256, the only kind that containerd supports"
        )
