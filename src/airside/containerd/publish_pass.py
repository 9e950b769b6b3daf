"""One pass of the publisher over one runtime: its working state and its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airside.catalog.publications import PublicationRow
from airside.containerd.desired_state import DesiredImage
from airside.containerd.publication_rows import names_of
from airside.ports.content import Runtime
from airside.ports.publication import NamedImage

Stop = Callable[[], bool]


@dataclass(slots=True)
class Pass:
    """The result of one pass. `again_seconds` is the time until more work is due."""

    published: int = 0
    withdrawn: int = 0
    failed: int = 0
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
    held: frozenset[str] | None
    """The blobs that the runtime has; None if it was not asked."""
    found: Pass
    stop: Stop
    due: list[tuple[DesiredImage, bool]] = field(default_factory=list)
    """The images to publish, each with a flag: unpack it."""
    protected: set[str] = field(default_factory=set)
    """Names of an earlier version that stay because the newer one cannot be published."""

    def own(self, desired: DesiredImage) -> dict[str, Mapping[str, str]]:
        return {name: self.labels[name] for name in desired.names}

    def protect(self, desired: DesiredImage) -> None:
        before = self.rows.get(desired.tag.reference)
        self.protected.update(names_of(before) if before is not None else ())

    def is_whole(self, desired: DesiredImage) -> bool:
        held = self.held
        if held is None:
            return True
        return all(str(d.digest) in held for d in desired.content.blobs if d.is_distributable)

    def is_as_wanted(self, desired: DesiredImage, own: Mapping[str, Mapping[str, str]]) -> bool:
        target = desired.content.target.digest
        return self.is_whole(desired) and all(
            name in self.actual and self.actual[name].has(target, own[name])
            for name in desired.names
        )

    def moved(self, desired: DesiredImage) -> list[str]:
        """Returns the names that point elsewhere."""
        target = desired.content.target.digest
        return [n for n in desired.names if n in self.actual and self.actual[n].target != target]
