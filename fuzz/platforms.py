"""Platforms from any object: each has a text that parses to the same, and a stable selection."""

import itertools
import json
from collections.abc import Iterator

from airside.core.errors import ManifestInvalidError
from airside.oci.platform import (
    Platform,
    best_for,
    parse_platform,
    platform_from,
    select_all,
    select_for,
    select_listed,
)
from fuzz.target import Target, require


def check(data: bytes) -> None:
    """Check lines that are platform objects as JSON, or texts of platforms."""
    found: list[Platform] = []
    for line in data.decode("utf-8", "replace").split("\n")[:6]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        platform = platform_from(value) if isinstance(value, dict) else _parsed(line)
        if platform is not None:
            found.append(platform)
            require(
                parse_platform(platform.key) == platform, f"{platform.key!r} parses differently"
            )
    check_choice(found)


def _parsed(text: str) -> Platform | None:
    try:
        return parse_platform(text)
    except ManifestInvalidError:
        return None


def check_choice(platforms: list[Platform]) -> None:
    """Check that a node selects the same one in any order, and its own platform before others."""
    require(select_all(platforms) == frozenset(platforms), "select_all drops a platform")
    for node in platforms:
        best = best_for(node, platforms)
        require(best is not None, f"{node.key} selects nothing, not even itself")
        assert best is not None
        require(_same(best, node), f"{node.key} selects {best.key} before its own")
        for turned in itertools.islice(itertools.permutations(platforms), 6):
            require(best_for(node, turned) == best, "another order changes the selection")
        require(select_for(node)(platforms) == {best}, "a node selects more than one")
        listed = select_listed([str(node)])(platforms) if _is_plain(node) else {node}
        require(node in listed, f"the list {node} does not select {node.key}")


def _same(one: Platform, other: Platform) -> bool:
    return (one.os, one.architecture, one.variant) == (other.os, other.architecture, other.variant)


def _is_plain(platform: Platform) -> bool:
    return _parsed(str(platform)) is not None


def seeds() -> Iterator[bytes]:
    objects = (
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["w"]},
    )
    for value in objects:
        yield json.dumps(value).encode()
    yield "\n".join(json.dumps(value) for value in objects).encode()
    yield b"linux/arm64\nlinux/arm/v6\nwindows(10.0+win32k)/amd64\nlinux/amd64/v3"


TARGET = Target("platforms", check, seeds, max_bytes=1000)
