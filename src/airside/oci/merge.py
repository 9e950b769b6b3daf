"""Merges one tag from several archives: parts of images, and the index that joins them. Pure.

A *part* is the manifest of a tag's document for one platform. Parts from different archives are
joined in an OCI index that depends on the parts only: the same parts give the same bytes in
whatever order the archives were imported (ADR 0010).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from airside.oci.digest import Digest, is_digest, parse_digest
from airside.oci.model import OCI_INDEX, Descriptor, Document, Index, parse_document
from airside.oci.platform import Platform

MOST_PARTS = 1_000
"""The parts of one document: hundreds of times the platforms that there are."""
ATTESTATION_TYPE = "vnd.docker.reference.type"
ATTESTED = "vnd.docker.reference.digest"
"""Annotations by which BuildKit links an attestation manifest to the attested manifest."""


@dataclass(frozen=True, slots=True)
class Part:
    """A manifest that a document lists for a platform.

    `held` is true if its document is among the given ones. `attested` is the digest of the
    manifest that it attests, None for an image.
    """

    digest: Digest
    platform: Platform | None
    held: bool
    attested: Digest | None = None


class Documents(Protocol):
    """The held documents: a dict, or what reads them one at a time."""

    def get(self, digest: Digest, /) -> Document | None: ...


def parts_of(
    root: Digest, documents: Documents, platforms: Mapping[Digest, Platform]
) -> tuple[Part, ...]:
    """Returns the parts of a root document, in its own order.

    `documents` are the held ones. The platform in an index counts, as clients read that one;
    `platforms`, from the configs, is used if the index has none. Artifacts, and images of no known
    platform, are no parts. A document of more than `MOST_PARTS` has none and is never merged: each
    of its names would record them all.
    """
    document = documents.get(root)
    if document is None:
        return ()
    if isinstance(document.content, Index):
        parts = tuple(islice(_listed(document.content, documents, platforms), MOST_PARTS + 1))
        return parts if len(parts) <= MOST_PARTS else ()
    platform = platforms.get(root)
    if document.kind_of_artifact or platform is None or platform.is_unknown:
        return ()
    return (Part(root, platform, held=True),)


def _listed(
    index: Index, documents: Documents, platforms: Mapping[Digest, Platform]
) -> Iterator[Part]:
    """Yields each part once, in order. Reads each index once, however often others list it."""
    walks = [iter(index.manifests)]
    seen: set[Digest] = set()
    found: set[Part] = set()
    while walks:
        child = next(walks[-1], None)
        if child is None:
            walks.pop()
            continue
        document = documents.get(child.digest)
        if attested_by(child) is None and document and isinstance(document.content, Index):
            if child.digest not in seen:
                seen.add(child.digest)
                walks.append(iter(document.content.manifests))
            continue
        part = _part(child, platforms, held=document is not None)
        if part is not None and part not in found:
            found.add(part)
            yield part


def _part(child: Descriptor, platforms: Mapping[Digest, Platform], *, held: bool) -> Part | None:
    """Returns the part that an entry of an index is; None for an artifact or no known platform."""
    attested = attested_by(child)
    if attested is not None:
        return Part(child.digest, None, held, attested)
    platform = child.platform or platforms.get(child.digest)
    if not child.is_document or platform is None or platform.is_unknown:
        return None
    return Part(child.digest, platform, held)


def attested_by(child: Descriptor) -> Digest | None:
    """Returns the digest of the manifest that an entry of an index attests; None for an image."""
    text = child.annotations.get(ATTESTED, "")
    if child.annotations.get(ATTESTATION_TYPE) and is_digest(text):
        return parse_digest(text)
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest for the merged index, with its attestations, which follow it."""

    platform: Platform
    manifest: Descriptor
    attestations: tuple[Descriptor, ...] = field(default=())


def merged_index(entries: Iterable[Entry]) -> Document:
    """Returns the OCI index of these manifests, sorted by platform (image-index.md)."""
    manifests: list[dict[str, Any]] = []
    for entry in sorted(entries, key=lambda e: e.platform):
        manifests.append(_descriptor(entry.manifest) | {"platform": _platform(entry.platform)})
        manifests += [
            _descriptor(attestation)
            | {
                "annotations": {
                    ATTESTED: str(entry.manifest.digest),
                    ATTESTATION_TYPE: "attestation-manifest",
                },
                "platform": {"architecture": "unknown", "os": "unknown"},
            }
            for attestation in sorted(entry.attestations, key=lambda d: str(d.digest))
        ]
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    raw = json.dumps(value, separators=(",", ":")).encode()
    return parse_document(raw, OCI_INDEX, "merged index")


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size_bytes,
    }


def _platform(platform: Platform) -> dict[str, Any]:
    value: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        value["os.version"] = platform.os_version
    if platform.os_features:
        value["os.features"] = list(platform.os_features)
    if platform.variant:
        value["variant"] = platform.variant
    return value
