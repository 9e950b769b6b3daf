"""Images to write, given as a config and layers; their manifests and indexes are derived. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airside.archive.writer.member import Blob, blob_of, json_bytes
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageConfig,
    parse_config,
)

OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored, plain or compressed according to its media type."""

    blob: Blob
    media_type: str = OCI_LAYER


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image of one platform: its config as bytes, its layers, lowest first, and its names.

    Names are written as they are. The manifest is derived; its media type is `media_type`.
    """

    config: bytes
    layers: Sequence[Layer]
    names: tuple[str, ...] = ()
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def parsed(self) -> ImageConfig:
        return parse_config(self.config, "image config")

    @property
    def manifest(self) -> bytes:
        config_type = DOCKER_CONFIG if self.media_type == DOCKER_MANIFEST else OCI_CONFIG
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": descriptor_json(config_type, blob_of(self.config)),
            "layers": [descriptor_json(layer.media_type, layer.blob) for layer in self.layers],
        }
        return json_bytes(_annotated(document, self.annotations))


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An image of several platforms: an index over the manifests of `images`."""

    images: Sequence[ImageSpec]
    names: tuple[str, ...] = ()
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def index(self) -> bytes:
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [root_descriptor(image) for image in self.images],
        }
        return json_bytes(_annotated(document, self.annotations))


def _annotated(document: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    return {**document, "annotations": dict(annotations)} if annotations else document


def root_descriptor(root: ImageSpec | IndexSpec) -> dict[str, Any]:
    """Returns the descriptor of an image or index, with the platform of an image."""
    descriptor = descriptor_json(root.media_type, blob_of(document_of(root)))
    platform = None if isinstance(root, IndexSpec) else root.parsed.platform
    if platform is not None:
        fields = {
            "architecture": platform.architecture,
            "os": platform.os,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features),
            "variant": platform.variant,
        }
        descriptor["platform"] = {key: value for key, value in fields.items() if value}
    return descriptor


def document_of(root: ImageSpec | IndexSpec) -> bytes:
    """Returns the bytes of the manifest or index."""
    return root.index if isinstance(root, IndexSpec) else root.manifest


def descriptor_json(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size_bytes}


def split_tag(name: str) -> tuple[str, str]:
    """Returns (repository, tag) without validating the name; the tag is empty if absent."""
    repository, colon, tag = name.partition("@")[0].rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")
