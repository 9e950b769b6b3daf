"""A client of the distribution API that sends what it is told to, and artifacts to push with it.

Nothing here is taken from the code under test: digests, documents and referrers are computed anew.
"""

import base64
import hashlib
import http.client
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from support.waiting import LIMIT_SECONDS

OCTETS = "application/octet-stream"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
KIND, OTHER_KIND = "application/vnd.airside.test.v1", "application/vnd.airside.test.v2+json"

Query = Sequence[tuple[str, str]]

_numbers = itertools.count()


@dataclass(frozen=True)
class Reply:
    """`target` is what was asked, `headers` of any case, several lines of one joined by commas."""

    target: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        return ", ".join(self.headers.get_all(name, []))

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def location(self) -> str:
        """Where the answer points, as a target at the same registry."""
        there = urlsplit(urljoin(self.target, self.headers["Location"]))
        return there.path + (f"?{there.query}" if there.query else "")


@dataclass(frozen=True)
class Registry:
    """A registry at `host:port`, each request on a connection of its own."""

    address: str

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *lines: tuple[str, str],
        query: Query = (),
        streamed: bool = False,
    ) -> Reply:
        """One request. `streamed` sends the body in pieces, its length untold."""
        if query:
            target += ("&" if "?" in target else "?") + urlencode(query)
        with closing(http.client.HTTPConnection(self.address, timeout=LIMIT_SECONDS)) as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in lines:
                connection.putheader(name, value)
            if streamed:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(
                _pieces(body or b"") if streamed else body, encode_chunked=streamed
            )
            answer = connection.getresponse()
            return Reply(target, answer.status, answer.headers, answer.read())


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + 1000] for start in range(0, len(body), 1000))


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def some_bytes(size: int) -> bytes:
    """Bytes that no other test has, the same in every run of a file of tests."""
    return random.Random(next(_numbers)).randbytes(size)


@dataclass(frozen=True)
class Described:
    """A document, and how a referrer list shows it."""

    raw: bytes
    digest: str
    media_type: str
    subject: str = ""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.raw)}

    @property
    def listed(self) -> dict[str, Any]:
        """Its descriptor as the list of its subject's referrers must have it."""
        kind = {"artifactType": self.artifact_type} if self.artifact_type else {}
        notes = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {**self.descriptor, **kind, **notes}


@dataclass
class Content:
    """What is pushed together: blobs, then documents in this order, then tags.

    `algorithm` is that of all digests; with `with_data` descriptors carry their bytes too.
    """

    algorithm: str = "sha256"
    with_data: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    documents: list[Described] = field(default_factory=list)
    tags: dict[str, Described] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str = OCTETS) -> dict[str, Any]:
        """Add a blob; gives its descriptor."""
        digest = digest_of(data, self.algorithm)
        self.blobs[digest] = data
        found: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if self.with_data:
            found["data"] = base64.b64encode(data).decode()
        return found

    def config(self, *, architecture: str = "amd64", **more: object) -> dict[str, Any]:
        """An image's config; its diff IDs are nonsense, which is nothing to a registry."""
        rootfs = {"type": "layers", "diff_ids": [digest_of(some_bytes(8))]}
        value = {"os": "linux", "architecture": architecture, "rootfs": rootfs, **more}
        return self.blob(json.dumps(value).encode(), CONFIG)

    def image(
        self,
        *tags: str,
        layers: Sequence[Mapping[str, Any]] | None = None,
        config: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Described:
        """Add an image manifest, with two layers and a config of its own unless they are given."""
        if layers is None:
            layers = [self.blob(some_bytes(300), LAYER) for _ in range(2)]
        config = self.config() if config is None else config
        value = {"mediaType": MANIFEST, "config": config, "layers": layers, **fields}
        return self._add(value, tags)

    def artifact(self, *tags: str, **fields: Any) -> Described:
        """Add an artifact: an image manifest with the empty config and one layer of its own."""
        layers = [self.blob(some_bytes(300), KIND)]
        return self.image(*tags, layers=layers, config=self.blob(b"{}", EMPTY), **fields)

    def index(
        self,
        *tags: str,
        of: Sequence[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Described:
        """Add an index of these descriptors, or of two images for two platforms."""
        if of is None:
            names = ("amd64", "arm64")
            platforms = [{"os": "linux", "architecture": name} for name in names]
            of = [{**self.image().descriptor, "platform": platform} for platform in platforms]
        return self._add({"mediaType": INDEX, "manifests": of, **fields}, tags)

    def _add(self, value: Mapping[str, Any], tags: Sequence[str]) -> Described:
        raw = json.dumps({"schemaVersion": 2, **value}, indent=1).encode()
        kind = value.get("artifactType") or value.get("config", {}).get("mediaType", "")
        subject = value.get("subject", {}).get("digest", "")
        notes = value.get("annotations", {})
        digest = digest_of(raw, self.algorithm)
        found = Described(raw, digest, value["mediaType"], subject, kind, notes)
        self.documents.append(found)
        self.tags |= dict.fromkeys(tags, found)
        return found
