"""The images that pods of this node want and that are nowhere here. Blocking.

Asks the connected runtimes for what pods want (sandboxes, containers, static pods), and kubelet's
records for pulls that run. A name is missing if neither the catalog nor a runtime has it. What CRI
says nothing of a pod that waits for its first image: kubelet's record of its pull does, or, where
kubelet keeps none (before 1.33), what containerd asked the registry for in vain.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from airside.catalog.view import CatalogView
from airside.containerd.kubelet_files import has_kubelet
from airside.containerd.kubelet_pulls import read_kubelet_pulls
from airside.containerd.sandbox_image import is_sandbox_name
from airside.core.errors import AirsideError
from airside.oci.reference import Reference, parse_reference
from airside.ports.content import RuntimeContent

MOST_LISTED = 20
_FRESH_SECONDS = 5.0
_PATIENCE_SECONDS = 0.5
"""A runtime that hangs must not make `status` slow: the last answer is given meanwhile."""


class Wanting(Protocol):
    """A connected runtime, as `airside.ports.content.Runtime`."""

    @property
    def content(self) -> RuntimeContent | None: ...

    def wanted(self) -> frozenset[str]: ...


Because = Literal["pod", "pull", "asked"]
Connected = Callable[[], Sequence[Wanting]]


@dataclass(frozen=True, slots=True)
class MissingImage:
    """A name, and who wants it: a pod, kubelet, which pulls it, or containerd, which asked."""

    name: Reference
    because: Because


class MissingImages:
    """Asks the runtimes in a thread of its own, at most every few seconds. Thread-safe.

    The catalog is read in the thread of the caller: an image that came is missing no longer.
    """

    def __init__(
        self,
        view: CatalogView,
        connected: Connected,
        root: Path,
        *,
        asked: Callable[[], Sequence[Reference]] = tuple,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`root`: of the host, with kubelet's directories. `asked`: for in vain, by containerd."""
        self._asked = asked
        self._patience_seconds = patience_seconds
        self._view, self._connected, self._root = view, connected, root
        self._lock = threading.Lock()
        self._found: tuple[MissingImage, ...] = ()
        self._found_at = -_FRESH_SECONDS
        self._running: threading.Event | None = None

    def report(self) -> dict[str, Any]:
        """Returns the number of missing images, and the first of them, for `status`."""
        found = self.current()
        items = [
            {"reference": str(each.name), "because": each.because} for each in found[:MOST_LISTED]
        ]
        return {"count": len(found), "items": items}

    def current(self) -> tuple[MissingImage, ...]:
        """Returns the images missing a few seconds ago; of a runtime that hangs, as last known."""
        return tuple(each for each in self._lacking() if not _is_held(self._view, each.name))

    def _lacking(self) -> tuple[MissingImage, ...]:
        if not self._connected():
            return ()
        with self._lock:
            if time.monotonic() - self._found_at < _FRESH_SECONDS:
                return self._found
            done = self._running
            if done is None:
                done = self._running = threading.Event()
                threading.Thread(
                    target=self._look, args=(done,), name="missing-images", daemon=True
                ).start()
        done.wait(self._patience_seconds)
        with self._lock:
            return self._found

    def _look(self, done: threading.Event) -> None:
        try:
            found = tuple(find_lacking(self._connected(), self._root, self._asked()))
            with self._lock:
                self._found = found
        finally:
            with self._lock:
                self._found_at, self._running = time.monotonic(), None
            done.set()


def find_lacking(
    runtimes: Sequence[Wanting], root: Path, asked: Sequence[Reference] = ()
) -> Iterator[MissingImage]:
    """Yields the images that pods want and that no runtime has, by name."""
    pulls = read_kubelet_pulls(root)
    is_kubelet_here = has_kubelet(root)
    names = [*_wanted(runtimes)]
    if not is_kubelet_here:
        names = [name for name in names if not is_sandbox_name(str(name))]  # CRI's setting alone
    wanted: dict[Reference, Because] = {}
    if is_kubelet_here and not pulls.is_kept:
        wanted |= dict.fromkeys(asked, "asked")
    wanted |= dict.fromkeys(names, "pod")
    wanted |= dict.fromkeys(map(_full, pulls.intents), "pull")
    contents = [each.content for each in runtimes if each.content is not None]
    for name, because in sorted(wanted.items(), key=lambda item: str(item[0])):
        if not any(_has(each, name) for each in contents):
            yield MissingImage(name, because)


def _full(name: Reference) -> Reference:
    return name if name.tag or name.digest else Reference(name.repository, "latest")


def _wanted(runtimes: Iterable[Wanting]) -> Iterator[Reference]:
    for runtime in runtimes:
        try:
            names = runtime.wanted()
        except AirsideError:
            continue
        for text in names:
            if ":" not in text or text.startswith(("sha256:", "sha512:")):
                continue  # an image ID, or the digest of a document that is fetched
            try:
                yield _full(parse_reference(text))
            except AirsideError:
                continue


def _is_held(view: CatalogView, name: Reference) -> bool:
    if name.digest is not None:
        return view.document_by_digest(name.repository, name.digest) is not None
    return view.lookup.tag(name) is not None


def _has(content: RuntimeContent, name: Reference) -> bool:
    """Returns True if a runtime has it; also if it cannot say so now."""
    try:
        if name.digest is not None:
            return content.document(name.repository, name.digest) is not None
        return content.tag(name.repository, name.tag) is not None
    except AirsideError:
        return True
