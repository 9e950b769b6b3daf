"""Uploads of archives over HTTP, below `/ui/uploads`. Async.

- The page, and any client of tus 1.0.0 (https://tus.io/protocols/resumable-upload): `POST` begins
  an upload, `HEAD` tells its offset, `PATCH` appends, `DELETE` cancels. Extensions: creation,
  expiration, termination. The header `Tus-Resumable`, which a form can't send, is needed. `GET` is
  ours: it tells what became of the import.
- A form without scripts: `POST` of `multipart/form-data`.
- `curl -T archive.tar http://HOST/ui/uploads/`: `PUT` with the name in the path. Such an upload
  cannot be resumed.

Who may upload is decided before by `registry.http.middleware`: who may push everywhere. That no
page of another origin asks is `registry.http.page_guard`'s. Both hold for every path here.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from typing import TypeVar

from aiohttp import BodyPartReader, hdrs, web

from airside.core.errors import (
    AirsideError,
    ConflictError,
    DeniedError,
    RequestInvalidError,
    StorageFullError,
    TooLargeError,
    TooManyError,
    UploadRangeError,
    UploadUnknownError,
    VerificationError,
)
from airside.page.uploads.archive_upload import ArchiveUpload
from airside.page.uploads.archive_uploads import ArchiveUploads
from airside.page.uploads.bodies import BROKEN, STALL_SECONDS, UploadBodies, body_of, bytes_of
from airside.page.uploads.form_result import FormResult
from airside.page.uploads.offers import Offer, parse_count, parse_metadata, parse_offer
from airside.page.uploads.results import ImportResults
from airside.page.uploads.turns import Turns
from airside.registry.auth.login import Identity
from airside.registry.http.audit import audit
from airside.registry.http.request_access import WHO
from airside.registry.rules.access import PAGE_UPLOADS

Result = TypeVar("Result")

VERSION = "1.0.0"
OFFSET_STREAM = "application/offset+octet-stream"
DRAIN_BYTES = 8 * 1024 * 1024
"""Bytes of a refused body that are read, so that the client reads the refusal."""
SWEEP_SECONDS = 3600.0
_FIELD_BYTES = 4096
_LOG = logging.getLogger("airside.uploads")

_STATUS: tuple[tuple[type[AirsideError], int], ...] = (
    (TooLargeError, 413),
    (TooManyError, 429),
    (UploadUnknownError, 404),
    (UploadRangeError, 409),
    (ConflictError, 409),
    (DeniedError, 403),
    (VerificationError, 422),
    (RequestInvalidError, 400),
    (StorageFullError, 507),
)


FormAnswer = Callable[[web.Request, FormResult], Awaitable[web.StreamResponse]]


class UploadRoutes:
    """The routes. Blocking calls run in `pool`."""

    def __init__(
        self,
        uploads: ArchiveUploads,
        pool: Executor,
        results: ImportResults,
        answer_form: FormAnswer,
    ) -> None:
        self._uploads, self._pool = uploads, pool
        self._results, self._answer_form = results, answer_form
        self._bodies, self._turns = UploadBodies(uploads, pool), Turns()

    def add_routes(self, app: web.Application) -> None:
        one, new = PAGE_UPLOADS + "/{id}", PAGE_UPLOADS + "/{name}"
        app.router.add_post(PAGE_UPLOADS, self._guarded(self._post))
        app.router.add_head(one, self._guarded(self._head))
        app.router.add_get(one, self._guarded(self._get), allow_head=False)
        app.router.add_patch(one, self._guarded(self._patch))
        app.router.add_delete(one, self._guarded(self._delete))
        app.router.add_put(new, self._guarded(self._put))

    async def load(self) -> None:
        """Finds the unfinished uploads of an earlier process. Call it before the first request."""
        await self._run(self._uploads.load)

    async def run(self) -> None:
        """Sweeps abandoned uploads, at once and hourly, until cancelled."""
        while True:
            await self._run(self._uploads.sweep)
            await asyncio.sleep(SWEEP_SECONDS)

    # tus

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type == "multipart/form-data":
            return await self._answer_form(request, await self._receive_form(request))
        _check_version(request)
        said = parse_metadata(request.headers.get("Upload-Metadata", ""))
        length = parse_count(request.headers.get("Upload-Length", ""), "Upload-Length")
        offer = parse_offer(
            said.get("filename") or said.get("name") or "",
            length,
            sha256=said.get("sha256", ""),
            replace=said.get("replace", ""),
        )
        upload = await self._run(self._uploads.begin, offer, _owner(request))
        if not length:
            await self._finish(request, upload)
        headers = {"Location": f"{PAGE_UPLOADS}/{upload.id}", **self._offset(upload)}
        return _answer(201, headers=headers)

    async def _head(self, request: web.Request) -> web.StreamResponse:
        _check_version(request)
        upload = self._find(request)
        async with self._turns.take(upload.id):
            return _answer(200, headers=self._offset(upload))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        """Tells what became of an upload, and of its import."""
        upload = self._find(request)
        found: dict[str, object] = {"state": "uploading", "reason": "", "images": []}
        if upload.is_finished:
            target = upload.path.with_name(upload.offer.name)
            found = await self._run(self._results.of, target)
        headers = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}
        return web.json_response({"offset": upload.offset, **found}, headers=headers)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        _check_version(request)
        upload = self._find(request)
        if request.content_type != OFFSET_STREAM:
            return _refusal(415, f"the content type must be {OFFSET_STREAM}")
        offset = parse_count(request.headers.get("Upload-Offset", ""), "Upload-Offset")
        async with self._turns.take(upload.id):
            await self._run(self._uploads.expect, upload, offset, request.content_length or 0)
            if not upload.is_finished:
                await self._bodies.receive(body_of(request), upload)
                if upload.offset == upload.offer.length:
                    await self._finish(request, upload)
            return _answer(204, headers=self._offset(upload))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        _check_version(request)
        upload = self._find(request)
        async with self._turns.take(upload.id):
            await self._run(self._uploads.cancel, upload)
        return _answer(204)

    def _find(self, request: web.Request) -> ArchiveUpload:
        return self._uploads.find(request.match_info["id"], _owner(request))

    def _offset(self, upload: ArchiveUpload) -> Mapping[str, str]:
        found = {"Upload-Offset": str(upload.offset)}
        if upload.offer.length is not None:
            found["Upload-Length"] = str(upload.offer.length)
        if not upload.is_finished:
            left = self._uploads.expires_after_seconds
            found["Upload-Expires"] = formatdate(math.floor(time.time() + left), usegmt=True)
        return found

    # in one request

    async def _put(self, request: web.Request) -> web.StreamResponse:
        offer = parse_offer(
            request.match_info["name"],
            request.content_length,
            sha256=request.query.get("sha256", ""),
            replace=request.query.get("replace", ""),
        )
        upload = await self._receive_whole(request, offer, body_of(request))
        return _answer(201, f"{upload.offer.name}: {upload.offset} bytes stored, import follows\n")

    async def _receive_whole(
        self, request: web.Request, offer: Offer, body: AsyncIterator[bytes]
    ) -> ArchiveUpload:
        """Receives an upload that cannot be resumed: what comes of a broken one is deleted."""
        async with self._whole(request, offer, body) as upload:
            await self._finish(request, upload)
        return upload

    @asynccontextmanager
    async def _whole(
        self, request: web.Request, offer: Offer, body: AsyncIterator[bytes]
    ) -> AsyncIterator[ArchiveUpload]:
        """Yields an upload with all its bytes, which is cancelled if it is not finished."""
        about = request.content_length or 0
        begin = partial(self._uploads.begin, resumable=False)
        upload = await self._run(begin, offer, _owner(request), about)
        try:
            await self._bodies.receive(body, upload)
            yield upload
        finally:
            if not upload.is_finished:
                await self._run(self._uploads.cancel, upload)

    async def _receive_form(self, request: web.Request) -> FormResult:
        """Stores the files of a form, in their order; fields count for the files after them."""
        stored: list[str] = []
        try:
            await self._store_form(request, stored)
        except (AirsideError, *BROKEN, ValueError, LookupError) as exc:  # its parts, too
            await _drain(request)
            found = exc if isinstance(exc, AirsideError) else _malformed(exc)
            return FormResult(tuple(stored), found.message, _status(found))
        if not stored:
            return FormResult((), "no archive was chosen", 400)
        return FormResult(tuple(stored))

    async def _store_form(self, request: web.Request, stored: list[str]) -> None:
        fields: dict[str, str] = {}
        reader = await request.multipart()
        part = await _in_time(reader.next())
        while part is not None:
            if not isinstance(part, BodyPartReader):
                raise RequestInvalidError("a form within a form is not read")
            if part.filename:
                offer = parse_offer(part.filename, None, replace=fields.get("replace", ""))
                async with self._whole(request, offer, bytes_of(request, part)) as upload:
                    part = await _in_time(
                        reader.next()
                    )  # raises ValueError without a boundary: it broke off
                    await self._finish(request, upload)
                stored.append(upload.offer.name)
                continue
            if part.filename is None:
                fields[part.name or ""] = await _in_time(_field(part))
            part = await _in_time(reader.next())  # also after a file field without a file

    async def _finish(self, request: web.Request, upload: ArchiveUpload) -> None:
        await self._run(self._uploads.finish, upload)
        who = request.get(WHO)
        if who is not None:
            audit(request, who, "upload", (), 201)

    # errors

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException:
                raise
            except AirsideError as exc:
                status = _status(exc)
                level = logging.WARNING if status >= 500 else logging.INFO
                _LOG.log(level, "upload refused: %s: %d", exc.message, status)
                await _drain(request)
                return _refusal(status, exc.message)
            except Exception:  # noqa: BLE001 a bug: the client gets a 500, the log a traceback
                _LOG.exception("%s %s failed", request.method, request.path)
                return _refusal(500, "the upload failed: see the log of the agent")

        return guarded

    async def _run(self, job: Callable[..., Result], *args: object) -> Result:
        """Runs a blocking job. A cancelled request waits for its end: no two work at once."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, partial(job, *args))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


def _status(exc: AirsideError) -> int:
    return next((status for kind, status in _STATUS if isinstance(exc, kind)), 500)


def _owner(request: web.Request) -> str:
    """Whose an upload is: the account that the client logged in to; empty without a login."""
    who: Identity | None = request.get(WHO)
    return "" if who is None or who.is_anonymous else f"{who.how} {who.name}"


def _check_version(request: web.Request) -> None:
    found = request.headers.get("Tus-Resumable", "")
    if found != VERSION:
        headers = {"Tus-Version": VERSION, "Tus-Resumable": VERSION}
        text = f"Tus-Resumable must be {VERSION}, found {found[:40]!r}\n"
        raise web.HTTPPreconditionFailed(text=text, headers=headers)


def _answer(status: int, text: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    always = {"Tus-Resumable": VERSION, hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(status=status, text=text or None, headers={**always, **(headers or {})})


def _refusal(status: int, message: str) -> web.Response:
    return _answer(status, message + "\n")


def _malformed(exc: Exception) -> RequestInvalidError:
    return RequestInvalidError(f"the form is malformed or broke off: {str(exc)[:200]}")


async def _in_time(part: Awaitable[Result]) -> Result:
    """Waits for a part of a form. Raises RequestInvalidError if its client stalls."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            return await part
    except TimeoutError as exc:
        raise RequestInvalidError(f"the form did not go on in {STALL_SECONDS:g} s") from exc


async def _field(part: BodyPartReader) -> str:
    raw = await part.read_chunk(_FIELD_BYTES)
    await part.release()
    return bytes(raw).decode("utf-8", "replace").strip()


async def _drain(request: web.Request) -> None:
    """Reads what a client still sends, within bounds: else it may not read the answer."""
    left = DRAIN_BYTES
    try:
        async for piece in body_of(request):
            left -= len(piece)
            if left <= 0:
                break
    except AirsideError:
        return
