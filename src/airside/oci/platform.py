"""Platforms: os/architecture/variant, normalised once.

Normalising follows containerd's `platforms` package (`database.go`): `x86_64` is `amd64`,
`aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
"""

import os as _os
from collections.abc import Mapping
from dataclasses import dataclass

_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_ARM_VARIANTS = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """Its text is `linux/arm64` or `linux/arm/v7`; os version and features tell Windows' apart."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def is_unknown(self) -> bool:
        """`unknown/unknown` marks attestation manifests (BuildKit)."""
        return self.os == "unknown" or self.architecture == "unknown"


def normalise(
    os: str,
    architecture: str,
    variant: str = "",
    os_version: str = "",
    os_features: tuple[str, ...] = (),
) -> Platform:
    """Make the one spelling of a platform that is compared."""
    os = {"macos": "darwin"}.get(os.lower(), os.lower())
    architecture, default = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower() or default
    if architecture == "arm64" and variant in {"8", "v8"}:
        variant = ""
    elif architecture == "arm":
        variant = _ARM_VARIANTS.get(variant, variant)
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(os, architecture, variant, os_version, tuple(sorted(os_features)))


def platform_from(fields: Mapping[str, object]) -> Platform | None:
    """Read a platform object of a descriptor, or the same fields of an image config.

    None where there is neither os nor architecture; fields of another type count as absent.
    """

    def text(key: str) -> str:
        value = fields.get(key)
        return value if isinstance(value, str) else ""

    if not text("os") or not text("architecture"):
        return None
    features = fields.get("os.features")
    names = tuple(f for f in features if isinstance(f, str)) if isinstance(features, list) else ()
    return normalise(text("os"), text("architecture"), text("variant"), text("os.version"), names)


def node_platform() -> Platform:
    """The platform of this machine."""
    machine = _os.uname()
    return normalise(
        machine.sysname,
        {"armv7l": "armhf", "armv6l": "armel"}.get(machine.machine, machine.machine),
    )
