"""Tells by its media types what a manifest is: an image, WebAssembly, or a statement. Pure.

An allow list of layers would withhold the images of tomorrow (EROFS, nydus, encrypted layers), so a
manifest with an image's config is an image, unless all its layers are statements about another
image: cosign gives its signatures and SBOMs an image's config.
"""

import re
from collections.abc import Sequence

IMAGE_CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)

_WASM = re.compile(r"[/.+]wasm(?![a-z0-9])")
"""`application/wasm`, `application/vnd.wasm.config.v0+json`, `….content.layer.v1+wasm`."""
_STATEMENT = re.compile(
    r"text/|.*\+(json|xml|yaml|cose|jose)\Z|application/(json|xml|yaml|cose|pgp-signature)\Z"
    r"|application/(vnd\.dev\.(cosign|sigstore)|vnd\.dsse|vnd\.in-toto|vnd\.cyclonedx|vnd\.syft"
    r"|vnd\.cncf\.notary|spdx)"
)
"""Signatures, SBOMs and attestations; cosign also attaches them as text."""


def is_wasm_type(media_type: str) -> bool:
    """Returns True for a config, layer or artifact type of WebAssembly."""
    return _WASM.search(media_type) is not None


def artifact_kind(artifact_type: str, config: str, layers: Sequence[str]) -> str:
    """Returns what a manifest with these media types is, empty for what a runtime can run.

    That is an image, whatever its layers are, and WebAssembly, which a shim of containerd runs
    (runwasi, spin), whether its config is an image's or the CNCF artifact's.
    """
    if any(map(is_wasm_type, (config, *layers))):
        return ""
    if artifact_type or config not in IMAGE_CONFIG_TYPES:
        return artifact_type or config
    return layers[0] if layers and all(map(_STATEMENT.match, layers)) else ""
