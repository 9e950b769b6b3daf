"""Creates, moves and labels the names of images in containerd."""

import contextlib
from collections.abc import Mapping

from airside.containerd.services.images import ImageRecord, Images
from airside.core.errors import ConflictError, NotFoundError
from airside.ports.publication import ARCHIVES_LABEL, PINNED_LABEL


class ImageNames:
    """The names of one namespace. Thread-safe."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def set(self, wanted: ImageRecord, lease: str, *, touch: bool = False) -> None:
        """Creates a name, or changes its target and our labels; labels of others stay.

        `touch` updates the name even if nothing differs, so that CRI, which may have seen the name
        without its content, looks again. Raises NotFoundError if the target or the lease is gone.
        """
        try:  # most names are new
            self._images.create(wanted, lease=lease)
        except ConflictError:
            found = self._images.get(wanted.name)
        else:
            return
        if found is None:
            raise NotFoundError(f"{wanted.name} was created and deleted by somebody else meanwhile")
        paths = [
            f"labels.{key}"
            for key in {*wanted.labels, PINNED_LABEL}
            if found.labels.get(key) != wanted.labels.get(key)
        ]
        if found.target.digest != wanted.target.digest:
            paths.append("target")
        if touch and not paths:
            paths.append(f"labels.{ARCHIVES_LABEL}")
        if paths:
            self._images.update(wanted, *paths, lease=lease)

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        images = {record.name: record for record in self._images.list()}
        pins = set()
        for name, labels in names.items():
            pins.add(labels.get(PINNED_LABEL))
            if name in images:
                with contextlib.suppress(NotFoundError):
                    self.set(ImageRecord(name, images[name].target, labels), "")
        own = images.get(image_id)
        if own is not None and len(pins) == 1:  # CRI's record of the image has its own pin
            [pin] = pins
            if own.labels.get(PINNED_LABEL) != pin:
                labels = {PINNED_LABEL: pin} if pin else {}
                record = ImageRecord(image_id, own.target, labels)
                with contextlib.suppress(NotFoundError):
                    self._images.update(record, f"labels.{PINNED_LABEL}")
