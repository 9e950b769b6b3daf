"""The records of unfinished uploads in `DATA/uploads`: they outlast the agent. Blocking.

A record says what the client offered. The bytes are in the watched directory, under a hidden name,
and their number is the offset at which the client goes on.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airside.page.uploads.offers import Offer
from airside.store.filesystem import PRIVATE_DIRECTORY, make_directories, write_durably

DIRECTORY = "uploads"
_ID = re.compile(r"[0-9a-f]{32}\Z")
_PARTIAL = re.compile(r"\.airside-upload-[0-9a-f]{32}\.part\Z")


def partial_name(upload_id: str) -> str:
    """The hidden name of an unfinished upload: the watcher ignores it (`is_candidate`)."""
    return f".airside-upload-{upload_id}.part"


def is_partial_name(name: str) -> bool:
    return bool(_PARTIAL.match(name))


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded of an upload. `owner`: whose it is; empty: anybody's who may upload.

    `resumable`: a client can go on with it after a restart of the agent.
    """

    id: str
    offer: Offer
    owner: str
    resumable: bool = True


class UploadRecords:
    """The records of one data directory."""

    def __init__(self, data: Path) -> None:
        self._directory = data / DIRECTORY

    def write(self, record: Record) -> None:
        """Writes a record durably. Raises OSError."""
        make_directories(self._directory, PRIVATE_DIRECTORY)
        write_durably(self._directory / f"{record.id}.json", json.dumps(asdict(record)).encode())

    def remove(self, upload_id: str) -> None:
        with suppress(OSError):
            (self._directory / f"{upload_id}.json").unlink(missing_ok=True)

    def load(self) -> Iterator[Record]:
        """Yields the records; one that can't be read is deleted."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                found = _parse(json.loads(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)
                continue
            yield found


def _parse(raw: dict[str, Any]) -> Record:
    if not _ID.match(raw["id"]):
        raise ValueError(raw["id"])
    offer, resumable = Offer(**raw["offer"]), raw.get("resumable", True) is True
    is_known = offer.length is not None
    return Record(raw["id"], offer, str(raw["owner"]), resumable=resumable and is_known)
