"""The extent of what is below documents: how many descriptors, how many levels of indexes."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from airside.catalog.database import Readers
from airside.oci.digest import Digest

_LISTED = (
    "WITH RECURSIVE below(digest) AS (SELECT value FROM json_each(?) UNION"
    " SELECT e.child FROM edge e JOIN below ON e.parent = below.digest WHERE e.kind != 'subject')"
    " SELECT count(*) AS n FROM (SELECT 1 FROM below CROSS JOIN edge e ON e.parent = below.digest"
    " WHERE e.kind != 'subject' LIMIT ?)"
)
_LEVELS = (
    "WITH RECURSIVE below(digest, level) AS (SELECT value, 1 FROM json_each(?) UNION"
    " SELECT e.child, below.level + 1 FROM edge e JOIN below ON e.parent = below.digest"
    " WHERE e.kind = 'manifest' AND below.level <= ?)"
    " SELECT coalesce(max(below.level), 0) AS n FROM below"
    " JOIN document d ON d.digest = below.digest"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bounded queries of what is recorded. As thread-safe as the readers. Raises StoreError."""

    readers: Readers

    def descriptors(self, digests: Iterable[Digest], most: int) -> int:
        """Returns the descriptors that documents at and below these list; stops above `most`."""
        rows = self.readers.rows(_LISTED, _array(digests), most + 1)
        return int(rows[0]["n"])

    def levels(self, digests: Iterable[Digest], most: int) -> int:
        """Returns the levels of documents, of which these are the first; stops above `most`."""
        rows = self.readers.rows(_LEVELS, _array(digests), most)
        return int(rows[0]["n"])


def _array(digests: Iterable[Digest]) -> str:
    return json.dumps([str(digest) for digest in digests])
