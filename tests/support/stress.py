"""Many clients push, pull, mount, delete and list at once, and each knows what must come of it.

Every client has repositories of its own, so that what it did last is what must be there; all take
layers from one small pool and mount them from one another, so that what one deletes others need.
Whatever answers with 5xx, gives other bytes than its digest says, or forgets, is a failure.
"""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from airside.oci.model import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

RING = "ring"
RING_KEEPS = 5
"""Tags that retention leaves in each repository below `ring/`."""
_POOL = 40
_LAYER_BYTES = 20_000
_TAGS = 12
_PULL_PARTS = 3


def digest_of(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _descriptor(raw: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw)}


@dataclass(frozen=True)
class Image:
    """A manifest or index with all that is below it: digest → (media type, bytes)."""

    raw: bytes
    media_type: str
    manifests: dict[str, bytes]
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.raw)


def pool_layer(number: int) -> bytes:
    return random.Random(f"layer {number}").randbytes(_LAYER_BYTES + number)


def make_image(rng: random.Random) -> Image:
    layers = [pool_layer(n) for n in rng.sample(range(_POOL), rng.randint(1, 3))]
    if rng.random() < 0.5:
        layers.append(rng.randbytes(rng.randint(1, 3000)))
    config = json.dumps({"architecture": "amd64", "os": "linux", "n": rng.random()}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(config, OCI_CONFIG),
        "layers": [_descriptor(layer, OCI_LAYER) for layer in layers],
    }
    raw = json.dumps(document).encode()
    blobs = {digest_of(blob): blob for blob in (config, *layers)}
    if rng.random() < 0.8:
        return Image(raw, OCI_MANIFEST, {}, blobs)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_descriptor(raw, OCI_MANIFEST)],
    }
    return Image(json.dumps(index).encode(), OCI_INDEX, {digest_of(raw): raw}, blobs)


@dataclass(repr=False, eq=False)
class Client:
    """One client, whose own repositories are as `tags` says: repository → tag → image."""

    number: int
    rng: random.Random
    http: aiohttp.ClientSession
    base: str
    peers: list["Client"] = field(default_factory=list)
    tags: dict[str, dict[str, Image]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def repositories(self) -> tuple[str, ...]:
        return (f"own/{self.number}", f"team/{self.number}/app", f"{RING}/{self.number}")

    async def run(self, operations: int) -> None:
        actions: list[tuple[Callable[[str], Awaitable[None]], int]] = [
            (self._push, 30),
            (self._pull, 30),
            (self._list, 12),
            (self._delete_tag, 8),
            (self._delete_manifest, 5),
            (self._refer, 5),
            (self._absent, 5),
            (self._give_up, 5),
        ]
        calls, weights = zip(*actions, strict=True)
        for _ in range(operations):
            [call] = self.rng.choices(calls, weights)
            repository = self.rng.choice(self.repositories)
            try:
                await call(repository)
            except Exception as exc:  # noqa: BLE001 - told, and the test fails
                self.failures.append(f"client {self.number}: {call.__name__} {repository}: {exc!r}")
            self.done[call.__name__.strip("_")] += 1

    # what a client does

    async def _push(self, repository: str) -> None:
        image = make_image(self.rng)
        for digest, raw in image.blobs.items():
            await self._send(repository, digest, raw)
        for digest, raw in image.manifests.items():
            await self._put(repository, digest, raw, OCI_MANIFEST)
        tag = self._new_tag(repository)
        await self._put(repository, tag, image.raw, image.media_type)
        self.tags.setdefault(repository, {}).pop(tag, None)
        self.tags[repository][tag] = image  # the newest is the last

    def _new_tag(self, repository: str) -> str:
        if repository.startswith(RING):  # each a new one: retention goes by when a tag moved
            return f"n{self.done['push']}"
        return f"t{self.rng.randrange(_TAGS)}"

    async def _send(self, repository: str, digest: str, raw: bytes) -> None:
        head = await self._ask("HEAD", f"{repository}/blobs/{digest}", expected=(200, 404))
        if head.status == 200:
            return
        way = self.rng.choice(["mount", "post", "put", "chunks", "stream"])
        if way == "mount":
            source = self.rng.choice(self.peers)
            asked = f"mount={digest}&from={self.rng.choice(source.repositories)}"
            found = await self._ask(
                "POST", f"{repository}/blobs/uploads/?{asked}", expected=(201, 202)
            )
            if found.status == 201:
                return
            await self._finish(found.location, digest, raw)
        elif way == "post":
            await self._ask("POST", f"{repository}/blobs/uploads/?digest={digest}", raw, (201,))
        else:
            started = await self._ask("POST", f"{repository}/blobs/uploads/", expected=(202,))
            await self._upload(way, started.location, digest, raw)

    async def _upload(self, way: str, location: str, digest: str, raw: bytes) -> None:
        if way == "put":
            await self._finish(location, digest, raw)
            return
        half = len(raw) // 2
        for start, part in ((0, raw[:half]), (half, raw[half:])):
            if not part:
                continue
            told = {"Content-Range": f"{start}-{start + len(part) - 1}"} if way == "chunks" else {}
            found = await self._at("PATCH", location, part, (202,), told)
            location = found.location
        await self._finish(location, digest, b"")

    async def _finish(self, location: str, digest: str, raw: bytes) -> None:
        mark = "&" if "?" in location else "?"
        await self._at("PUT", f"{location}{mark}digest={digest}", raw, (201,), {})

    async def _put(self, repository: str, reference: str, raw: bytes, media_type: str) -> None:
        found = await self._ask(
            "PUT",
            f"{repository}/manifests/{reference}",
            raw,
            (201,),
            {"Content-Type": media_type},
        )
        self._check(found.digest == digest_of(raw), f"{reference} became {found.digest}")

    async def _pull(self, repository: str) -> None:
        client = self if self.rng.random() < 0.7 else self.rng.choice(self.peers)
        where = repository if client is self else self.rng.choice(client.repositories)
        kept = list(client.tags.get(where, {}).items())
        if where.startswith(RING):
            kept = kept[-RING_KEEPS:]
        if not kept:
            return
        tag, image = self.rng.choice(kept)
        found = await self._ask("GET", f"{where}/manifests/{tag}", expected=(200, 404))
        if client is not self:  # it may change meanwhile: what comes must be true
            self._check(found.status == 404 or found.digest == digest_of(found.body), "wrong bytes")
            return
        self._check(found.status == 200 and found.body == image.raw, f"{where}:{tag} is lost")
        await self._pull_below(where, image)

    async def _pull_below(self, repository: str, image: Image) -> None:
        for digest in image.manifests:
            found = await self._ask("GET", f"{repository}/manifests/{digest}", expected=(200,))
            self._check(digest_of(found.body) == digest, f"{digest} has wrong bytes")
        for digest in self.rng.sample(list(image.blobs), min(_PULL_PARTS, len(image.blobs))):
            found = await self._ask("GET", f"{repository}/blobs/{digest}", expected=(200,))
            self._check(digest_of(found.body) == digest, f"{digest} has wrong bytes")

    async def _list(self, repository: str) -> None:
        shown = await self.list_tags(repository)
        known = self.tags.get(repository, {})
        if repository.startswith(RING):
            least = list(known)[-RING_KEEPS:]
            self._check(set(least) <= shown <= set(known), f"{repository} lists {shown}")
        else:
            self._check(shown == set(known), f"{repository} lists {shown}, not {set(known)}")

    async def list_tags(self, repository: str) -> set[str]:
        found = await self._ask("GET", f"{repository}/tags/list", expected=(200, 404))
        return set(json.loads(found.body)["tags"]) if found.status == 200 else set()

    async def _delete_tag(self, repository: str) -> None:
        tags = self.tags.get(repository, {})
        if not tags or repository.startswith(RING):
            return
        tag = self.rng.choice(list(tags))
        await self._ask("DELETE", f"{repository}/manifests/{tag}", expected=(202,))
        del tags[tag]
        await self._ask("HEAD", f"{repository}/manifests/{tag}", expected=(404,))

    async def _delete_manifest(self, repository: str) -> None:
        tags = self.tags.get(repository, {})
        if not tags or repository.startswith(RING):
            return
        digest = self.rng.choice(list(tags.values())).digest
        await self._ask("DELETE", f"{repository}/manifests/{digest}", expected=(202,))
        for tag in [tag for tag, image in tags.items() if image.digest == digest]:
            del tags[tag]
        await self._ask("GET", f"{repository}/manifests/{digest}", expected=(404,))

    async def _refer(self, repository: str) -> None:
        tags = self.tags.get(repository, {})
        if not tags or repository.startswith(RING):
            return
        image = self.rng.choice(list(tags.values()))
        await self._send(repository, digest_of(b"{}"), b"{}")
        empty = {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(b"{}"),
            "size": 2,
        }
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.test.note",
            "config": empty,
            "layers": [empty],
            "subject": {
                "mediaType": image.media_type,
                "digest": image.digest,
                "size": len(image.raw),
            },
            "annotations": {"n": str(self.rng.random())},
        }
        raw = json.dumps(document).encode()
        await self._put(repository, digest_of(raw), raw, OCI_MANIFEST)
        found = await self._ask("GET", f"{repository}/referrers/{image.digest}", expected=(200,))
        listed = {each["digest"] for each in json.loads(found.body)["manifests"]}
        self._check(digest_of(raw) in listed, f"{digest_of(raw)} is no referrer")

    async def _absent(self, repository: str) -> None:
        digest = digest_of(self.rng.randbytes(8))
        for kind in ("manifests", "blobs"):
            await self._ask("GET", f"{repository}/{kind}/{digest}", expected=(404,))
        await self._ask("DELETE", f"{repository}/manifests/{digest}", expected=(404,))

    async def _give_up(self, repository: str) -> None:
        started = await self._ask("POST", f"{repository}/blobs/uploads/", expected=(202,))
        await self._at("PATCH", started.location, b"half", (202,), {})
        if self.rng.random() < 0.5:
            await self._at("DELETE", started.location, b"", (204,), {})
        else:
            wrong = f"{started.location}?digest={digest_of(b'other')}"
            await self._at("PUT", wrong, b"", (400,), {})

    # asking

    async def _ask(
        self,
        method: str,
        path: str,
        raw: bytes = b"",
        expected: tuple[int, ...] = (200,),
        headers: dict[str, str] | None = None,
    ) -> "Found":
        return await self._at(method, f"/v2/{path}", raw, expected, headers or {})

    async def _at(
        self,
        method: str,
        target: str,
        raw: bytes,
        expected: tuple[int, ...],
        headers: dict[str, str],
    ) -> "Found":
        async with self.http.request(
            method, self.base + target, data=raw, headers=headers
        ) as response:
            body = await response.read()
            found = Found(
                response.status,
                body,
                response.headers.get("Docker-Content-Digest", ""),
                response.headers.get("Location", ""),
            )
        self._check(
            found.status in expected, f"{method} {target}: {found.status} {found.body[:300]!r}"
        )
        return found

    def _check(self, holds: bool, told: str) -> None:  # noqa: FBT001 - an assertion
        if not holds:
            raise AssertionError(told)


@dataclass(frozen=True)
class Found:
    status: int
    body: bytes
    digest: str
    location: str


async def run_clients(
    address: str, seed: int, clients: int, operations: int
) -> tuple[list[Client], list[str]]:
    """Let them do so many operations in all; gives the clients and what failed."""
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as http:
        found = [
            Client(n, random.Random(f"{seed}/{n}"), http, f"http://{address}")
            for n in range(clients)
        ]
        for client in found:
            client.peers = [peer for peer in found if peer is not client]
        async with asyncio.TaskGroup() as group:
            for client in found:
                group.create_task(client.run(operations // clients))
    return found, [failure for client in found for failure in client.failures]


async def compare(address: str, clients: list[Client]) -> list[str]:
    """What differs from what the clients did, when all is quiet."""
    async with aiohttp.ClientSession() as http:
        for client in clients:
            client.http, client.base, client.failures = http, f"http://{address}", []
            for repository in client.repositories:
                known = client.tags.get(repository, {})
                kept = list(known)[-RING_KEEPS:] if repository.startswith(RING) else list(known)
                shown = await client.list_tags(repository)
                if shown != set(kept):
                    client.failures.append(f"{repository} lists {shown}, not {set(kept)}")
                for tag in kept:
                    await _compare_tag(client, repository, tag)
    return [failure for client in clients for failure in client.failures]


async def _compare_tag(client: Client, repository: str, tag: str) -> None:
    image = client.tags[repository][tag]
    try:
        found = await client._ask("GET", f"{repository}/manifests/{tag}")
        client._check(found.body == image.raw, f"{repository}:{tag} is another image")
        client.rng = random.Random(0)
        await client._pull_below(repository, image)
    except AssertionError as exc:
        client.failures.append(str(exc))
