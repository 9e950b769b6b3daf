"""Builds manifests for archives that have none, as containerd's importer does. Pure.

Fields, order and spacing are the same as there, so that digests are the same everywhere. The
caller checks that the layers are those of the config.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airside.archive.formats.plan import Facts, layer_compression
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    Descriptor,
    Document,
    parse_document,
)


@dataclass(frozen=True, slots=True)
class ForeignLayer:
    """A layer whose bytes the archive lawfully lacks, with the URLs of its origin."""

    descriptor: Descriptor
    urls: tuple[str, ...] = ()


def build_manifest(config: Facts, layers: Sequence[Facts | ForeignLayer], shown: str) -> Document:
    """Build the manifest that containerd's importer builds in an empty namespace.

    The descriptor of a `ForeignLayer` is copied unchanged; containerd does not import such
    archives. `shown` is the image's name for errors.
    """
    value = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, config),
        "layers": [_layer(layer) for layer in layers],
    }
    raw = json.dumps(value, separators=(",", ":")).encode()
    return parse_document(raw, DOCKER_MANIFEST, f"the manifest built for {shown}")


def _layer(layer: Facts | ForeignLayer) -> dict[str, Any]:
    if isinstance(layer, Facts):
        return _descriptor(_layer_type(layer.head), layer)
    found = layer.descriptor
    value = {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size_bytes}
    return {**value, "urls": list(layer.urls)} if layer.urls else value


def _layer_type(head: bytes) -> str:
    """Returns one type for gzip and zstd, and the plain tar's for all others, as containerd."""
    return DOCKER_LAYER_GZIP if layer_compression(head) in {"gzip", "zstd"} else DOCKER_LAYER


def _descriptor(media_type: str, facts: Facts) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(facts.digest), "size": facts.size_bytes}
