"""Makes the rows that record what became of each tag in a runtime."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from airside.catalog.publications import PublicationRow
from airside.catalog.tag_states import TagState
from airside.containerd.desired_state import DesiredImage
from airside.ports.outcome import Published
from airside.ports.publication import Unwanted

_SAME_SECONDS = 5.0
"""Two computations of one planned time differ by less."""


@dataclass(frozen=True, slots=True)
class PublicationRows:
    """Makes the rows of one runtime. Thread-safe."""

    runtime: str
    knows_pins: bool = True

    def row(
        self,
        tag: TagState,
        state: str,
        desired: DesiredImage | None = None,
        *,
        reason: str = "",
        next_try_at: float | None = None,
        before: PublicationRow | None = None,
    ) -> PublicationRow:
        detail: dict[str, object] = dict(before.detail) if before is not None else {}
        detail["sequence"] = tag.sequence
        detail["reason"] = reason
        detail["next_try_at"] = next_try_at
        detail["pinned"] = state == "published" and tag.backed and self.knows_pins
        if desired is not None:
            detail["names"] = list(desired.names)
            detail["manifest"] = str(desired.content.manifest.digest)
            detail["image_id"] = str(desired.content.config)
            detail["note"] = desired.content.note
        return PublicationRow(self.runtime, tag.reference, tag.digest, state, detail)

    def published(
        self,
        desired: DesiredImage,
        done: Published,
        seconds: float,
        before: PublicationRow | None,
        *,
        is_restore: bool,
    ) -> PublicationRow:
        """Returns the row of an image that was published now, perhaps again (`is_restore`)."""
        row = self.row(desired.tag, "published", desired)
        restores = before.restores if before and before.digest == row.digest else 0
        made = {
            "adopted": dict(done.ways),
            "unpacked": done.unpacked,
            "not_unpacked": done.not_unpacked,
            "chain": done.chain,
            "seconds": round(seconds, 3),
            "restores": restores + is_restore,
        }
        return replace(row, detail={**row.detail, **made})

    def unwanted(
        self, tag: TagState, unwanted: Unwanted, before: PublicationRow | None
    ) -> PublicationRow:
        """Returns the row of a tag that is not published.

        If it was published and has lost a blob of ours since, the row keeps its names: the runtime
        may still hold all of it.
        """
        row = self.row(tag, unwanted.state, reason=unwanted.reason)
        if unwanted.state != "incomplete" or before is None or before.digest != tag.digest:
            return row
        return replace(row, detail={**row.detail, **_names(before)})

    def failed(
        self, tag: TagState, reason: str, before: PublicationRow | None, *, next_try_at: float
    ) -> PublicationRow:
        """Returns the row of a failed tag, with the names under which it was published before."""
        kept = _names(before) if before is not None else {}
        row = self.row(tag, "failed", reason=reason, next_try_at=next_try_at)
        return replace(row, detail={**kept, **row.detail})

    def waiting(
        self, desired: DesiredImage, reason: str, before: PublicationRow, *, next_try_at: float
    ) -> PublicationRow:
        """Returns the row of an image that somebody removed or moved and that waits its turn.

        A pass in the same wait gives the same row.
        """
        planned = before.next_try_at if before.state == "waiting" else None
        if planned is not None and abs(planned - next_try_at) < _SAME_SECONDS:
            next_try_at = planned
        return self.row(
            desired.tag, "waiting", desired, reason=reason, next_try_at=next_try_at, before=before
        )


def _names(row: PublicationRow) -> dict[str, object]:
    """Returns what a row says of the names in the runtime, CRI's own record among them."""
    return {key: row.detail[key] for key in ("names", "image_id") if key in row.detail}


def names_of(row: PublicationRow) -> list[str]:
    """Returns the names under which a tag was published."""
    names = row.detail.get("names")
    return names if isinstance(names, list) else []


def changed_rows(
    found: Iterable[PublicationRow], rows: Mapping[str, PublicationRow]
) -> list[PublicationRow]:
    """Returns the rows that differ from the recorded ones."""
    changed = []
    for row in found:
        before = rows.get(row.reference)
        if before is None or (before.digest, before.state, before.detail) != (
            row.digest,
            row.state,
            row.detail,
        ):
            changed.append(row)
    return changed
