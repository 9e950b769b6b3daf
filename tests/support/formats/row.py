"""A row of docs/formats.md: how an archive is made, and what must become of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.formats.contents import Contents, read_contents
from support.formats.workshop import Workshop

Make = Callable[[Workshop, Path, str], Path]
"""Make an archive in an empty directory, of images named after a key; gives its path."""
Pack = Callable[[Path, Path], None]
"""Compress a file into another."""
Cut = Callable[[bytes], dict[str, bytes]]
"""Cut an archive into parts, by the endings of their names, in their order."""
Read = Callable[[Path, str], Contents]
"""What must come of a packed file or directory that was made with a key."""


@dataclass(frozen=True)
class Row:
    """`key` names its image (`formats.example/<key>:1`) and its file, and seeds its bytes.

    `refused`: what the reason must say; empty: it must be imported whole. `noted`: what a note
    must say; empty: nothing is noted. `containerd`: whether
    `ctr images import` reads it too, which must then come to the same digests. `skopeo`: whether
    skopeo can pull all that is in it. `cut`: into parts, which are dropped.
    `read`: how the test learns what the archive holds.
    """

    key: str
    table: str
    made_by: str
    holds: str
    make: Make
    needs: tuple[str, ...] = ()
    root: bool = False
    compression: str = "none"
    pack: Pack | None = None
    cut: Cut | None = None
    suffix: str = ".tar"
    refused: str = ""
    noted: str = ""
    containerd: bool = True
    skopeo: bool = True
    read: Read = read_contents

    @property
    def cells(self) -> tuple[str, str, str]:
        """What the page says of it, but for the result: with `table` it is there only once."""
        return self.made_by, self.compression, self.holds


def name_of(key: str, tag: object = 1) -> str:
    return f"formats.example/{key}:{tag}"
