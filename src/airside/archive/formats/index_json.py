"""`index.json` of an OCI layout: its descriptors. `entry_names` reads their names. Pure."""

from typing import Any

from airside.archive.formats.plan import parse_each
from airside.core.errors import ManifestInvalidError
from airside.core.problem import Problem
from airside.oci.model import Descriptor, parse_descriptor
from airside.oci.strict_json import load_json

INDEX_JSON = "index.json"
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


def parse_index_json(raw: bytes, problems: list[Problem] | None = None) -> tuple[Descriptor, ...]:
    """Returns the descriptors of `index.json`; none for null. Raises ManifestInvalidError.

    An invalid one rejects its own image only: it is added to `problems`, if any other is valid.
    Without the key `manifests` the document is damaged, which is an error: the caller must not
    fall back to another document.
    """
    value = load_json(raw, INDEX_JSON)
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise ManifestInvalidError(f"{INDEX_JSON} is not an image index of schemaVersion 2")
    manifests: Any = value.get("manifests", "absent")
    if manifests is None:
        return ()
    if not isinstance(manifests, list):
        raise ManifestInvalidError(f"{INDEX_JSON}: manifests is not a list")
    return parse_each(
        manifests,
        lambda item, n: parse_descriptor(item, f"{INDEX_JSON}: manifests[{n}]"),
        _shown_name,
        [] if problems is None else problems,
    )


def _shown_name(item: Any) -> str:
    """Returns the name in an entry of `index.json` that may be invalid, for messages."""
    annotations = item.get("annotations") if isinstance(item, dict) else None
    found = annotations if isinstance(annotations, dict) else {}
    names = [n for n in (found.get(IMAGE_NAME), found.get(REF_NAME)) if isinstance(n, str)]
    return next(iter(names), "")
