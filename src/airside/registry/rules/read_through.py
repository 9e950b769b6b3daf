"""Read-through: serves content that only a container runtime has. Pure.

Runtimes are asked only if the catalog has no answer, so that an archive always takes precedence.
Always holds:

- A quarantined blob is not served, nor a tag that needs it: the runtime's file may be the same one,
  by hard link.
- A tag is served if at least one image of it is complete. If layers are gone
  (`discard_unpacked_layers`, garbage collection) the answer is a 404, so that the client asks the
  next host. By digest all existing content is served: the rest can be fetched elsewhere under the
  same digest.
- By default (`open`) only images that came to this node without a secret are served, and none to
  the runtime that holds it, not by digest either: kubelet checks pull secrets by name, and takes a
  pull without a secret as proof that an image is open to every pod.
- A runtime gets no answer for a tag from its own content: with pull policy Always it would never
  see an update. The policies `self` and `digests` change this.
- Lists (tags, catalog, referrers) contain our own content only: a runtime's garbage collection
  changes its content at any time, but a list that is cached or paged must be stable.

A runtime that is unavailable or slow counts as empty. The ports may block: call from a worker
thread.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from airside.core.errors import UnavailableError
from airside.oci.digest import Digest
from airside.oci.reference import Repository, is_tag
from airside.ports.content import (
    Connection,
    Only,
    RegistryView,
    RuntimeBlob,
    RuntimeContent,
    RuntimeTag,
)
from airside.registry.rules.answers import Answer, answer_document, problem
from airside.registry.rules.names import Name, candidates
from airside.registry.rules.requests import GetBlob, GetManifest

Found = TypeVar("Found")


Policy: TypeAlias = Literal["open", "true", "digests", "self", "false"]
Look: TypeAlias = Callable[[RuntimeContent, Repository, Only], Found | None]


def _none_opened(_repository: Repository) -> frozenset[Digest]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class ReadThrough:
    """The settings of read-through. `sources` returns the runtimes that are connected now.

    `sources` is called once per request that needs runtimes, from any thread. `policy`: `open`:
    what `opened` returns, the images of a repository that came without a secret; `true`: all, and
    tags to others only; `digests`: nothing by tag; `self`: tags also to the runtime itself;
    `false`: nothing.
    """

    sources: Callable[[], Sequence[RuntimeContent]] = tuple
    policy: Policy = "open"
    opened: Callable[[Repository], frozenset[Digest]] = _none_opened


class RuntimeLookup:
    """Looks up content in the runtimes, for one request. Its methods may block."""

    def __init__(
        self, view: RegistryView, read_through: ReadThrough, default_registry: str
    ) -> None:
        self._view, self._default_registry = view, default_registry
        self._policy, self._opened = read_through.policy, read_through.opened
        self._sources = () if self._policy == "false" else tuple(read_through.sources())

    def manifest(
        self, intent: GetManifest, connection: Connection | None, absent: Answer
    ) -> Answer:
        """The manifest of a runtime, else `absent` (the catalog's 404), or a 404 with a reason."""
        reference = intent.reference
        if not isinstance(reference, Digest):
            return self._by_tag(intent.name, reference, connection, absent)
        if self._sources and self._view.any_quarantined([reference]):
            return absent
        looked = self._search(
            intent.name, lambda source, where, only: source.document(where, reference, only)
        )
        shown = (found for source, found in looked if not self._is_secret(connection, source))
        document = next(shown, None)
        return absent if document is None else answer_document(document, reference)

    def _by_tag(
        self, name: Name, tag: str, connection: Connection | None, absent: Answer
    ) -> Answer:
        if self._policy == "digests" or not is_tag(tag):
            return absent
        looked = self._search(name, lambda source, where, only: source.tag(where, tag, only))
        for source, found in looked:
            why_not = self._reason_absent(found) or self._reason_hidden(connection, source)
            if not why_not:
                return answer_document(found.document, tag)
            message = f"{name} has no manifest {tag!r} here: {why_not}"
            absent = problem(404, "MANIFEST_UNKNOWN", message, {"name": str(name)})
        return absent

    def _reason_absent(self, found: RuntimeTag) -> str:
        if not found.needs:
            lacks = f"; blob {found.lacks} is missing" if found.lacks else ""
            return f"the container runtime has the tag, but no complete image of it{lacks}"
        if self._view.any_quarantined(found.needs):
            return "a blob of it is in quarantine, as its bytes are wrong"
        return ""

    def _reason_hidden(self, connection: Connection | None, source: RuntimeContent) -> str:
        if self._policy == "self" or (connection is not None and not source.is_client(connection)):
            return ""
        return "only the container runtime that asks has it, and its copy may be outdated"

    def _is_secret(self, connection: Connection | None, source: RuntimeContent) -> bool:
        """Returns True if the client may be the runtime, which must not be served by itself."""
        return self._policy == "open" and (connection is None or source.is_client(connection))

    def blob(self, intent: GetBlob, connection: Connection | None) -> RuntimeBlob | None:
        """A blob of a runtime for a client."""
        looked = self._blobs(intent)
        shown = (found for source, found in looked if not self._is_secret(connection, source))
        return next(shown, None)

    def pushed_blob(self, intent: GetBlob) -> RuntimeBlob | None:
        """A blob of a runtime for a push that lists it: it is copied, and no client gets it."""
        return next((found for _, found in self._blobs(intent)), None)

    def _blobs(self, intent: GetBlob) -> Iterator[tuple[RuntimeContent, RuntimeBlob]]:
        if not self._sources or self._view.any_quarantined([intent.digest]):
            return iter(())
        return self._search(
            intent.name, lambda source, where, only: source.blob(where, intent.digest, only)
        )

    def _search(self, name: Name, look: Look[Found]) -> Iterator[tuple[RuntimeContent, Found]]:
        """Yields each runtime with its result of `look` for the first repository that has one."""
        asked = self._asked(name) if self._sources else []
        for source in self._sources if asked else ():
            try:
                looked = (look(source, where, only) for where, only in asked)
                found = next((each for each in looked if each is not None), None)
            except UnavailableError:
                continue
            if found is not None:
                yield source, found

    def _asked(self, name: Name) -> list[tuple[Repository, Only]]:
        """The repositories to look in, each with the images of it that may be served."""
        named = dict.fromkeys(candidates(self._view, name, self._default_registry))
        if self._policy != "open":
            return [(where, None) for where in named if where.host]
        both = ((where, self._opened(where)) for where in named if where.host)
        return [(where, only) for where, only in both if only]
