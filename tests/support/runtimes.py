"""`airside.ports.content.RuntimeContent` in memory, and a containerd that is none: its calls, no
more."""

import io
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from airside.containerd.proto import content_pb2, images_pb2, types_pb2
from airside.containerd.services.content import CONTENT
from airside.containerd.services.images import IMAGES
from airside.core.errors import ContainerdError, ManifestInvalidError, NotFoundError
from airside.oci.digest import Digest, digest_of
from airside.oci.merge import attested_by
from airside.oci.model import Document, Index, Manifest, parse_bare_document
from airside.oci.reference import Repository, parse_reference
from airside.ports.content import Connection, Only, RuntimeBlob, RuntimeTag, StoredDocument
from support.waiting import LIMIT_SECONDS

CHUNK_BYTES = 100_000
HANG_SECONDS = 30.0


@dataclass
class Held:
    """Blobs, their labels, and image names with their targets: what a test puts and takes away."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    labels: dict[Digest, dict[str, str]] = field(default_factory=dict)
    images: dict[str, Digest] = field(default_factory=dict)

    def add(self, raw: bytes, labels: Mapping[str, str] | None = None) -> Digest:
        digest = digest_of(raw)
        self.blobs[digest] = raw
        self.labels[digest] = dict(labels or {})
        return digest

    def drop(self, digest: Digest) -> None:
        del self.blobs[digest], self.labels[digest]


class MemoryRuntime:
    """What `held` means. `asking` says that the runtime is the client of every connection.

    `error` is raised by every question. `files` are all that were opened. `limit_bytes` is that
    of a document.
    """

    def __init__(self, held: Held, limit_bytes: int = 4 << 20) -> None:
        self.held, self.limit_bytes = held, limit_bytes
        self.asking = False
        self.error: ContainerdError | None = None
        self.files: list[BinaryIO] = []
        self.questions = 0

    def tag(self, repository: Repository, tag: str, only: Only = None) -> RuntimeTag | None:
        self._question()
        digest = self.held.images.get(f"{repository}:{tag}")
        if digest is not None and not self._is_among(digest, only):
            return None
        document = self._parsed(digest) if digest is not None else None
        if digest is None or document is None:
            return None
        images = [(digest, document)]
        if isinstance(document.content, Index):
            children = [d.digest for d in document.content.manifests if attested_by(d) is None]
            images = [(d, found) for d in children if (found := self._parsed(d)) is not None]
        stored = StoredDocument(digest, document.media_type, document.raw)
        lacks = None
        for top, image in images:
            assert isinstance(image.content, Manifest)
            lost = [b.digest for b in image.content.blobs if b.digest not in self.held.blobs]
            if not lost:
                blobs = (b.digest for b in image.content.blobs)
                return RuntimeTag(stored, tuple(dict.fromkeys((digest, top, *blobs))))
            lacks = lost[0]
        return RuntimeTag(stored, (), lacks)

    def document(
        self, repository: Repository, digest: Digest, only: Only = None
    ) -> StoredDocument | None:
        self._question()
        found = self._parsed(digest) if digest in self._of(repository, only) else None
        return StoredDocument(digest, found.media_type, found.raw) if found is not None else None

    def blob(self, repository: Repository, digest: Digest, only: Only = None) -> RuntimeBlob | None:
        self._question()
        raw = self.held.blobs.get(digest) if digest in self._of(repository, only) else None
        return None if raw is None else RuntimeBlob(len(raw), lambda: self._open(digest))

    def is_client(self, _connection: Connection) -> bool:
        return self.asking

    def _question(self) -> None:
        self.questions += 1
        if self.error is not None:
            raise self.error

    def _open(self, digest: Digest) -> BinaryIO:
        if digest not in self.held.blobs:
            raise NotFoundError("it went")
        self.files.append(io.BytesIO(self.held.blobs[digest]))
        return self.files[-1]

    def _parsed(self, digest: Digest) -> Document | None:
        raw = self.held.blobs.get(digest, b"")
        try:
            whole = len(raw) <= self.limit_bytes and digest_of(raw) == digest
            return parse_bare_document(raw, "test") if whole else None
        except ManifestInvalidError:
            return None

    def _is_among(self, digest: Digest, only: Only) -> bool:
        if only is None or digest in only:
            return True
        document = self._parsed(digest)
        below = () if document is None else document.children
        if document is not None and isinstance(document.content, Manifest):
            return document.content.config.digest in only
        return any(self._is_among(child.digest, only) for child in below)

    def _of(self, repository: Repository, only: Only) -> set[Digest]:
        key = f"containerd.io/distribution.source.{repository.host}"
        labels = self.held.labels.items() if only is None else ()
        found = {d for d, of in labels if repository.path in of.get(key, "").split(",")}
        names = self.held.images.items()
        tops = [d for name, d in names if parse_reference(name).repository == repository]
        tops = [top for top in tops if self._is_among(top, only)]
        while tops:
            found.add(top := tops.pop())
            document = self._parsed(top)
            tops += [c.digest for c in document.children] if document is not None else []
        return found


class FakeContainerd:
    """The services that are read through, over a real socket, of what `held` has.

    `calls` are the methods that were called. With `directory`, blobs lie there too. While
    `answers` is cleared, none is answered.
    """

    def __init__(self, held: Held, socket: Path, directory: Path | None = None) -> None:
        self.held, self.socket, self.directory = held, socket, directory
        self.calls: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    @contextmanager
    def serving(self) -> Iterator[None]:
        with ThreadPoolExecutor(4, "fake-containerd") as pool:
            server = grpc.server(pool)
            server.add_generic_rpc_handlers(
                [
                    self._service(IMAGES, images_pb2, Get=self._get, List=self._list),
                    self._service(CONTENT, content_pb2, Info=self._info),
                    self._service(CONTENT, content_pb2, Read=self._read),
                ]
            )
            server.add_insecure_port(f"unix:{self.socket}")
            server.start()
            try:
                yield
            finally:
                self.answers.set()
                server.stop(None).wait(LIMIT_SECONDS)

    def write_blobs(self) -> None:
        """Bring the directory to what is held."""
        assert self.directory is not None
        place = self.directory / "blobs" / "sha256"
        place.mkdir(parents=True, exist_ok=True)
        for path in place.iterdir():
            path.unlink()
        for digest, raw in self.held.blobs.items():
            (place / digest.hex).write_bytes(raw)

    def _service(self, service: str, messages: Any, **methods: Any) -> grpc.GenericRpcHandler:
        requests = {
            "Get": "GetImageRequest",
            "List": "ListImagesRequest",
            "Info": "InfoRequest",
            "Read": "ReadContentRequest",
        }

        def handler(name: str, method: Any) -> Any:
            def called(request: Any, context: grpc.ServicerContext) -> Any:
                self.calls.append(name)
                self.answers.wait(HANG_SECONDS)
                assert ("containerd-namespace", "k8s.io") in context.invocation_metadata()
                return method(request, context)

            make = (
                grpc.unary_stream_rpc_method_handler
                if name == "Read"
                else grpc.unary_unary_rpc_method_handler
            )
            parse = getattr(messages, requests[name]).FromString
            return make(called, parse, lambda message: message.SerializeToString())

        return grpc.method_handlers_generic_handler(
            service, {name: handler(name, method) for name, method in methods.items()}
        )

    def _image(self, name: str) -> images_pb2.Image:
        digest = self.held.images[name]
        target = types_pb2.Descriptor(
            media_type=parse_bare_document(self.held.blobs[digest], name).media_type,
            digest=str(digest),
            size=len(self.held.blobs[digest]),
        )
        return images_pb2.Image(name=name, target=target)

    def _get(self, request: Any, context: grpc.ServicerContext) -> images_pb2.GetImageResponse:
        if request.name not in self.held.images:
            context.abort(grpc.StatusCode.NOT_FOUND, f'image "{request.name}": not found')
        return images_pb2.GetImageResponse(image=self._image(request.name))

    def _list(self, request: Any, _context: object) -> images_pb2.ListImagesResponse:
        assert not request.filters
        return images_pb2.ListImagesResponse(images=[self._image(n) for n in self.held.images])

    def _blob(self, text: str, context: grpc.ServicerContext) -> tuple[Digest, bytes]:
        digest = Digest(*text.split(":"))
        if digest not in self.held.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"content {text}: not found")
        return digest, self.held.blobs[digest]

    def _info(self, request: Any, context: grpc.ServicerContext) -> content_pb2.InfoResponse:
        digest, raw = self._blob(request.digest, context)
        info = content_pb2.Info(digest=str(digest), size=len(raw), labels=self.held.labels[digest])
        return content_pb2.InfoResponse(info=info)

    def _read(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[content_pb2.ReadContentResponse]:
        _, raw = self._blob(request.digest, context)
        end = request.offset + request.size if request.size else len(raw)
        for start in range(request.offset, end, CHUNK_BYTES):
            data = raw[start : min(start + CHUNK_BYTES, end)]
            yield content_pb2.ReadContentResponse(offset=start, data=data)
