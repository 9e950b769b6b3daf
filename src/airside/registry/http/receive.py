"""Answers pushes and deletions: receives bodies and passes them to `registry.push.pusher`. Async.

`registry.rules.writes` parses the requests. A worker thread hashes and writes a body in pieces
(`registry.http.upload_pieces`), each while the next is received. If a client disconnects in the
middle of a chunk, the upload retains the bytes received so far: the client can query the offset and
resume.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from aiohttp import ClientError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    AirsideError,
    ConflictError,
    DeniedError,
    NotFoundError,
    RequestInvalidError,
    SwitchedOffError,
    TooLargeError,
    TooManyError,
    UploadRangeError,
    UploadUnknownError,
)
from airside.core.memory_account import MemoryAccount
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.registry.documents.bodies import DocumentBodies
from airside.registry.documents.budget import DocumentBudget
from airside.registry.http.request_access import ACCESS, WHO
from airside.registry.http.throttle import iter_body
from airside.registry.http.upload_pieces import PieceMemory, UploadPieces
from airside.registry.push.uploads import PushedManifest, Upload, Uploads
from airside.registry.rules.answers import Answer, problem
from airside.registry.rules.names import Name, any_repository
from airside.registry.rules.token_bucket import client_key, is_loopback
from airside.registry.rules.write_answers import (
    blob_answer,
    manifest_answer,
    range_refusal,
    upload_answer,
)
from airside.registry.rules.writes import (
    AppendUpload,
    CancelUpload,
    Chunk,
    DeleteBlob,
    DeleteManifest,
    FinishUpload,
    GetUpload,
    MountBlob,
    PutManifest,
    StartUpload,
    Write,
    parse_write,
)

Result = TypeVar("Result")

RETRY_AFTER = ("Retry-After", "2")
STALL_SECONDS = 60.0
"""A client that sends less than 64 KiB in this time is disconnected; this allows 1 kB/s."""

_BROKEN = (ConnectionError, ClientError, HttpProcessingError, web.RequestPayloadError)


class PushBackend(Protocol):
    """Executes pushes and deletions: `registry.push.pusher.Pusher`, documented there."""

    uploads: Uploads

    def failed(self, error: AirsideError) -> None: ...
    def begin(self, name: Name, algorithm: str = "sha256", client: str = "") -> Upload: ...
    def expect(self, upload: Upload, count: int) -> None: ...
    def upload(self, name: Name, upload_id: str) -> Upload: ...
    def finish(self, upload: Upload, digest: Digest) -> None: ...
    def mount(
        self, name: Name, digest: Digest, source: Name | None, may: Callable[[Repository], bool]
    ) -> bool: ...
    def lease_blob(self, digest: Digest) -> bool: ...
    def push(
        self,
        name: Name,
        manifest: PushedManifest,
        origin: str,
        may: Callable[[Repository], bool] = any_repository,
    ) -> Document: ...
    def delete_tag(self, name: Name, tag: str, origin: str) -> None: ...
    def delete_manifest(self, name: Name, digest: Digest, origin: str) -> None: ...
    def delete_blob(self, name: Name, digest: Digest, origin: str) -> None: ...


def receiver_of(
    pusher: PushBackend,
    pool: Executor,
    settings: Settings,
    space: DiskSpace,
    memory: MemoryAccount,
) -> "Receiver":
    """Returns the receiver of a data directory."""
    limit = settings.limits.document_bytes
    bodies = DocumentBodies(settings.data / "ingest", pool, limit, space)
    return Receiver(pusher, pool, bodies, DocumentBudget(memory))


class Receiver:
    """Answers the requests that write. Blocking calls run in `pool`."""

    def __init__(
        self, pusher: PushBackend, pool: Executor, bodies: DocumentBodies, budget: DocumentBudget
    ) -> None:
        self._pusher, self._pool = pusher, pool
        self._bodies, self._budget = bodies, budget
        self._piece_memory = PieceMemory()

    @property
    def spool(self) -> tuple[Path, DiskSpace]:
        """The directory for files without a name, and its space."""
        return self._bodies.directory, self._bodies.space

    def parse(self, request: web.Request, target: str) -> Write | Answer:
        """Parses a request; an Answer is a refusal."""
        return parse_write(
            request.method,
            target,
            content_type=request.headers.get(hdrs.CONTENT_TYPE, ""),
            content_range=request.headers.get(hdrs.CONTENT_RANGE, ""),
        )

    def lease_blob(self, digest: Digest) -> bool:
        """Protects a blob from collection, as a client relies on it.

        Returns False if the blob is being collected already: answer that it is absent.
        """
        return self._pusher.lease_blob(digest)

    async def respond(self, request: web.Request, intent: Write) -> Answer:
        """Executes a request. Raises AirsideError."""
        try:
            return await self._counted(request, intent)
        except (UploadUnknownError, TooManyError, TooLargeError, DeniedError) as exc:
            status, code = _REFUSALS[type(exc)]
            headers = (RETRY_AFTER,) if isinstance(exc, TooManyError) else ()
            return problem(status, code, exc.message, None, *headers)

    async def _counted(self, request: web.Request, intent: Write) -> Answer:
        try:
            return await self._dispatch(request, intent)
        except AirsideError as exc:
            self._pusher.failed(exc)
            raise

    def _dispatch(self, request: web.Request, intent: Write) -> Awaitable[Answer]:
        found: Awaitable[Answer]
        match intent:
            case StartUpload():
                found = self._start(request, intent)
            case MountBlob():
                found = self._mount(request, intent)
            case AppendUpload():
                found = self._append(request, intent)
            case FinishUpload():
                found = self._finish(request, intent)
            case GetUpload() | CancelUpload():
                found = self._answer_upload(intent)
            case PutManifest():
                found = self._put(request, intent)
            case DeleteManifest() | DeleteBlob():
                found = self._delete(request, intent)
        return found

    # blobs

    async def _start(self, request: web.Request, intent: StartUpload) -> Answer:
        upload = await self._begin(request, intent.name, intent.algorithm)
        if intent.digest is None:
            return upload_answer(202, intent.name, upload.id, 0)
        try:
            async with self._writing(upload):
                await self._receive(request, upload, None)
            await self._run(self._pusher.finish, upload, intent.digest)
        except BaseException:  # the client does not know the upload's ID, so it cannot resume
            self._pusher.uploads.cancel(upload)
            raise
        return blob_answer(intent.name, intent.digest)

    async def _begin(self, request: web.Request, name: Name, algorithm: str) -> Upload:
        return await self._run(self._pusher.begin, name, algorithm, _share_of(request))

    async def _mount(self, request: web.Request, intent: MountBlob) -> Answer:
        name, digest = intent.name, intent.digest
        may = _may_pull(request)
        if await self._run(self._pusher.mount, name, digest, intent.source, may):
            return blob_answer(name, digest)
        upload = await self._begin(request, name, digest.algorithm)
        return upload_answer(202, name, upload.id, 0)

    async def _append(self, request: web.Request, intent: AppendUpload) -> Answer:
        upload = self._pusher.upload(intent.name, intent.id)
        async with self._writing(upload):
            refused = await self._add(request, intent, upload)
        return refused or upload_answer(202, intent.name, upload.id, upload.offset)

    async def _finish(self, request: web.Request, intent: FinishUpload) -> Answer:
        upload = self._pusher.upload(intent.name, intent.id)
        async with self._writing(upload):
            refused = await self._add(request, intent, upload)
            if refused is None:
                await self._run(self._pusher.finish, upload, intent.digest)
        return refused or blob_answer(intent.name, intent.digest)

    async def _add(
        self, request: web.Request, intent: AppendUpload | FinishUpload, upload: Upload
    ) -> Answer | None:
        """Appends the body. Returns a refusal for a chunk that begins at a wrong offset.

        The upload stays usable after a refusal.
        """
        try:
            await self._receive(request, upload, intent.chunk)
        except UploadRangeError as exc:
            return range_refusal(intent.name, upload.id, upload.offset, exc.message)
        return None

    async def _answer_upload(self, intent: GetUpload | CancelUpload) -> Answer:
        upload = self._pusher.upload(intent.name, intent.id)
        if isinstance(intent, CancelUpload):
            await self._run(self._pusher.uploads.cancel, upload)
            return Answer(204)
        return upload_answer(204, intent.name, upload.id, upload.offset)

    @contextlib.asynccontextmanager
    async def _writing(self, upload: Upload) -> AsyncIterator[None]:
        self._pusher.uploads.claim(upload)
        try:
            yield
        finally:
            self._pusher.uploads.release(upload)

    async def _receive(self, request: web.Request, upload: Upload, chunk: Chunk | None) -> None:
        """Appends the body. Raises UploadRangeError before any byte of it is written."""
        _check_chunk(request, upload, chunk)
        if request.body_exists:
            await self._run(self._pusher.expect, upload, request.content_length or 0)
        begun = upload.offset
        pieces = UploadPieces(self._piece_memory, partial(self._write, upload))
        try:
            async for data in _body(request):
                await pieces.add(data)
        finally:  # also the bytes of a truncated body
            await pieces.close()
        if chunk is not None and upload.offset - begun != chunk.count:
            self._pusher.uploads.cancel(upload)
            raise RequestInvalidError(
                f"Content-Range says {chunk.count} bytes, the body has {upload.offset - begun}: "
                "the upload is cancelled"
            )

    def _write(self, upload: Upload, pieces: Sequence[bytes]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pool, self._pusher.uploads.write, upload, pieces)

    # manifests

    async def _put(self, request: web.Request, intent: PutManifest) -> Answer:
        origin, may = _origin(request), _may_pull(request)
        async with self._bodies.received(_body(request)) as body:

            def push() -> Answer:
                raw = body.read()
                manifest = PushedManifest(raw, intent.media_type, intent.reference, intent.tags)
                document = self._pusher.push(intent.name, manifest, origin, may)
                return manifest_answer(intent.name, document, intent.tags)

            async with self._budget.reserve(body.work_bytes()):
                return await self._run(push)

    async def _delete(self, request: web.Request, intent: DeleteManifest | DeleteBlob) -> Answer:
        origin = _origin(request)
        try:
            if isinstance(intent, DeleteBlob):
                await self._run(self._pusher.delete_blob, intent.name, intent.digest, origin)
            elif isinstance(intent.reference, Digest):
                await self._run(self._pusher.delete_manifest, intent.name, intent.reference, origin)
            else:
                await self._run(self._pusher.delete_tag, intent.name, intent.reference, origin)
        except NotFoundError as exc:
            kind = "BLOB_UNKNOWN" if isinstance(intent, DeleteBlob) else "MANIFEST_UNKNOWN"
            return problem(404, kind, exc.message)
        except ConflictError as exc:
            return problem(409, "DENIED", exc.message)
        return Answer(202)

    async def _run(self, job: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, *args)


_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    UploadUnknownError: (404, "BLOB_UPLOAD_UNKNOWN"),
    TooManyError: (429, "TOOMANYREQUESTS"),
    TooLargeError: (413, "SIZE_INVALID"),
    DeniedError: (403, "DENIED"),
    SwitchedOffError: (405, "UNSUPPORTED"),  # spec, "Deleting tags" and the like
}


def _may_pull(request: web.Request) -> Callable[[Repository], bool]:
    """Returns the predicate of the repositories that the client may pull from."""
    access = request.get(ACCESS)
    return any_repository if access is None else access.may_pull


def _share_of(request: web.Request) -> str:
    """The client whose share of the uploads counts: its account, its address; "" for loopback.

    All that a host's own programs have in common is the address 127.0.0.1: it has no share.
    """
    who, address = request.get(WHO), request.remote or ""
    if who is not None and who.name:
        return f"{who.how} {who.name}"
    return "" if is_loopback(address) else client_key(address)


def _origin(request: web.Request) -> str:
    """The user and the address of the client, for the history."""
    who, address = request.get(WHO), request.remote or ""
    return f"{who.name} from {address}" if who is not None and who.name else address


def _check_chunk(request: web.Request, upload: Upload, chunk: Chunk | None) -> None:
    """Checks that a chunk begins at the upload's end and has the length that it declares.

    Raises UploadRangeError.
    """
    if chunk is None:
        return
    if chunk.first != upload.offset:
        raise UploadRangeError(
            f"the chunk begins at byte {chunk.first}, the upload ends at {upload.offset}",
            found=upload.offset,
        )
    length = request.content_length
    if length is not None and length != chunk.count:
        raise UploadRangeError(
            f"Content-Range says {chunk.count} bytes, Content-Length {length}",
            found=upload.offset,
        )


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    """Yields the body. Raises RequestInvalidError if it is truncated or badly framed."""
    try:
        async for piece in iter_body(request, STALL_SECONDS):
            yield piece
    except (*_BROKEN, EOFError) as exc:
        raise RequestInvalidError(f"the request body ended early: {exc}") from exc
