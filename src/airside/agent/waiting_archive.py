"""An archive that waits for a retry or for the rest of its file."""

import time
from dataclasses import dataclass

FIRST_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class WaitingArchive:
    """An archive to retry: when its bytes changed last, and the next delay.

    `key` is the stat key of the file that was read; the path may be another file by now. `reason`
    was logged, and is not logged again at each retry.
    """

    key: str
    source_id: int
    incomplete: bool
    since: float
    reason: str = ""
    delay_seconds: float = FIRST_RETRY_SECONDS
    blocks: int | None = None

    def has_moved(self, blocks: int) -> bool:
        """Note the blocks that the file takes on disk; returns True if they are others than before.

        It counts as growth, though the file's times are the same.
        """
        has_moved = self.blocks not in (None, blocks)
        self.blocks = blocks
        self.since = time.monotonic() if has_moved else self.since
        return has_moved
