"""Pulls an image from the registry as containerd would, and times each step. Async.

Asks over HTTP like any client, with the credentials of whoever pressed the button: so the test also
covers the server, its limits and its rules. The bytes are dropped.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from airside.core.settings import GIB, MIB
from airside.oci.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
)

MOST_BYTES = GIB
MOST_SECONDS = 60.0
_AT_ONCE = 3
"""containerd's default number of concurrent layer downloads."""
_ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}, */*"
_DOCUMENT_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `kind`: index, manifest, config or layer."""

    kind: str
    digest: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """The result. `failure`: empty if all went well; `is_cut`: blobs were not read whole."""

    steps: tuple[Step, ...]
    seconds: float
    failure: str = ""
    is_cut: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(step.size_bytes for step in self.steps)


class PullTrial:
    """One trial at a time. `base`: the registry's URL; `headers`: the client's credentials."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        self._base, self._headers = base, headers
        self._steps: list[Step] = []
        self._left = MOST_BYTES

    async def run(self, path: str, host: str, reference: str, platform_digest: str) -> Trial:
        """Pulls the repository's `reference`; `platform_digest`: the manifest for this node."""
        started, failure = time.monotonic(), ""
        timeout = aiohttp.ClientTimeout(total=MOST_SECONDS)
        connector = aiohttp.TCPConnector(ssl=False)  # our own address: nobody is in between
        query = {"ns": host} if host else {}
        try:
            async with (
                asyncio.timeout(MOST_SECONDS),
                aiohttp.ClientSession(
                    connector=connector, timeout=timeout, headers=dict(self._headers)
                ) as session,
            ):
                self._session, self._path, self._query = session, path, query
                await self._pull(reference, platform_digest)
        except TimeoutError:
            failure = f"it takes longer than {MOST_SECONDS:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError, _RefusedError) as exc:
            failure = str(exc) or type(exc).__name__
        seconds = time.monotonic() - started
        return Trial(tuple(self._steps), seconds, failure, is_cut=self._left <= 0)

    async def _pull(self, reference: str, platform_digest: str) -> None:
        document = await self._document(reference)
        if "manifests" in document:
            document = await self._document(platform_digest)
        blobs = [("config", document.get("config") or {})]
        blobs += [("layer", layer) for layer in document.get("layers") or ()]
        places = asyncio.Semaphore(_AT_ONCE)
        pulls = [self._blob(places, kind, str(blob["digest"])) for kind, blob in blobs if blob]
        await asyncio.gather(*pulls)

    async def _document(self, reference: str) -> dict[str, Any]:
        started = time.monotonic()
        where = f"{self._base}/v2/{self._path}/manifests/{reference}"
        headers = {"Accept": _ACCEPT}
        async with self._session.get(where, params=self._query, headers=headers) as answer:
            _check(answer, "manifest", reference)
            raw = await answer.content.read(_DOCUMENT_BYTES)
            while not answer.content.at_eof() and len(raw) < _DOCUMENT_BYTES:
                raw += await answer.content.read(_DOCUMENT_BYTES)
        document: dict[str, Any] = json.loads(raw)
        kind = "index" if "manifests" in document else "manifest"
        digest = answer.headers.get("Docker-Content-Digest", reference)
        self._steps.append(Step(kind, digest, len(raw), time.monotonic() - started))
        return document

    async def _blob(self, places: asyncio.Semaphore, kind: str, digest: str) -> None:
        async with places:
            started, size = time.monotonic(), 0
            where = f"{self._base}/v2/{self._path}/blobs/{digest}"
            async with self._session.get(where, params=self._query) as answer:
                _check(answer, kind, digest)
                async for chunk in answer.content.iter_chunked(MIB):
                    size += len(chunk)
                    self._left -= len(chunk)
                    if self._left <= 0:
                        break
            self._steps.append(Step(kind, digest, size, time.monotonic() - started))


class _RefusedError(Exception):
    """The registry did not give what was asked for."""


def _check(answer: aiohttp.ClientResponse, kind: str, name: str) -> None:
    if answer.status != 200:
        raise _RefusedError(f"the registry answers {answer.status} for the {kind} {name}")
