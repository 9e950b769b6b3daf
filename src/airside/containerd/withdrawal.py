"""Withdraws images from containerd: their names, and CRI's own records of them."""

from collections.abc import Iterable, Mapping

from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.containerd.node_manifests import NodeManifests
from airside.containerd.services.images import ImageRecord
from airside.containerd.wanted_images import WantedImages
from airside.core.failpoints import fault
from airside.oci.digest import is_digest


class Withdrawal:
    """Withdraws images of one namespace. Thread-safe. `cri` is None if containerd has none."""

    def __init__(
        self, client: Client, cri: Cri | None, manifests: NodeManifests, wanted: WantedImages
    ) -> None:
        self._client, self._cri, self._manifests, self._wanted = client, cri, manifests, wanted

    def run(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        """Deletes names and images as `airside.ports.content.Runtime.withdraw` says."""
        wanted = list(names)
        kept = self._held_by_containers(wanted)
        gone = [name for name in wanted if name not in kept]
        for name in gone:
            self._client.images.delete(name)
            fault("publish.after_withdraw")
        left = {i for i in image_ids if is_digest(i)}
        used = self._drop_ids(left, frozenset(gone)) if left else frozenset()
        return used.union(kept, kept.values())

    def _held_by_containers(self, names: Iterable[str]) -> dict[str, str]:
        """Returns those of the digests' names whose image a container uses: name → image ID.

        A container that is pinned to a digest is restarted by that name only.
        """
        digests = [name for name in names if "@" in name]
        if not digests:
            return {}
        used = self._wanted.find()
        ids = ((name, self._manifests.config_of(name)) for name in digests if used)
        return {name: image_id for name, image_id in ids if name in used or image_id in used}

    def _drop_ids(self, image_ids: set[str], gone: frozenset[str]) -> frozenset[str]:
        """Deletes CRI's own records of images without another name. Returns those still in use.

        Such a record (`sha256:<config digest>`) holds the content of a deleted image.
        """
        records = {record.name: record for record in self._client.images.list()}
        present = records.keys() & image_ids
        if not present or self._cri is None:
            return frozenset()
        cri_names = {image.id: {*image.tags, *image.digests} for image in self._cri.images()}
        named = {i for i in present if self._is_named(i, records, cri_names.get(i, set()) - gone)}
        used = self._used(gone | present)
        free = sorted(present - named - used)
        for position, image_id in enumerate(free):
            self._client.images.delete(image_id, sync=position == len(free) - 1)
        return frozenset(present & used - named)

    def _is_named(
        self, image_id: str, records: Mapping[str, ImageRecord], cri_names: Iterable[str]
    ) -> bool:
        """Returns True if an image has a name besides its record. CRI's answer may be stale."""
        target = records[image_id].target.digest
        if any(r.target.digest == target and not is_digest(n) for n, r in records.items()):
            return True
        return any(
            self._manifests.config_of(name) == image_id for name in cri_names if name in records
        )

    def _used(self, names: frozenset[str]) -> set[str]:
        """Returns the image IDs from which containers were made, and those of `names` in use."""
        found = {c.image for c in self._client.containers.list() if c.image in names}
        if self._cri is not None:
            found |= {c.image_id for c in self._cri.containers()}
        return found
