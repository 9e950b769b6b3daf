"""One pass of the publisher over one runtime: its working state and its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airside.catalog.publications import PublicationRow
from airside.containerd.desired_state import DesiredImage
from airside.containerd.publication_rows import names_of
from airside.containerd.sandbox_image import wants
from airside.ports.content import OtherAgent, Runtime
from airside.ports.publication import NamedImage

Stop = Callable[[], bool]


@dataclass(slots=True)
class Pass:
    """The result of one pass. `again_seconds` is the time until more work is due."""

    published: int = 0
    withdrawn: int = 0
    failed: int = 0
    waiting: int = 0
    """Images that the runtime lacks until their back-off has ended."""
    in_use: int = 0
    """Names and images that are withdrawn when their last container is deleted."""
    foreign: int = 0
    """The names that another catalog published, and that are kept."""
    other: OtherAgent | None = None
    """The agent that publishes to the runtime instead of us: then nothing was done."""
    again_seconds: float | None = None
    rows: list[PublicationRow] = field(default_factory=list)

    def due(self, seconds: float) -> None:
        found = self.again_seconds
        self.again_seconds = seconds if found is None else min(found, seconds)


@dataclass(slots=True)
class PassState:
    """The working state of one pass."""

    runtime: Runtime
    rows: Mapping[str, PublicationRow]
    actual: Mapping[str, NamedImage]
    labels: Mapping[str, Mapping[str, str]]
    is_whole: Callable[[DesiredImage], bool]
    """Returns False if the runtime was asked for its blobs and lacks one of the image."""
    found: Pass
    stop: Stop
    pods_started: bool = False
    """True if a pod began a moment ago, or waits for its first container: it may want any image."""
    due: list[tuple[DesiredImage, bool]] = field(default_factory=list)
    """The images to publish, each with a flag: unpack it."""
    restored: set[str] = field(default_factory=set)
    """The references of those that somebody removed or moved."""
    protected: set[str] = field(default_factory=set)
    """Names of an earlier version that stay because the newer one cannot be published."""
    protected_ids: set[str] = field(default_factory=set)
    """The IDs of their images."""
    _asked_pods: bool = False
    _wanted: frozenset[str] | None = None
    _by_digest: dict[str, list[PublicationRow]] = field(default_factory=dict)

    def is_wanted(self, desired: DesiredImage) -> bool:
        """Returns True if a pod wants the image, so that its restore cannot wait."""
        if not self.pods_started and not self._asked_pods:
            self.pods_started, self._asked_pods = self.runtime.has_starting_pod(), True
        return self.pods_started or wants(self.wanted(), desired.names, str(desired.content.config))

    def wanted(self) -> frozenset[str]:
        """Returns what pods want; the runtime is asked once in a pass."""
        if self._wanted is None:
            self._wanted = self.runtime.wanted()
        return self._wanted

    def own(self, desired: DesiredImage) -> dict[str, Mapping[str, str]]:
        return {name: self.labels[name] for name in desired.names}

    def protect(self, row: PublicationRow | None) -> None:
        """Keeps what a row says is in the runtime."""
        if row is not None:
            self.protected.update(names_of(row))
            self.protected_ids.add(str(row.detail.get("image_id", "")))

    def is_as_wanted(self, desired: DesiredImage, own: Mapping[str, Mapping[str, str]]) -> bool:
        is_named = all(
            name in self.actual and self.actual[name].has(desired.target_of(name), own[name])
            for name in desired.names
        )
        return is_named and self.is_whole(desired)

    def is_there(self, desired: DesiredImage) -> bool:
        """Returns True if the runtime has all names, whatever their labels, and the blobs."""
        missing = any(name not in self.actual for name in desired.names)
        return not missing and not self.moved(desired) and self.is_whole(desired)

    def moved(self, desired: DesiredImage) -> list[str]:
        """Returns the names that point elsewhere."""
        there = [name for name in desired.names if name in self.actual]
        return [name for name in there if self.actual[name].target != desired.target_of(name)]

    def are_stripped(self, desired: DesiredImage, row: PublicationRow) -> bool:
        """Returns True if somebody took our labels from a name; else ours have changed."""
        there = [self.actual[name] for name in desired.names if name in self.actual]
        was_pinned = bool(row.detail.get("pinned"))
        return any(not n.is_of_airside or (was_pinned and not n.pinned) for n in there)

    def published_as_tag(self, desired: DesiredImage) -> PublicationRow | None:
        """Returns the row of a tag that was published with this digest and has moved on."""
        if desired.tag.tag:
            return None
        if not self._by_digest:
            for row in self.rows.values():
                self._by_digest.setdefault(row.digest, []).append(row)
        path = desired.tag.reference.partition("@")[0]
        for row in self._by_digest.get(desired.tag.digest, ()):
            if row.state == "published" and row.reference.rpartition(":")[0] == path:
                return row
        return None
