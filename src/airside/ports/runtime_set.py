"""The container runtimes that are connected at this moment.

Whoever connects a runtime adds and removes it; readers ask the set for each use, since runtimes
connect and disconnect while the agent runs. Always true: a removed runtime is in no later answer.
"""

from collections.abc import Mapping
from typing import Protocol

from airside.ports.content import Puller, RuntimeContent, RuntimeCopies
from airside.ports.early_layers import EarlyUnpacking


class Connected(Protocol):
    """The parts of a `Runtime` that others use; each is None if the runtime lacks it."""

    @property
    def content(self) -> RuntimeContent | None: ...

    @property
    def copies(self) -> RuntimeCopies | None: ...

    @property
    def puller(self) -> Puller | None: ...

    @property
    def early(self) -> EarlyUnpacking | None: ...

    def wanted(self) -> frozenset[str]:
        """Returns names, IDs and digests of images that pods want."""


class RuntimeSet:
    """Connected runtimes by their socket, in the order in which they connected.

    Any thread may read; only one thread may call `add` and `remove`.
    """

    def __init__(self) -> None:
        self._runtimes: Mapping[str, Connected] = {}

    def add(self, socket: str, runtime: Connected) -> None:
        """Adds a runtime; it replaces one of the same socket."""
        self._runtimes = {**self._runtimes, socket: runtime}

    def remove(self, socket: str) -> None:
        """Removes the runtime of a socket, if there is one."""
        self._runtimes = {s: r for s, r in self._runtimes.items() if s != socket}

    def connected(self) -> list[Connected]:
        """Returns the runtimes."""
        return list(self._runtimes.values())

    def contents(self) -> list[RuntimeContent]:
        """Returns the readable contents of the runtimes, for the registry."""
        return [content for _, content in self.contents_by_socket()]

    def contents_by_socket(self) -> list[tuple[str, RuntimeContent]]:
        """Returns the same contents, each with its socket."""
        found = [(socket, runtime.content) for socket, runtime in self._runtimes.items()]
        return [(socket, content) for socket, content in found if content is not None]

    def copies(self) -> list[RuntimeCopies]:
        """Returns the runtimes' own files of blobs, for repairs."""
        found = [runtime.copies for _, runtime in self._runtimes.items()]
        return [copies for copies in found if copies is not None]

    def pullers(self) -> list[Puller]:
        """Returns the pullers of the runtimes with CRI."""
        found = [runtime.puller for _, runtime in self._runtimes.items()]
        return [puller for puller in found if puller is not None]

    def early(self) -> list[EarlyUnpacking]:
        """Returns those that may unpack layers while their archive is read."""
        found = [runtime.early for _, runtime in self._runtimes.items()]
        return [early for early in found if early is not None]
