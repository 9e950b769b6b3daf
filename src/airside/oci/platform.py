"""Platforms: os/architecture/variant, normalised once.

Normalising follows containerd's `platforms` package (`database.go`): `x86_64` is `amd64`,
`aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
"""

import os as _os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from airside.errors import ManifestInvalidError

_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_KEY = re.compile(r"([^/()]+)(?:\(([^+)]*)((?:\+[^+)]+)*)\))?/([^/]+)(?:/([^/]+))?\Z")
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
    def key(self) -> str:
        """All of it in one text, as containerd writes it: `windows(10.0.17763+win32k)/amd64`."""
        features = "".join(f"+{feature}" for feature in self.os_features)
        inside = f"({self.os_version}{features})" if self.os_version or features else ""
        return str(replace(self, os=self.os + inside))

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


def parse_platform(text: str) -> Platform:
    """Read `linux/arm64` or what `Platform.key` wrote. Raises ManifestInvalidError."""
    match = _KEY.match(text)
    if match is None:
        raise ManifestInvalidError(f"not a platform such as linux/arm64: {text!r:.80}")
    os, version, features, architecture, variant = match.groups("")
    return normalise(os, architecture, variant, version, tuple(filter(None, features.split("+"))))


Selection = Callable[[Iterable[Platform]], frozenset[Platform]]
"""Of the platforms of one image, those that are wanted."""


def select_all(platforms: Iterable[Platform]) -> frozenset[Platform]:
    return frozenset(platforms)


def select_listed(wanted: Iterable[str]) -> Selection:
    """Those of a list; one without a variant wants every variant: `linux/arm` is v6 and v7."""
    texts = tuple(wanted)
    parsed = [(parse_platform(text), text.count("/") == 2) for text in texts]

    def select(platforms: Iterable[Platform]) -> frozenset[Platform]:
        return frozenset(
            p
            for p in platforms
            for one, exact in parsed
            if (p.os, p.architecture) == (one.os, one.architecture)
            and (not exact or p.variant == one.variant)
        )

    return select


def select_for(node: Platform) -> Selection:
    """The one that the node runs best, if any."""

    def select(platforms: Iterable[Platform]) -> frozenset[Platform]:
        best = best_for(node, platforms)
        return frozenset({best} if best is not None else ())

    return select


def best_for(node: Platform, platforms: Iterable[Platform]) -> Platform | None:
    """What a node takes of an image, in containerd's order (`platforms.Only`).

    The same variant first, then the next lower ones; arm64 also runs 32-bit arm.
    """
    ranked = [(rank, p) for p in platforms if (rank := _rank(node, p)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(node: Platform, platform: Platform) -> tuple[int, int] | None:
    """How far a platform is from the node's, None: it does not run there."""
    if platform.os != node.os or (node.os_version and platform.os_version != node.os_version):
        return None
    own, other = _level(node), _level(platform)
    if platform.architecture == node.architecture:
        return (0, own - other) if other <= own else None
    if (node.architecture, platform.architecture) == ("arm64", "arm"):
        return (1, -other)
    return None


def _level(platform: Platform) -> int:
    """The variant as a number: 0 where there is none, which every node of the kind runs."""
    digits = platform.variant.removeprefix("v")
    return int(digits) if digits.isdigit() else 0


def node_platform() -> Platform:
    """The platform of this machine."""
    machine = _os.uname()
    return normalise(
        machine.sysname,
        {"armv7l": "armhf", "armv6l": "armel"}.get(machine.machine, machine.machine),
    )
