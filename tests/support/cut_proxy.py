"""A TCP proxy on loopback that cuts its connections when it is told to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 64 * 1024


class CutProxy:
    """Passes bytes on to `target` (HOST:PORT). `passed`: bytes from clients so far."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cut_after: Callable[[bytes], bool] | None = None
        """Given the bytes of a client; True: every connection is cut, once."""
        self.is_down = False
        """True: a new connection is closed at once."""
        self.cuts = self.passed = 0
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, name="cut-proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        self._thread.join()

    def go_down_after(self, size_bytes: int) -> None:
        """Cuts every connection when clients have sent more than this from now on, and is down."""
        begun = self.passed

        def goes_down(_piece: bytes) -> bool:
            self.is_down = self.passed - begun > size_bytes
            return self.is_down

        self.cut_after = goes_down

    def cut(self) -> None:
        """Ends every connection."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            try:
                behind = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, behind}
            left = [2]
            for ends in ((client, behind), (behind, client)):
                threading.Thread(target=self._pump, args=(*ends, client, left), daemon=True).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, client: socket.socket, left: list[int]
    ) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                if source is client:
                    self.passed += len(piece)
                    if self.cut_after is not None and self.cut_after(piece):
                        self.cut_after = None
                        self.cuts += 1
                        self.cut()
                        break
                target.sendall(piece)
        with self._lock:
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            left[0] -= 1
            if not left[0]:
                for each in (source, target):
                    self._open.discard(each)
                    each.close()


@contextmanager
def cut_proxy(target: str) -> Iterator[CutProxy]:
    proxy = CutProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
