"""The directories that a layer is written into, and the limits that it must keep."""

import enum
from dataclasses import dataclass


class WhiteoutForm(enum.Enum):
    """How a deleted file is recorded. The value is the attribute of an opaque directory."""

    TRUSTED = "trusted.overlay.opaque"
    """Overlay: a character device 0/0."""
    USER = "user.overlay.opaque"
    """Overlay mounted with `userxattr`: a character device 0/0."""
    DELETION = ""
    """The snapshot is a whole copy of its parent: the file is deleted."""


@dataclass(frozen=True, slots=True)
class Target:
    """Descriptors of directories, which the caller closes.

    `upper` is written. `lowers` are the directories of the layers below, the uppermost first: a
    directory that the layer does not list gets its mode and owner from there. Without an overlay
    (`DELETION`) there are none.
    """

    upper: int
    lowers: tuple[int, ...] = ()
    whiteouts: WhiteoutForm = WhiteoutForm.DELETION


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """What a layer may have. Sizes are in bytes."""

    entries: int = 4_000_000
    depth: int = 200
    """Directories above a file."""
    name_bytes: int = 255
    """One component of a path (NAME_MAX)."""
    path_bytes: int = 3840
    """A whole path; containerd's own root comes before it (PATH_MAX is 4096)."""
    extension_bytes: int = 1 << 20
    """One PAX or GNU header (Go's `archive/tar` refuses more)."""
    content_bytes: int = 1 << 50
    """All files together."""
