"""The state of each image in each container runtime, as every command shows it. No I/O of its own.

The catalog's row of a publication says what the publisher found or did last. `ImageState` adds what
no row can say: that a runtime has no row yet, or that it is away. The states:

- `published`: the runtime has the image under all its names;
- `pending`: it is published by the next pass, or being published now;
- `waiting`: somebody removed or moved it again and again; restored at `next_try_at`;
- `failed`: it could not be published, for `reason`; retried at `next_try_at`;
- `unknown`: the runtime is not connected, or another agent has it, for `reason`;
- `incomplete`, `conflict`, `left`, `not-for-node`, `artifact`: see `airside.containerd.publisher`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from airside.core.rfc3339 import time_text

if TYPE_CHECKING:  # reading the catalog must not import the readers of archives
    from collections.abc import Iterable, Mapping, Sequence

    from airside.catalog.publications import PublicationRow
    from airside.catalog.view import CatalogView

UNPUBLISHED = frozenset({"failed", "waiting", "pending", "unknown", "incomplete", "conflict"})
"""The states of images that this node should have in a runtime, and that it lacks or may lack."""
FAILED = frozenset({"failed", "waiting", "pending"})
"""Those in which an import is not done: its exit code is 1."""
MOST_LISTED = 20
Runtimes: TypeAlias = "Sequence[Mapping[str, Any]]"
"""The runtimes' part of the agent's status: `socket`, `connected`, `reason`. Empty: no agent."""


@dataclass(frozen=True, slots=True)
class ImageState:
    """The state of one image in one runtime. `row`: the publisher's record, None if it has none."""

    reference: str
    socket: str
    state: str
    reason: str = ""
    next_try_at: float | None = None
    row: PublicationRow | None = None

    @property
    def is_present(self) -> bool:
        return self.state == "published"

    def report(self) -> dict[str, Any]:
        """Returns the state as JSON, as `docs/cli.md` describes it."""
        detail = self.row.detail if self.row is not None else {}
        there = self.is_present
        return {
            "socket": self.socket,
            "state": self.state,
            "reason": self.reason,
            "next_try_at": time_text(self.next_try_at),
            "present": there,
            "digest": self.row.digest if self.row is not None else "",
            "pinned": there and bool(detail.get("pinned")),
            "unpacked": there and bool(detail.get("unpacked")),
            "not_unpacked": detail.get("not_unpacked", ""),
            "note": detail.get("note", ""),
            "adopted": detail.get("adopted", {}),
            "restores": self.row.restores if self.row is not None else 0,
            "names": detail.get("names", []),
            "image_id": detail.get("image_id", ""),
            "at": time_text(self.row.at) if self.row is not None else None,
        }

    def short_report(self) -> dict[str, Any]:
        """Returns what `status` and `archives` say of an image that a runtime lacks."""
        return {
            "reference": self.reference,
            "socket": self.socket,
            "state": self.state,
            "reason": self.reason,
            "next_try_at": time_text(self.next_try_at),
        }


def recorded_state(row: PublicationRow) -> ImageState:
    """Returns the state that a row records, as if its runtime were connected."""
    return ImageState(row.reference, row.runtime, row.state, row.reason, row.next_try_at, row)


def _unasked(
    reference: str, row: PublicationRow | None, runtime: Mapping[str, Any]
) -> ImageState | None:
    """Returns the state in a runtime that is away or another agent's; None if it is neither."""
    socket, reason = str(runtime["socket"]), str(runtime["reason"])
    if not runtime["connected"]:
        known = f"; its last state was {row.state}" if row is not None else ""
        reason = f"not connected: {reason or 'not yet'}{known}"
    elif not runtime.get("other_agent"):
        return None
    return ImageState(reference, socket, "unknown", reason, None, row)


def states_under(
    rows: Iterable[PublicationRow], name: str, runtimes: Runtimes = ()
) -> list[ImageState]:
    """Returns the state of a name in each runtime: of its own row, else of one that has the name.

    A tag's row has the names by digest too.
    """
    found: dict[str, PublicationRow] = {}
    for row in rows:
        names = row.detail.get("names")
        if row.reference == name:
            found[row.runtime] = row
        elif "@" in name and isinstance(names, list) and name in names:
            found.setdefault(row.runtime, row)
    living = {str(each["socket"]): each for each in runtimes}
    return [
        (_unasked(name, found[each], living[each]) if each in living else None)
        or recorded_state(found[each])
        for each in sorted(found)
    ]


class ImageStates:
    """The states of images in the runtimes.

    `runtimes` is the runtimes' part of the agent's status. Without an agent it is empty, and the
    states are the last recorded ones.
    """

    def __init__(self, rows: Iterable[PublicationRow], runtimes: Runtimes = ()) -> None:
        self._rows: dict[str, dict[str, PublicationRow]] = {}
        for row in rows:
            self._rows.setdefault(row.reference, {})[row.runtime] = row
        self._runtimes = {str(each["socket"]): each for each in runtimes}

    def of(self, reference: str, digest: str, *, is_wanted: bool) -> list[ImageState]:
        """Returns the states of an image, by runtime.

        `is_wanted`: it is published to every runtime, with a row or not yet.
        """
        rows = self._rows.get(reference, {})
        sockets = {*rows, *(self._runtimes if is_wanted else ())}
        return [self._state(reference, digest, s, rows.get(s)) for s in sorted(sockets)]

    def _state(
        self, reference: str, digest: str, socket: str, row: PublicationRow | None
    ) -> ImageState:
        runtime = self._runtimes.get(socket)
        unasked = _unasked(reference, row, runtime) if runtime is not None else None
        if unasked is not None:
            return unasked
        if row is None:
            return ImageState(reference, socket, "pending", "it is published in the next pass")
        if digest and row.digest != digest:
            reason = f"it is published in the next pass; before, {row.digest} was {row.state}"
            return ImageState(reference, socket, "pending", reason, None, row)
        return recorded_state(row)


def states_of(view: CatalogView, runtimes: Runtimes) -> ImageStates:
    """Returns the states of all images. Raises StoreError."""
    return ImageStates(view.published(), runtimes)


def lacking_text(rows: Sequence[PublicationRow]) -> str:
    """Returns in one line that runtimes lack these images, with the reason of the first."""
    if not rows:
        return ""
    first = recorded_state(rows[0])
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{first.reference} is {first.state} in {first.socket}: {first.reason}{more}"


def unpublished_report(rows: Iterable[PublicationRow]) -> dict[str, Any]:
    """Returns the number of images that a runtime lacks, and the first of them."""
    states = [recorded_state(row) for row in rows]
    return {
        "count": len(states),
        "items": [each.short_report() for each in states[:MOST_LISTED]],
    }
