"""What is known of a loss of records: reported in `status` until an operator acknowledges it. Pure.

The loss is written to `DATA/recovery.json` before anything is set aside, and to the catalog once it
is rebuilt: a start that is killed in between continues.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

LOST_RECORDS = "lost-records"
"""The key of the last loss in the catalog's `meta`; empty when it was acknowledged."""
_SHOWN_NAMES = 100


@dataclass(frozen=True, slots=True)
class LostRecords:
    """One loss. `at`: when it was noticed, in seconds.

    `restored_from`: the file that the names came from; empty if there was none. `incomplete_names`:
    the first of the names that were left out, because blobs of their images are lost or damaged.
    """

    at: float
    reason: str
    set_aside: tuple[str, ...] = ()
    restored_from: str = ""
    names: int = 0
    incomplete: int = 0
    incomplete_names: tuple[str, ...] = ()
    documents: int = 0
    """Manifests and indexes without a name that were found by reading the blobs."""

    def named(self, origin: str, names: int, incomplete: Iterable[str]) -> "LostRecords":
        """Returns the loss with the names that were restored, and those that were left out."""
        left_out = tuple(incomplete)
        return replace(
            self,
            restored_from=origin,
            names=names,
            incomplete=len(left_out),
            incomplete_names=left_out[:_SHOWN_NAMES],
        )

    def to_text(self) -> str:
        return json.dumps(asdict(self))


def parse_lost(text: str | None) -> LostRecords | None:
    """Returns the loss that `to_text` wrote; None if there is none or it cannot be read."""
    if not text:
        return None
    try:
        values = json.loads(text)
        for key in ("set_aside", "incomplete_names"):
            values[key] = tuple(map(str, values[key]))
        return LostRecords(**values)
    except (ValueError, TypeError, KeyError):
        return None
