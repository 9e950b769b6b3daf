"""An HTTP client for one upstream registry: manifests, blobs, referrers, tokens, redirects. Async.

Every response is awaited for `seconds` at most; its body is bounded in size or left to the caller.
The body of a document is in a file where it is large (`registry.documents.bodies`).
The files of credentials and certificates are read again when they have changed, and never logged.
`registry.rules.upstream` decides which host may receive a secret and parses challenges and tokens.
"""

import asyncio
import contextlib
import ssl
import time
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs
from yarl import URL

from airside import __version__
from airside.core.errors import (
    NotFoundError,
    TooLargeError,
    TooManyError,
    UpstreamAwayError,
    UpstreamError,
)
from airside.core.settings import KIB
from airside.core.upstream_config import Upstream
from airside.oci.digest import Digest
from airside.registry.documents.bodies import DocumentBodies, DocumentBody
from airside.registry.rules import upstream as protocol
from airside.registry.rules.upstream import Credentials, Token

STALL_SECONDS = 30.0
"""A transfer is abandoned if no byte arrives for so long."""

_CONNECTIONS = 64
_AGENT = f"airside/{__version__}"
_SMALL_BYTES = 1024 * KIB
_TOKEN_BYTES = 64 * KIB
_MOST_TOKENS = 128
"""One for each repository: clients may ask for any number of them."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched manifest, unverified; `digest` is the one that the registry declares, or "".

    The receiver closes the body.
    """

    body: DocumentBody
    media_type: str
    digest: str


class UpstreamClient:
    """Sends requests to one registry. Used with `async with`. For one event loop.

    All methods raise NotFoundError if the registry lacks the content, UpstreamError if it refuses,
    UpstreamAwayError if it fails or does not answer in time.
    """

    def __init__(self, upstream: Upstream, seconds: float, bodies: DocumentBodies) -> None:
        self.upstream = upstream
        self._seconds, self._bodies = seconds, bodies
        self._tokens: dict[str, Token] = {}
        self._credentials = _File(upstream.credentials)
        self._ca = _File(upstream.ca)
        self._credentials_now = Credentials()
        self._tls: ssl.SSLContext | bool = True
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={hdrs.USER_AGENT: _AGENT, hdrs.ACCEPT_ENCODING: "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._session.close()

    async def tag_digest(self, path: str, tag: str) -> str:
        """The digest of a tag at the registry, by a HEAD; "" if the response has none."""
        async with self._responding("HEAD", path, "manifests", tag) as response:
            return response.headers.get("Docker-Content-Digest", "")

    async def manifest(self, path: str, reference: Digest | str) -> Fetched:
        """A manifest or index."""
        async with self._responding("GET", path, "manifests", str(reference)) as response:
            media_type = response.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip()
            declared = response.headers.get("Docker-Content-Digest", "")
            return Fetched(await self._document(response), media_type, declared)

    async def referrers(self, path: str, digest: Digest) -> DocumentBody:
        """The list of referrers of a manifest, as JSON; the receiver closes it."""
        async with self._responding("GET", path, "referrers", str(digest)) as response:
            return await self._document(response)

    async def blob_size(self, path: str, digest: Digest) -> int | None:
        """The size of a blob in bytes, by a HEAD; None if the response has none."""
        async with self._responding("HEAD", path, "blobs", str(digest)) as response:
            return protocol.parse_length(response.headers.get(hdrs.CONTENT_LENGTH))

    async def open_blob(
        self, path: str, digest: Digest, *, offset: int = 0, size: int = 0
    ) -> aiohttp.ClientResponse:
        """A blob of `size` bytes, from an offset; the caller reads and closes the response."""
        ranged: dict[str, str] = {hdrs.RANGE: f"bytes={offset}-"} if offset else {}
        response = await self._request("GET", path, "blobs", str(digest), ranged)
        span = response.headers.get(hdrs.CONTENT_RANGE)
        if response.status == 206 and offset and protocol.resumes_at(span, offset, size):
            return response
        if response.status == 200 and not offset:
            return response
        response.close()
        raise UpstreamError(f"{self.upstream} cannot resume a blob at byte {offset}")

    @contextlib.asynccontextmanager
    async def _responding(
        self, method: str, path: str, kind: str, last: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._bounded():
            response = await self._request(method, path, kind, last, {})
            try:
                yield response
            finally:
                response.release()

    async def _request(
        self, method: str, path: str, kind: str, last: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Sends a request, and again with a token if the registry asks for one. Returns a 2xx."""
        async with self._bounded():
            await self._read_files()
            url = protocol.target_of(self.upstream.url, path, kind, last)
            scope = protocol.scope_of(self.upstream.url, path)
            accept = protocol.ACCEPT if kind == "manifests" else "*/*"
            headers = {hdrs.ACCEPT: accept, **headers}
            response = await self._follow(method, url, headers, self._authorization(scope))
            if response.status == 401:
                authorization = await self._authorize(response, scope)
                response.release()
                if authorization:
                    response = await self._follow(method, url, headers, authorization)
            self._check(response)
            return response

    def _authorization(self, scope: str) -> str:
        """The header for a token that is valid still; "" if there is none."""
        if self._credentials_now.token:
            return f"Bearer {self._credentials_now.token}"
        token = self._tokens.get(scope)
        if token is not None and token.is_valid(time.monotonic()):
            return token.authorization
        return ""

    async def _authorize(self, response: aiohttp.ClientResponse, scope: str) -> str:
        """The header that a 401 asks for; "" if no credentials fit."""
        challenge = protocol.parse_challenge(response.headers.get(hdrs.WWW_AUTHENTICATE, ""))
        self._tokens.pop(scope, None)
        if challenge is None or self._credentials_now.token:
            return ""
        if challenge.scheme == "basic":
            return self._credentials_now.basic
        url = protocol.token_url(challenge, scope, self.upstream.url)
        headers: dict[str, str] = {hdrs.ACCEPT: "application/json"}
        token_response = await self._follow("GET", url, headers, self._credentials_now.basic)
        try:
            self._check(token_response, "its token server answers ")
            raw = await self._token_body(token_response)
        finally:
            token_response.release()
        token = protocol.parse_token(raw, time.monotonic())
        while len(self._tokens) >= _MOST_TOKENS:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[scope] = token
        return token.authorization

    async def _follow(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str
    ) -> aiohttp.ClientResponse:
        """Sends a request and follows redirects; other hosts receive no secret."""
        first = url
        for _ in range(protocol.MAX_REDIRECTS + 1):
            sent = {**headers}
            if authorization and protocol.is_same_origin(first, url):
                sent[hdrs.AUTHORIZATION] = authorization
            target = URL(url, encoded=True)  # a signed URL must not be changed
            response = await self._session.request(
                method, target, headers=sent, allow_redirects=False, ssl=self._tls
            )
            if response.status not in protocol.REDIRECTS:
                return response
            location = response.headers.get(hdrs.LOCATION, "")
            response.release()
            url = protocol.redirect_target(url, location)
        raise UpstreamError(f"{self.upstream}: more than {protocol.MAX_REDIRECTS} redirects")

    def _check(self, response: aiohttp.ClientResponse, who: str = "it answers ") -> None:
        """Raises the error of a status other than 200 or 206, with the response released."""
        status = response.status
        if status in {200, 206}:
            return
        response.release()
        if status == 404 and response.url.host == urlsplit(self.upstream.url).hostname:
            raise NotFoundError(f"{self.upstream} does not have it")
        reason = f"{who}{status} {response.reason or ''}".rstrip()
        if status in protocol.UNAVAILABLE:
            raise UpstreamAwayError(f"{self.upstream}: {reason}")
        raise UpstreamError(f"{self.upstream}: {reason}")

    async def _document(self, response: aiohttp.ClientResponse) -> DocumentBody:
        try:
            return await self._bodies.receive(response.content.iter_any())
        except (TooLargeError, TooManyError) as exc:
            response.close()
            raise UpstreamError(f"{self.upstream}: {exc.message}") from exc

    async def _token_body(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) > _TOKEN_BYTES:
                response.close()
                raise UpstreamError(f"its token server sends more than {_TOKEN_BYTES} bytes")
        return bytes(raw)

    async def _read_files(self) -> None:
        if self._credentials.path is not None or self._ca.path is not None:
            await asyncio.to_thread(self._read_changed)

    def _read_changed(self) -> None:
        if (raw := self._credentials.changed()) is not None:
            self._credentials_now = _credentials(raw, str(self._credentials.path))
            self._tokens.clear()
        if (raw := self._ca.changed()) is not None:
            try:
                self._tls = ssl.create_default_context(cadata=raw.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError) as exc:
                raise UpstreamError(f"{self._ca.path} holds no certificates (PEM)") from exc

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """Bounds the time of a request, and names the upstream in its errors."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError as exc:
            raise UpstreamAwayError(
                f"{self.upstream} does not answer within {self._seconds:g} s (upstream_seconds)"
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise UpstreamAwayError(f"{self.upstream} cannot be reached: {_text(exc)}") from exc
        except UpstreamError as exc:
            if str(self.upstream) not in exc.message:
                raise type(exc)(f"{self.upstream}: {exc.message}") from exc
            raise


def _text(exc: Exception) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0][:300]


def _credentials(raw: bytes, where: str) -> Credentials:
    try:
        table = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamError(
            f"{where} is not valid TOML"
        ) from exc  # its text may contain the password
    return protocol.parse_credentials(table, where)


class _File:
    """A small file that is read again after each change."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bytes | None:
        """The content of a new or changed file, else None. Raises UpstreamError."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return None
            with self.path.open("rb") as file:
                raw = file.read(_SMALL_BYTES)
        except OSError as exc:
            raise UpstreamError(f"cannot read {self.path}: {exc.strerror}") from exc
        self._seen = seen
        return raw
