"""Finds the manifest that the node would run under a name of containerd."""

import contextlib
import threading

from airside.containerd.client import Client
from airside.core.errors import ManifestInvalidError, NotFoundError
from airside.oci.digest import Digest
from airside.oci.model import INDEX_TYPES, Document, Manifest, parse_bare_document, parse_document
from airside.oci.platform import Platform
from airside.ports.node_manifest import Selector
from airside.ports.publication import NodeContent

DOCUMENT_BYTES = 4 * 1024 * 1024


class NodeManifests:
    """The manifests of the node's platform in one namespace, cached by index. Thread-safe."""

    def __init__(self, client: Client, node: Platform) -> None:
        self._client, self._node = client, node
        self._chosen_below: dict[Digest, Digest | None] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Digest | None:
        """Returns the manifest that would run under a name, None if there is none."""
        record = self._client.images.get(name)
        if record is None:
            return None
        target = record.target
        if target.media_type not in INDEX_TYPES:
            return target.digest
        with self._lock:
            if target.digest in self._chosen_below:
                return self._chosen_below[target.digest]
        found = self._chosen(target.digest, target.media_type)
        with self._lock:
            self._chosen_below[target.digest] = found
        return found

    def _chosen(self, digest: Digest, media_type: str) -> Digest | None:
        """Returns the node's manifest below an index that containerd holds."""
        target = self._document(digest, media_type)
        if target is None:
            return None
        selector = Selector(
            self._node,
            lambda d: self._document(d.digest, d.media_type),
            lambda _manifest: None,
            lambda _manifest: True,
        )
        chosen = selector.choose(target)
        return chosen.manifest.digest if isinstance(chosen, NodeContent) else None

    def _document(self, digest: Digest, media_type: str) -> Document | None:
        try:
            info = self._client.content.info(digest)
            if info is None or info.size_bytes > DOCUMENT_BYTES:
                return None
            raw = b"".join(self._client.content.read(digest))
            return parse_document(raw, media_type, str(digest), algorithm=digest.algorithm)
        except (NotFoundError, ManifestInvalidError):
            return None

    def config_of(self, name: str) -> str:
        """Returns the image ID of a name on this node, "" if unknown."""
        manifest = self.of(name)
        with contextlib.suppress(NotFoundError, ManifestInvalidError):
            if manifest is not None:
                raw = b"".join(self._client.content.read(manifest))
                content = parse_bare_document(raw, name).content
                return str(content.config.digest) if isinstance(content, Manifest) else ""
        return ""
