"""Places the blobs of images that are published at once, together.

One thread at a time works for all that wait: so the record of the links, the sync of the directory
and the questions to containerd are shared, and a base layer is placed once. An image whose blobs
cannot be placed fails alone.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from airside.containerd.adopt import Adopter, LabelledBlob, Placement

_MOST = 64
"""Images of one batch: each waits for the whole."""


@dataclass(slots=True)
class _Waiting:
    placement: Placement
    is_done: bool = False
    error: BaseException | None = None


@dataclass(slots=True)
class GroupPlacing:
    """Places blobs in one namespace. Thread-safe; `turn` is held while it works."""

    adopter: Adopter
    turn: threading.Lock
    _queue: deque[_Waiting] = field(default_factory=deque)

    def place(self, blobs: Sequence[LabelledBlob], lease: str) -> Counter[str]:
        """Places the blobs of one image. Returns how. Raises as `Adopter.place`."""
        own = _Waiting(Placement(blobs, lease))
        self._queue.append(own)
        with self.turn:
            while not own.is_done:
                count = min(len(self._queue), _MOST)
                self._work([self._queue.popleft() for _ in range(count)])
        if own.error is not None:
            raise own.error
        return +own.placement.ways

    def _work(self, batch: Sequence[_Waiting]) -> None:
        error = self._placed(batch)
        if error is not None and len(batch) > 1:
            for each in batch:
                each.placement.ways.clear()
                self._work([each])
            return
        for each in batch:
            each.error, each.is_done = error, True

    def _placed(self, batch: Sequence[_Waiting]) -> BaseException | None:
        """Returns the error, which is raised in the thread that waits."""
        try:
            self.adopter.place([each.placement for each in batch])
        except BaseException as exc:  # noqa: BLE001 - see above
            return exc
        return None
