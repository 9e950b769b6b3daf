"""Tells documents that describe another one: signatures, SBOMs, attestations. Pure.

Bundlers and registries may give them the name of what they describe.
"""

_MARKS = (
    "simplesigning",
    "in-toto",
    "dsse",
    "sigstore",
    "cosign",
    "notary",
    "notation",
    "spdx",
    "cyclonedx",
    "sbom",
    "signature",
    "attestation",
    "vulnerability",
    "sarif",
)
"""Parts of their types."""


def is_supplement(kind: str, *, has_subject: bool) -> bool:
    """Returns True for the artifact type of a document that describes another.

    `kind` is `Document.kind_of_artifact`, which is empty for an image.
    """
    return bool(kind) and (has_subject or any(mark in kind.lower() for mark in _MARKS))
