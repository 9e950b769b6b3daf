"""Tells which images must not wait: those that pods want, and sandbox images. Pure."""

from collections.abc import Iterable

from airside.oci.digest import is_digest

_SANDBOX = "pause"
"""Every distribution calls its sandbox image so: `pause`, `pause-amd64`, `mirrored-pause`."""


def is_sandbox_name(name: str) -> bool:
    """Returns True if an image of this name can only be a sandbox image."""
    repository = name.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return _SANDBOX in repository.split("-") and not is_digest(name)


def wants(wanted: frozenset[str], names: Iterable[str], image_id: str) -> bool:
    """Returns True if an image of these names and this ID is wanted, or is a sandbox image."""
    return image_id in wanted or any(n in wanted or is_sandbox_name(n) for n in names)
