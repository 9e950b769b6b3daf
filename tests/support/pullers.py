"""Runtimes that pull, without any: in memory, and a CRI server that answers as it is told."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from airside.containerd.proto import cri_pb2
from airside.core.errors import ContainerdError, StoppedError
from support.waiting import LIMIT_SECONDS


class FakePuller:
    """Has `images` (name → image ID) and can pull everything but what is in `failures`.

    `held`: names whose pull lasts until it is stopped or the name is taken out.
    """

    def __init__(self, runtime: str = "fake") -> None:
        self.runtime = runtime
        self.is_available = True
        self.images: dict[str, str] = {}
        self.failures: dict[str, Exception] = {}
        self.held: set[str] = set()
        self.asked: list[str] = []
        self.pulls: list[str] = []

    def has(self, name: str, *, stop: Callable[[], bool]) -> bool:
        del stop
        if not self.is_available:
            raise ContainerdError("containerd: it is away", status="UNAVAILABLE")
        self.asked.append(name)
        return name in self.images

    def pull(self, name: str, *, stop: Callable[[], bool]) -> str:
        self.pulls.append(name)
        deadline = time.monotonic() + LIMIT_SECONDS
        while name in self.held:
            if stop():
                raise StoppedError("the pull was stopped")
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if name in self.failures:
            raise self.failures[name]
        return self.images.setdefault(name, f"sha256:{len(self.images):064}")


class FakeCri:
    """A gRPC server on a socket that speaks the part of CRI that pulls.

    `failures`: name → (status, what it says). `held`: pulls that last until they are cancelled.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.images: dict[str, str] = {}
        self.failures: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.held: set[str] = set()
        self.cancelled = threading.Event()

    def version(self, _request: object, _context: object) -> cri_pb2.VersionResponse:
        return cri_pb2.VersionResponse(runtime_name="containerd", runtime_version="v1.6.20")

    def status(
        self, request: cri_pb2.ImageStatusRequest, _context: object
    ) -> cri_pb2.ImageStatusResponse:
        found = self.images.get(request.image.image)
        if found is None:
            return cri_pb2.ImageStatusResponse()
        return cri_pb2.ImageStatusResponse(image=cri_pb2.Image(id=found))

    def pull(
        self, request: cri_pb2.PullImageRequest, context: grpc.ServicerContext
    ) -> cri_pb2.PullImageResponse:
        name = request.image.image
        if name in self.held:
            over = threading.Event()
            context.add_callback(over.set)
            assert over.wait(LIMIT_SECONDS)
            self.cancelled.set()
            return cri_pb2.PullImageResponse()
        if name in self.failures:
            context.abort(*self.failures[name])
        image_id = self.images.setdefault(name, f"sha256:{len(self.images):064}")
        return cri_pb2.PullImageResponse(image_ref=image_id)


@contextlib.contextmanager
def cri_server(socket: Path) -> Iterator[FakeCri]:
    """Serve a CRI; at the end no thread of it is left."""
    cri = FakeCri(socket)
    methods = {
        "runtime.v1.RuntimeService": {"Version": (cri.version, cri_pb2.VersionRequest)},
        "runtime.v1.ImageService": {
            "ImageStatus": (cri.status, cri_pb2.ImageStatusRequest),
            "PullImage": (cri.pull, cri_pb2.PullImageRequest),
        },
    }
    with ThreadPoolExecutor(4, "cri") as pool:
        server = grpc.server(pool)
        for service, handlers in methods.items():
            made = {
                name: grpc.unary_unary_rpc_method_handler(
                    call, request.FromString, lambda answer: answer.SerializeToString()
                )
                for name, (call, request) in handlers.items()
            }
            handler = grpc.method_handlers_generic_handler(service, made)
            server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            yield cri
        finally:
            server.stop(None).wait(LIMIT_SECONDS)
