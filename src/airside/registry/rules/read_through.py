"""What only a container runtime holds: which of it the registry serves, and to whom. Pure.

Asked only where the catalog has no answer, so that a drop is never overruled. Always holds:

- A blob that is in our quarantine is not served, nor a tag that needs it: the runtime's file may be
  the same one, by hard link.
- A tag is served if one image of it is whole. Where layers are gone (`discard_unpacked_layers`,
  garbage collection) it is a 404, so that whoever pulls asks the next. By digest everything is
  served that is there: what is not, can be had elsewhere under the same digest.
- A runtime is not told where a tag points by what it holds itself: with pull policy Always it would
  never see an update. The policies `self` and `digests` say otherwise.
- Lists (tags, catalog, referrers) are of our own: what a runtime holds comes and goes with its
  garbage collection, and a list that is cached or paged must not.

A runtime that is away or slow has nothing. The ports may block: this belongs into a worker thread.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from airside.core.errors import UnavailableError
from airside.oci.digest import Digest
from airside.oci.reference import Repository, is_tag
from airside.ports.content import Connection, RegistryView, RuntimeBlob, RuntimeContent, RuntimeTag
from airside.registry.rules.answers import Answer, answer_document, problem
from airside.registry.rules.names import Name, candidates
from airside.registry.rules.requests import GetBlob, GetManifest

Found = TypeVar("Found")


Policy: TypeAlias = Literal["true", "digests", "self", "false"]


@dataclass(frozen=True, slots=True)
class ReadThrough:
    """What is read through. `sources` gives the runtimes that are connected now.

    It is called once for each request that asks for them, from any thread.
    `policy`: `true`; `digests`: nothing by tag; `self`: tags to the runtime itself too; `false`.
    """

    sources: Callable[[], Sequence[RuntimeContent]] = tuple
    policy: Policy = "true"


class RuntimeLookup:
    """Asks the runtimes for one request. Its methods may block."""

    def __init__(
        self, view: RegistryView, read_through: ReadThrough, default_registry: str
    ) -> None:
        self._view, self._default_registry = view, default_registry
        self._policy = read_through.policy
        self._sources = () if self._policy == "false" else tuple(read_through.sources())

    def manifest(
        self, intent: GetManifest, connection: Connection | None, absent: Answer
    ) -> Answer:
        """The answer, where the catalog's is `absent`. Also a 404 that says why, if we know."""
        reference = intent.reference
        if not isinstance(reference, Digest):
            return self._by_tag(intent.name, reference, connection, absent)
        if self._sources and self._view.any_quarantined([reference]):
            return absent
        looked = self._search(intent.name, lambda source, where: source.document(where, reference))
        document = next((found for _, found in looked), None)
        return absent if document is None else answer_document(document, reference)

    def _by_tag(
        self, name: Name, tag: str, connection: Connection | None, absent: Answer
    ) -> Answer:
        if self._policy == "digests" or not is_tag(tag):
            return absent
        for source, found in self._search(name, lambda source, where: source.tag(where, tag)):
            why_not = self._reason_absent(found) or self._reason_hidden(connection, source)
            if not why_not:
                return answer_document(found.document, tag)
            message = f"{name} has no manifest {tag!r} here: {why_not}"
            absent = problem(404, "MANIFEST_UNKNOWN", message, {"name": str(name)})
        return absent

    def _reason_absent(self, found: RuntimeTag) -> str:
        if not found.needs:
            lacks = f"; blob {found.lacks} is not there" if found.lacks else ""
            return f"the container runtime has it, but no whole image of it{lacks}"
        if self._view.any_quarantined(found.needs):
            return "bytes of it were found wrong"
        return ""

    def _reason_hidden(self, connection: Connection | None, source: RuntimeContent) -> str:
        if self._policy == "self" or (connection is not None and not source.is_client(connection)):
            return ""
        return "only the container runtime that asks has it, and it may be outdated"

    def blob(self, intent: GetBlob) -> RuntimeBlob | None:
        if not self._sources or self._view.any_quarantined([intent.digest]):
            return None
        looked = self._search(intent.name, lambda source, where: source.blob(where, intent.digest))
        return next((found for _, found in looked), None)

    def _search(
        self, name: Name, look: Callable[[RuntimeContent, Repository], Found | None]
    ) -> Iterator[tuple[RuntimeContent, Found]]:
        """What each runtime has; of each the first repository that the name may mean."""
        asked = dict.fromkeys(candidates(self._view, name, self._default_registry))
        for source in self._sources:
            try:
                looked = (look(source, where) for where in asked if where.host)
                found = next((each for each in looked if each is not None), None)
            except UnavailableError:
                continue
            if found is not None:
                yield source, found
