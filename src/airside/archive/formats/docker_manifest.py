"""What `docker save` records of images: `manifest.json` and `repositories`. Pure.

Parsed strictly where it decides what an image is; `LayerSources`, which only tells where the
layers of Windows came from, is left aside where it is not understood.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airside.archive.formats.manifest import ForeignLayer
from airside.archive.formats.plan import judged_alone
from airside.core.errors import DigestInvalidError, ManifestInvalidError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import load_json, parse_descriptor
from airside.oci.reference import is_image_id, parse_reference

MANIFEST_JSON = "manifest.json"
REPOSITORIES = "repositories"
_NO_NAMES = frozenset({"", "<none>:<none>"})
"""How some tools write that an image has no name; containerd writes its image ID."""


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One entry of `manifest.json`; `foreign` layers, by diff ID, may lack their bytes."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]
    foreign: Mapping[Digest, ForeignLayer] = field(default_factory=dict)


def parse_manifest_json(
    raw: bytes, problems: list[Problem] | None = None
) -> tuple[SavedImage, ...]:
    """Parse `manifest.json`. Raises ManifestInvalidError.

    An entry that is wrong costs its own image: it goes to `problems`, if any other is right.
    """
    value = load_json(raw, MANIFEST_JSON)
    if not isinstance(value, list) or not value:
        raise ManifestInvalidError(f"{MANIFEST_JSON} is not a list of images")
    return judged_alone(
        value,
        lambda item, n: _saved_image(item, f"{MANIFEST_JSON}[{n}]"),
        _shown_name,
        [] if problems is None else problems,
    )


def _shown_name(item: Any) -> str:
    """The first name in an entry that may be wrong, for messages."""
    names = item.get("RepoTags") if isinstance(item, dict) else None
    found = names if isinstance(names, list) else []
    return next((name for name in found if isinstance(name, str)), "")


def _saved_image(item: Any, what: str) -> SavedImage:
    if not isinstance(item, dict):
        raise ManifestInvalidError(f"{what} is not an object")
    config, layers, names = item.get("Config"), item.get("Layers", ""), item.get("RepoTags") or []
    layers = [] if layers is None else layers  # an empty list, as Go writes one
    if not isinstance(config, str) or not config:
        raise ManifestInvalidError(f"{what} names no Config")
    if not isinstance(layers, list) or not _texts(layers):
        raise ManifestInvalidError(f"{what}: Layers is not a list of names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ManifestInvalidError(f"{what}: RepoTags is not a list of names")
    return SavedImage(
        member_name(config),
        tuple(map(member_name, layers)),
        tuple(name for name in names if name not in _NO_NAMES and not is_image_id(name)),
        dict(_foreign_layers(item.get("LayerSources"), what)),
    )


def _texts(value: list[Any]) -> bool:
    return all(isinstance(v, str) and v for v in value)


def member_name(name: str) -> str:
    """The member name that the tar reader gives for this path; Windows' are understood too."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in {"", "."})


def _foreign_layers(value: Any, what: str) -> Iterator[tuple[Digest, ForeignLayer]]:
    """The layers that may not be redistributed. Docker 25 lists the others here too."""
    for diff_id, source in value.items() if isinstance(value, dict) else ():
        with contextlib.suppress(ManifestInvalidError, DigestInvalidError):
            descriptor = parse_descriptor(source, f"{what}: LayerSources")
            if descriptor.is_distributable:
                continue
            urls = source.get("urls")
            kept = tuple(urls) if isinstance(urls, list) and _texts(urls) else ()
            yield parse_digest(diff_id), ForeignLayer(descriptor, kept)


def parse_repositories(raw: bytes) -> frozenset[str] | None:
    """The full names that the `repositories` member lists; None if it is not understood."""
    try:
        value = load_json(raw, REPOSITORIES)
        return frozenset(
            str(parse_reference(f"{name}:{tag}")) for name, tags in value.items() for tag in tags
        )
    except (ManifestInvalidError, ReferenceInvalidError, AttributeError, TypeError):
        return None


def normalised(names: Iterable[str]) -> Iterator[str]:
    """The full names, as Docker reads them, with their tag alone; bad ones are left out."""
    for name in names:
        with contextlib.suppress(ReferenceInvalidError):
            yield str(parse_reference(name).without_digest)
