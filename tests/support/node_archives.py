"""The archives of one watched directory, and which images a node must have by them."""

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from airside.archive.writer.image_spec import ImageSpec
from airside.archive.writer.oci_archive import write_oci_archive
from airside.oci.digest import digest_of
from airside.oci.model import OCI_MANIFEST
from airside.oci.platform import Platform, node_platform
from support.pause import pause_image


@dataclass(frozen=True)
class NodeImage:
    """A small image that waits when it runs: `name:tag`, a label that makes it another one.

    `foreign`: for a platform that is not the node's.
    """

    name: str
    label: str
    foreign: bool = False

    @cached_property
    def spec(self) -> ImageSpec:
        other = "arm64" if node_platform().architecture == "amd64" else "amd64"
        platform = Platform("linux", other) if self.foreign else node_platform()
        return pause_image(self.name, label=self.label, platform=platform, media_type=OCI_MANIFEST)

    @property
    def id(self) -> str:
        """The image ID: the digest of its config."""
        return str(digest_of(self.spec.config))

    @property
    def digest(self) -> str:
        return str(digest_of(self.spec.manifest))

    @property
    def repository(self) -> str:
        return self.name.rpartition(":")[0]

    @property
    def by_digest(self) -> str:
        return f"{self.repository}@{self.digest}"


@dataclass
class NodeArchives:
    """What lies in the directory, the newest last. Writes outside of it, and renames."""

    watched: Path
    beside: Path
    digests: bool = True
    """Whether the node must have each archive's image by its own digest too."""
    present: dict[str, NodeImage] = field(default_factory=dict)
    known: dict[str, NodeImage] = field(default_factory=dict)
    """By `name@digest`: all that ever were there, for this node."""
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def path(self, file: str) -> Path:
        return self.watched / file

    def drop(self, file: str, image: NodeImage) -> Path:
        """Put it there whole, in place of what had that file name."""
        made = self.beside / f"made-{next(self._numbers)}"
        with made.open("wb") as out:
            write_oci_archive(out, [image.spec])
        made.rename(self.path(file))
        self.present.pop(file, None)
        self.present[file] = image
        if not image.foreign:
            self.known[image.by_digest] = image
        return self.path(file)

    def remove(self, file: str) -> Path:
        self.path(file).unlink()
        del self.present[file]
        return self.path(file)

    def tags(self) -> dict[str, NodeImage]:
        """By name: the newest image for this node."""
        return {image.name: image for image in self.present.values() if not image.foreign}

    def references(self) -> dict[str, str]:
        """By reference, tag or digest: the ID of the image that a pod must get."""
        own = [image for image in self.present.values() if not image.foreign]
        found = {image.by_digest: image.id for image in own} if self.digests else {}
        return found | {image.name: image.id for image in own}
