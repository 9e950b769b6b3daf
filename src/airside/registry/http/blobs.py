"""Answers requests for blobs: from the store, a container runtime or an upstream."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from aiohttp import web

from airside.core.disk_space import DiskSpace
from airside.core.errors import StorageFullError, StoreError
from airside.oci.digest import Digest
from airside.ports.content import Connection, RegistryView
from airside.registry.http.blob_guard import Trust
from airside.registry.http.blob_response import BlobEndsError, BlobResponse, Gate, Transfers
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.receive import Receiver
from airside.registry.http.requests import conditions_of, connection_of, target_of
from airside.registry.http.responses import response_of
from airside.registry.http.served_content import ServedContent
from airside.registry.proxy.fetch import Fetch
from airside.registry.rules.answers import Answer, Part, with_reason
from airside.registry.rules.lookup import absent_blob, damaged_blob, find_blob
from airside.registry.rules.ranges import Conditions, plan_blob
from airside.registry.rules.read_through import RuntimeLookup
from airside.registry.rules.requests import GetBlob
from airside.store.scrub_results import is_media_error


class BlobRoute:
    """The route of `/v2/<name>/blobs/<digest>` for GET and HEAD."""

    def __init__(
        self, content: ServedContent, reads: DeadlinePool, receiver: Receiver | None
    ) -> None:
        self._content, self._reads, self._receiver = content, reads, receiver
        self._spool = receiver.spool if receiver else (Path(tempfile.gettempdir()), DiskSpace(0))
        self._transfers = Transfers()

    def stop(self) -> None:
        """Ends all running transfers; later ones fail at once."""
        self._transfers.stop()

    async def respond(self, request: web.Request, intent: GetBlob) -> web.StreamResponse:
        method, conditions = request.method, conditions_of(request)
        runtimes, view = self._content.runtimes_for(request), self._content.view_for(request)
        connection = connection_of(request)

        def read() -> Answer | _Opened:
            if method == "HEAD" and self._receiver and not self._receiver.lease_blob(intent.digest):
                return absent_blob(view, intent, self._content.default_registry)
            size, open_blob, trust = self._find_blob(view, intent, runtimes, connection)
            if isinstance(size, Answer):
                return size
            if trust is Trust.WRONG:
                absent = absent_blob(view, intent, self._content.default_registry)
                return damaged_blob(absent, intent, conditions)
            planned = plan_blob(method, intent.digest, size, conditions)
            if isinstance(planned, Answer):
                return planned
            wanted = method == "GET" and planned.count > 0
            return _Opened(planned, open_blob() if wanted else None, trust)

        found = await self._reads.run(read, close=_close_opened)
        upstream = self._content.upstream_for(request, target_of(request))
        if upstream is not None and isinstance(found, Answer) and found.status == 404:
            fetched = await upstream[0].find_blob(intent, whole=method == "GET")
            if isinstance(fetched, str):
                return response_of(with_reason(found, fetched))
            planned = await self._plan_fetched(fetched, intent, method, conditions)
            if planned is not None:
                return planned
            found = await self._reads.run(read, close=_close_opened)
        if isinstance(found, Answer):
            return response_of(found)
        return BlobResponse(
            found.part,
            found.file,
            self._reads.pool,
            self._transfers,
            self._gate(intent, found),
            self._on_failure(intent.digest),
        )

    def _on_failure(self, digest: Digest) -> Callable[[OSError], None]:
        """Has a blob repaired whose file could not be read to its end."""

        def failed(exc: OSError) -> None:
            guard = self._content.guard
            if guard is not None and (isinstance(exc, BlobEndsError) or is_media_error(exc.errno)):
                guard.report(digest)

        return failed

    def _gate(self, intent: GetBlob, found: "_Opened") -> Gate | None:
        """Starts to hash a file that was not verified lately."""
        guard = self._content.guard
        if guard is None or found.file is None or found.trust is not Trust.UNVERIFIED:
            return None
        return guard.watch(intent.digest, found.file, found.part.start + found.part.count)

    async def send_large(self, found: Answer) -> web.StreamResponse:
        """The response with the body of an answer, from a file that is gone once it is sent."""
        file = await self._reads.run(self._written, found.body, close=_close_written)
        if file is None:
            return response_of(found)
        part = Part(found.status, found.headers, 0, len(found.body))
        return BlobResponse(part, file, self._reads.pool, self._transfers)

    def _written(self, body: bytes) -> BinaryIO | None:
        """Returns a file with these bytes; None if the disk is full."""
        directory, space = self._spool
        try:
            with ExitStack() as stack:
                file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
                with space.writing(directory, len(body)):
                    file.write(body)
                    file.flush()
                stack.pop_all()
        except (OSError, StorageFullError):
            return None
        return cast("BinaryIO", file)

    async def _plan_fetched(
        self, fetched: Fetch | int, intent: GetBlob, method: str, conditions: Conditions
    ) -> web.StreamResponse | None:
        """The response from a fetch or a size; None if the store has the blob by now."""
        is_here = fetched.is_stored if isinstance(fetched, Fetch) else method == "GET"
        size = fetched.size_bytes if isinstance(fetched, Fetch) else fetched
        if is_here or size is None:
            return None
        part = plan_blob(method, intent.digest, size, conditions)
        if isinstance(part, Answer):
            return response_of(part)
        if not isinstance(fetched, Fetch) or method == "HEAD" or not part.count:
            return BlobResponse(part, None, self._reads.pool, self._transfers)
        try:
            file = await self._reads.run(fetched.open, close=_close)
        except StoreError:  # the fetch has ended: stored or failed
            await fetched.until_stored()
            return None
        return BlobResponse(part, file, self._reads.pool, self._transfers, fetched)

    def _find_blob(
        self,
        view: RegistryView,
        intent: GetBlob,
        runtimes: RuntimeLookup,
        connection: Connection | None,
    ) -> tuple[int | Answer, Callable[[], BinaryIO], Trust]:
        """The size of a blob or the 404, and a function to open it: from store or runtime."""
        size = find_blob(view, self._content.store.stat, intent, self._content.default_registry)
        trust, guard = Trust.VERIFIED, self._content.guard
        if isinstance(size, Answer):
            found = runtimes.blob(intent, connection)
            if found is not None:
                return found.size_bytes, found.open, trust
        elif guard is not None:
            trust = guard.look(intent.digest, size)
        return size, lambda: self._content.store.open(intent.digest), trust


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is sent of a blob; no file for the headers alone."""

    part: Part
    file: BinaryIO | None
    trust: Trust


def _close_opened(found: Answer | _Opened) -> None:
    if not isinstance(found, Answer) and found.file is not None:
        found.file.close()


def _close_written(file: BinaryIO | None) -> None:
    if file is not None:
        file.close()


def _close(file: BinaryIO) -> None:
    file.close()
