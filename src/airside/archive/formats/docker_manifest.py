"""Parses `manifest.json` and `repositories` of `docker save`. Pure.

Parsing is strict for the fields that define an image. `LayerSources`, which only has the origin of
Windows' foreign layers, is ignored where it is invalid.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airside.archive.formats.manifest import ForeignLayer
from airside.archive.formats.plan import parse_each
from airside.core.errors import DigestInvalidError, ManifestInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import parse_descriptor
from airside.oci.reference import is_image_id
from airside.oci.strict_json import load_json

MANIFEST_JSON = "manifest.json"
REPOSITORIES = "repositories"
CONFIG_NAME = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?\Z", re.DOTALL)
"""Names of config members that say their digest."""
_NO_NAMES = frozenset({"", "<none>:<none>"})
"""Values by which some tools say that an image has no name; containerd writes its image ID."""


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One entry of `manifest.json`; `foreign` layers, by diff ID, may lack their bytes."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]
    foreign: Mapping[Digest, ForeignLayer] = field(default_factory=dict)

    @property
    def config_hex(self) -> str:
        """The sha256 of the config by its member's name; empty for another name."""
        named = CONFIG_NAME.match(self.config)
        return named[1] if named else ""


def parse_manifest_json(
    raw: bytes, problems: list[Problem] | None = None
) -> tuple[SavedImage, ...]:
    """Parse `manifest.json`. Raises ManifestInvalidError.

    An invalid entry rejects its own image only: it is added to `problems`, if any other is valid.
    """
    value = load_json(raw, MANIFEST_JSON)
    if not isinstance(value, list) or not value:
        raise ManifestInvalidError(f"{MANIFEST_JSON} is not a list of images")
    return parse_each(
        value,
        lambda item, n: _saved_image(item, f"{MANIFEST_JSON}[{n}]"),
        _shown_name,
        [] if problems is None else problems,
    )


def _shown_name(item: Any) -> str:
    """Returns the first name in an entry that may be invalid, for messages."""
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
    if not isinstance(layers, list) or not _are_strings(layers):
        raise ManifestInvalidError(f"{what}: Layers is not a list of names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ManifestInvalidError(f"{what}: RepoTags is not a list of names")
    return SavedImage(
        member_name(config),
        tuple(map(member_name, layers)),
        tuple(name for name in names if name not in _NO_NAMES and not is_image_id(name)),
        dict(_foreign_layers(item.get("LayerSources"), what)),
    )


def _are_strings(value: list[Any]) -> bool:
    return all(isinstance(v, str) and v for v in value)


def member_name(name: str) -> str:
    """Returns the member name that the tar reader has for this path, also for a Windows path."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in {"", "."})


def _foreign_layers(value: Any, what: str) -> Iterator[tuple[Digest, ForeignLayer]]:
    """Yields the layers that may not be redistributed. Docker 25 lists the others here too."""
    for diff_id, source in value.items() if isinstance(value, dict) else ():
        with contextlib.suppress(ManifestInvalidError, DigestInvalidError):
            descriptor = parse_descriptor(source, f"{what}: LayerSources")
            if descriptor.is_distributable:
                continue
            urls = source.get("urls")
            valid_urls = tuple(urls) if isinstance(urls, list) and _are_strings(urls) else ()
            yield parse_digest(diff_id), ForeignLayer(descriptor, valid_urls)


def parse_repositories(raw: bytes) -> tuple[str, ...] | None:
    """Returns the names that the `repositories` member lists, as written; None if it is invalid.

    go-containerregistry writes an empty tag for a name that has none.
    """
    try:
        value = load_json(raw, REPOSITORIES)
        pairs = ((name, tag) for name, tags in value.items() for tag in [*tags.keys()])
        return tuple(f"{name}:{tag}" if tag else name for name, tag in pairs)
    except (ManifestInvalidError, AttributeError, TypeError):
        return None
