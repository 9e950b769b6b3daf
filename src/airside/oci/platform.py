"""Platforms: os/architecture/variant, normalised once.

Normalising follows containerd's `platforms` package (`database.go`): `x86_64` is `amd64`,
`aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
"""

import os as _os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from airside.core.errors import ManifestInvalidError

_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_WORD = r"[A-Za-z0-9_.-]{1,128}"
"""A valid field (containerd's `specifierRe`): other texts could not be parsed again."""
_FIELD = re.compile(rf"{_WORD}\Z")
_KEY = re.compile(rf"({_WORD})(?:\(((?:{_WORD})?)((?:\+{_WORD})*)\))?/({_WORD})(?:/({_WORD}))?\Z")
_ARM_VARIANTS = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A normalised platform, as text `linux/arm64` or `linux/arm/v7`.

    The os version and features distinguish platforms of Windows.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def key(self) -> str:
        """All fields as one text, as containerd writes it: `windows(10.0.17763+win32k)/amd64`."""
        features = "".join(f"+{feature}" for feature in self.os_features)
        inside = f"({self.os_version}{features})" if self.os_version or features else ""
        return str(replace(self, os=self.os + inside))

    @property
    def is_unknown(self) -> bool:
        """`unknown/unknown` marks attestation manifests (BuildKit)."""
        return self.os == "unknown" or self.architecture == "unknown"

    @property
    def is_wasm(self) -> bool:
        """True for WebAssembly (`wasip1/wasm`), which shims run on nodes of any platform."""
        return self.architecture in {"wasm", "wasm32", "wasm64"}


def normalise(
    os: str,
    architecture: str,
    variant: str = "",
    os_version: str = "",
    os_features: tuple[str, ...] = (),
) -> Platform:
    """Returns the platform in its normal form, by which platforms are compared."""
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

    Returns None without an os or an architecture. Fields of another type count as absent, and so do
    invalid texts: `linux/x` as an os would be parsed as another platform.
    """

    def text(key: str) -> str:
        value = fields.get(key)
        return value if isinstance(value, str) and _FIELD.match(value) else ""

    if not text("os") or not text("architecture"):
        return None
    features = fields.get("os.features")
    listed = features if isinstance(features, list) else []
    names = tuple(f for f in listed if isinstance(f, str) and _FIELD.match(f))
    return normalise(text("os"), text("architecture"), text("variant"), text("os.version"), names)


def parse_platform(text: str) -> Platform:
    """Parse `linux/arm64` or a text of `Platform.key`. Raises ManifestInvalidError."""
    match = _KEY.match(text)
    if match is None:
        raise ManifestInvalidError(f"not a platform such as linux/arm64: {text!r:.80}")
    os, version, features, architecture, variant = match.groups("")
    return normalise(os, architecture, variant, version, tuple(filter(None, features.split("+"))))


Selection = Callable[[Iterable[Platform]], frozenset[Platform]]
"""Returns the selected ones of an image's platforms."""


def select_all(platforms: Iterable[Platform]) -> frozenset[Platform]:
    return frozenset(platforms)


def select_listed(wanted: Iterable[str]) -> Selection:
    """Returns a selection by a list; an entry without a variant selects all variants of it."""
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
    """Returns a selection of the platform that the node runs best, if any."""

    def select(platforms: Iterable[Platform]) -> frozenset[Platform]:
        best = best_for(node, platforms)
        return frozenset({best} if best is not None else ())

    return select


def best_for(node: Platform, platforms: Iterable[Platform]) -> Platform | None:
    """Returns the platform that a node runs best, in containerd's order (`platforms.Only`)."""
    order = {wanted: rank for rank, wanted in reversed(list(enumerate(_iter_runnable(node))))}
    ranked = [
        (order[p.architecture, p.variant], p)
        for p in platforms
        if p.os == node.os
        and (not node.os_version or p.os_version == node.os_version)
        and (p.architecture, p.variant) in order
    ]
    return min(ranked)[1] if ranked else None


_LEVEL = re.compile(r"v?([0-9])\Z")
_ARM64_LEVEL = re.compile(r"v?([89])(?:\.([0-9]))?\Z")


def _iter_runnable(node: Platform) -> Iterator[tuple[str, str]]:
    """Yields each (architecture, variant) that a node runs, the best first.

    That is its own, then the lower variants; amd64 also runs 386, and arm64 the 32-bit arm.
    """
    architecture, variant = node.architecture, node.variant
    yield architecture, variant
    found = _LEVEL.match(variant)
    level = int(found[1]) if found else 0
    if architecture == "amd64":
        yield from (
            ("amd64", f"v{lower}" if lower > 1 else "") for lower in range(level - 1, 0, -1)
        )
        yield "386", ""
    elif architecture == "arm":
        yield from (("arm", f"v{lower}") for lower in range(level - 1, 4, -1))
    elif architecture == "arm64":
        yield from (("arm64", lower) for lower in _iter_below_arm64(variant))
        yield from (("arm", f"v{lower}") for lower in range(8, 4, -1))


def _iter_below_arm64(variant: str) -> Iterator[str]:
    """Yields the variants below one of arm64; none means v8, and v9.x runs v8.(x+5)."""
    found = _ARM64_LEVEL.match(variant or "v8")
    if found is None:
        return
    minor = int(found[2] or 0)
    if found[1] == "9":
        yield from (f"v9.{lower}" if lower else "v9" for lower in range(minor - 1, -1, -1))
        minor += 6
    yield from (f"v8.{lower}" if lower else "" for lower in range(minor - 1, -1, -1))


def node_platform() -> Platform:
    """Returns the platform of this machine."""
    machine = _os.uname()
    return normalise(
        machine.sysname,
        {"armv7l": "armhf", "armv6l": "armel"}.get(machine.machine, machine.machine),
    )
