"""Descriptors and documents of the OCI image spec, and Docker's equivalents.

A `Document` has the bytes that were read as `raw`. Its digest is over `raw`, and nothing here ever
serialises a document again. Parsing is strict about media type, digests, sizes and shape, and
ignores everything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airside.core.errors import DigestInvalidError, DigestMismatchError, ManifestInvalidError
from airside.oci.digest import Digest, digest_of, parse_digest
from airside.oci.media_types import IMAGE_CONFIG_TYPES, artifact_kind, is_wasm_type
from airside.oci.platform import Platform, platform_from
from airside.oci.strict_json import load_json

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
DOCUMENT_TYPES = INDEX_TYPES | MANIFEST_TYPES
_NON_DISTRIBUTABLE = ("nondistributable", ".foreign.")

MAX_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type + digest + size in bytes, with platform and annotations where given."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_document(self) -> bool:
        return self.media_type in DOCUMENT_TYPES

    @property
    def is_distributable(self) -> bool:
        """False for foreign layers, whose bytes registries and archives lawfully lack."""
        return not any(mark in self.media_type for mark in _NON_DISTRIBUTABLE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: config and layers, lowest layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """An image index (Docker: manifest list): manifests, usually one per platform."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index: the raw bytes as they were read, with their parsed content."""

    media_type: str
    raw: bytes
    digest: Digest
    content: Manifest | Index
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return len(self.raw)

    @property
    def is_image(self) -> bool:
        """True for an image manifest; false for an index and for artifacts (charts, SBOMs)."""
        return (
            isinstance(self.content, Manifest)
            and self.content.config.media_type in IMAGE_CONFIG_TYPES
        )

    @property
    def is_wasm(self) -> bool:
        """True for a manifest with a config or a layer of WebAssembly."""
        return isinstance(self.content, Manifest) and any(
            is_wasm_type(blob.media_type) for blob in self.content.blobs
        )

    @property
    def kind_of_artifact(self) -> str:
        """The artifact type; empty for what a runtime can run, and for an index of it.

        A statement about another document (`subject`) keeps its type.
        """
        if isinstance(self.content, Index) or (self.artifact_type and self.subject is not None):
            return self.artifact_type
        layers = [layer.media_type for layer in self.content.layers]
        return artifact_kind(self.artifact_type, self.content.config.media_type, layers)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """The blobs of a manifest, config first, or the manifests that an index lists."""
        if isinstance(self.content, Index):
            return self.content.manifests
        return self.content.blobs


def parse_descriptor(value: Any, what: str) -> Descriptor:
    """Parse a descriptor object (descriptor.md). `what` names it in a ManifestInvalidError."""
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{what} is not a descriptor object")
    media_type = value.get("mediaType")
    size = value.get("size")
    if not isinstance(media_type, str) or not media_type:
        raise ManifestInvalidError(f"{what} has no mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise ManifestInvalidError(f"{what} has no valid size, found {size!r:.40}")
    try:
        digest = parse_digest(value.get("digest"))
    except DigestInvalidError as exc:
        raise ManifestInvalidError(f"{what}: {exc.message}", **exc.context) from exc
    platform = value.get("platform")
    artifact_type = value.get("artifactType")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size_bytes=size,
        platform=platform_from(platform) if isinstance(platform, dict) else None,
        annotations=parse_annotations(value.get("annotations"), what),
        artifact_type=artifact_type if isinstance(artifact_type, str) else "",
    )


def parse_annotations(value: Any, what: str) -> Mapping[str, str]:
    """Returns the annotations, none for null. Raises ManifestInvalidError that names `what`."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ManifestInvalidError(f"{what}: annotations must be an object of strings")
    return value


def _descriptors(value: Any, what: str) -> tuple[Descriptor, ...]:
    if value is None:
        return ()  # an empty list, as Go writes one
    if not isinstance(value, list):
        raise ManifestInvalidError(f"{what} is not a list")
    return tuple(parse_descriptor(item, f"{what}[{n}]") for n, item in enumerate(value))


def parse_document(
    raw: bytes, media_type: str, what: str, *, algorithm: str = "sha256"
) -> Document:
    """Parse a manifest or an index of a known media type, named by a digest of `algorithm`.

    A `mediaType` inside the document must be the descriptor's, and the shape must be the type's
    (manifest.md, image-index.md: a document that is both is refused, CVE-2021-41190).
    Raises ManifestInvalidError.
    """
    return _document(load_json(raw, what), raw, media_type, what, algorithm)


def _document(value: Any, raw: bytes, media_type: str, what: str, algorithm: str) -> Document:
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{what} is not a JSON object")
    own_type = value.get("mediaType")
    if own_type is not None and own_type != media_type:
        raise ManifestInvalidError(
            f"{what} has the mediaType {own_type!r:.120}; its descriptor says {media_type!r:.120}",
            expected=media_type,
            found=own_type,
        )
    if value.get("schemaVersion") != 2:
        raise ManifestInvalidError(
            f"{what} has schemaVersion {value.get('schemaVersion')!r:.40}; only 2 is supported"
        )
    content = _content(value, media_type, what)
    subject = value.get("subject")
    artifact_type = value.get("artifactType")
    return Document(
        media_type=media_type,
        raw=raw,
        digest=digest_of(raw, algorithm),
        content=content,
        subject=parse_descriptor(subject, f"{what}: subject") if subject is not None else None,
        artifact_type=artifact_type if isinstance(artifact_type, str) else "",
        annotations=parse_annotations(value.get("annotations"), what),
    )


def parse_bare_document(raw: bytes, what: str, *, algorithm: str = "sha256") -> Document:
    """Parse a manifest or an index without a descriptor. Raises ManifestInvalidError.

    Its type is its `mediaType`, or without one, which only OCI allows, follows from its shape.
    """
    value = load_json(raw, what)
    own_type = value.get("mediaType") if isinstance(value, dict) else None
    if not isinstance(own_type, str):
        own_type = OCI_INDEX if isinstance(value, dict) and "manifests" in value else OCI_MANIFEST
    return _document(value, raw, own_type, what, algorithm)


def parse_named_document(raw: bytes, media_type: str, what: str, digest: Digest | None) -> Document:
    """Parse a manifest or an index, and verify its digest if one is given.

    With an empty `media_type` the document's own type counts. Raises ManifestInvalidError,
    DigestMismatchError.
    """
    algorithm = digest.algorithm if digest is not None else "sha256"
    if media_type:
        document = parse_document(raw, media_type, what, algorithm=algorithm)
    else:
        document = parse_bare_document(raw, what, algorithm=algorithm)
    if digest is not None and document.digest != digest:
        raise DigestMismatchError(
            f"{what} hashes to {document.digest}, not to {digest}",
            blob=digest,
            expected=digest,
            found=document.digest,
        )
    return document


def _content(value: dict[str, Any], media_type: str, what: str) -> Manifest | Index:
    has_manifests, has_layers = "manifests" in value, "layers" in value or "config" in value
    if has_manifests and has_layers:
        raise ManifestInvalidError(f"{what} is both an index and a manifest")
    if media_type in INDEX_TYPES:
        if not has_manifests:
            raise ManifestInvalidError(f"{what} is an index without manifests")
        return Index(_descriptors(value["manifests"], f"{what}: manifests"))
    if media_type in MANIFEST_TYPES:
        if "config" not in value or "layers" not in value:
            raise ManifestInvalidError(f"{what} is a manifest without config or layers")
        config = parse_descriptor(value["config"], f"{what}: config")
        return Manifest(config, _descriptors(value["layers"], f"{what}: layers"))
    raise ManifestInvalidError(
        f"{what} has the media type {media_type!r:.120}, which is neither a manifest nor an index"
    )


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The fields of an image config that Airside reads: the platform and the layers' diff IDs."""

    platform: Platform | None
    diff_ids: tuple[Digest, ...]


def parse_config(raw: bytes, what: str) -> ImageConfig:
    """Parse an image config (config.md). Raises ManifestInvalidError."""
    value = load_json(raw, what)
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{what} is not a JSON object")
    rootfs = value.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list):
        raise ManifestInvalidError(f"{what}: rootfs.diff_ids is not a list")
    try:
        parsed = tuple(parse_digest(item) for item in diff_ids)
    except DigestInvalidError as exc:
        raise ManifestInvalidError(f"{what}: rootfs.diff_ids: {exc.message}") from exc
    return ImageConfig(platform_from(value), parsed)
