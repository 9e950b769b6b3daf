"""Reads a packed Helm chart: a gzip tar that is stored as it is, once it was read to its end."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from airside.archive.formats.chart import (
    CHART_YAML,
    MOST_YAML_BYTES,
    is_chart_member,
    plan_chart,
)
from airside.archive.formats.plan import Plan
from airside.archive.sources import TarSource
from airside.archive.tar.compression import Compression, iter_decompressed
from airside.archive.tar.members import Member, MemberKind
from airside.archive.tar.reader import iter_members
from airside.core.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    InputError,
)
from airside.core.settings import CHUNK_BYTES, Limits

_MEMBER = "chart.tgz"
"""The name of the whole file among the archive's members."""
_HEAD_LIMITS = Limits()


def is_chart(head: bytes) -> bool:
    """Returns True if a gzip file with these first bytes is a chart: its first file says so.

    Helm packs `NAME/Chart.yaml` first. A chart that was packed otherwise is not recognised.
    """
    try:
        plain = zlib.decompressobj(wbits=31).decompress(head, 1 << 16)
        for member, _ in iter_members([plain], limits=_HEAD_LIMITS, notes=[]):
            if member.kind is not MemberKind.DIRECTORY:
                return member.kind is MemberKind.FILE and is_chart_member(member.name)
    except (zlib.error, InputError):
        pass
    return False


@dataclass(slots=True)
class ChartSource(TarSource):
    """A chart in an open file."""

    def store(self) -> Plan:
        """Read, ingest and plan the chart. Raises ArchiveError, StoreError, StoppedError."""
        chart_yaml = self._chart_yaml()
        whole = Member(_MEMBER, MemberKind.FILE, self.size_bytes, offset=0)
        self._read_members(self._open_member, [whole], {})
        return plan_chart(_MEMBER, self.ingest.facts([_MEMBER])[_MEMBER], chart_yaml)

    def _chart_yaml(self) -> bytes:
        """Returns `Chart.yaml`, after the whole file was decompressed and its checksum compared."""
        self.file.seek(0)
        chunks = iter_decompressed(
            self._pieces(),
            Compression.GZIP,
            limits=self.limits,
            windows=self.reader.windows,
            notes=self.notes,
            stop=self.stop,
        )
        found: bytes | None = None
        for member, pieces in iter_members(chunks, limits=self.limits, notes=self.notes):
            if member.kind is not MemberKind.FILE or not is_chart_member(member.name):
                continue
            if found is not None:
                raise ArchiveFormatError(f"the chart has several {CHART_YAML}")
            if member.size_bytes > MOST_YAML_BYTES:
                raise ArchiveLimitError(
                    f"member {member.name} has {member.size_bytes} bytes; a {CHART_YAML} may have "
                    f"{MOST_YAML_BYTES}",
                    member=member.name,
                )
            found = b"".join(bytes(piece) for piece in pieces)
        if found is None:  # its first bytes said otherwise: it was written to meanwhile
            raise ArchiveTruncatedError(f"there is no {CHART_YAML} in it any more")
        return found

    def _pieces(self) -> Iterator[bytes]:
        """Yields the file, without counting it as progress: it is read again."""
        while chunk := self.file.read(CHUNK_BYTES):
            yield chunk
