"""Which images the pods of a containerd want: of sandboxes, containers, static pods and pulls."""

from collections.abc import Iterator

from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.containerd.pod_files import images_in_pod_files
from airside.core.host_root import host_root

_PULLS = ("index-", "manifest-", "config-")
"""The beginning of containerd's keys for the documents that a pull fetches."""


class WantedImages:
    """The images that the pods of one namespace want. Thread-safe.

    `cri` is None if containerd has none. `sandbox`: the name of the sandbox image, if CRI says it.
    """

    def __init__(self, client: Client, cri: Cri | None, sandbox: str) -> None:
        self._client, self._cri, self._sandbox = client, cri, sandbox

    def find(self) -> frozenset[str]:
        """Returns names and image IDs, as `airside.ports.content.Runtime.wanted` says."""
        return frozenset(filter(None, self._all()))

    def _all(self) -> Iterator[str]:
        yield self._sandbox
        for record in self._client.containers.list():  # the sandboxes of pods are containers too
            yield record.image
        for ingest in self._client.content.ingests():
            if ingest.startswith(_PULLS):  # a pull that runs: `config-` has the image ID
                yield ingest.partition("-")[2]
        yield from images_in_pod_files(host_root())
        for container in self._cri.containers() if self._cri is not None else ():
            yield container.image
            yield container.image_id
