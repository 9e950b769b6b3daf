"""Damaged archives: where bits are flipped, and what an import would make of them."""

import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from airside.archive.completeness import Judgement
from airside.archive.reader import read_archive
from airside.archive.sources import Reader
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import ArchiveTruncatedError, InputError, StorageFullError
from airside.oci.digest import Digest, digest_of
from airside.store.local import LocalStore
from support.nodes import settings_at
from support.size import sized

COMPRESSED_FLIPS = sized(60, 300)

Expected = Mapping[str, Digest]
"""What an archive must bring: reference → digest."""


class Judge:
    """Reads an archive as an import does, without keeping anything; gives its class.

    `whole` remembers the documents of good archives, so that one which lacks some is not taken
    for unchanged.
    """

    def __init__(self, directory: Path) -> None:
        settings = settings_at(directory / "data")
        self.ingest = directory / "data/ingest"
        store = LocalStore(directory / "data/oci", self.ingest)
        store.prepare()
        self._reader = Reader(store, settings, WindowBudget(1 << 30), lambda _digest: None)
        self._path = directory / "damaged"

    def whole(self, data: bytes) -> frozenset[Digest]:
        """The documents of a good archive."""
        return frozenset(document.digest for document in self._read(data, None).documents)

    def __call__(
        self,
        data: bytes,
        expected: Expected,
        other: Reader | None = None,
        *,
        documents: frozenset[Digest] = frozenset(),
    ) -> str:
        try:
            judgement = self._read(data, other)
        except ArchiveTruncatedError:
            return "incomplete"
        except StorageFullError:  # a zstd header that asks for more than there is
            return "failed"
        except InputError:
            return "rejected"
        if not judgement.images:
            return "rejected"
        names = [(str(r), i.root) for i in judgement.images for r in i.references]
        found = classify(names, expected, whole=not judgement.problems)
        lost = documents - {document.digest for document in judgement.documents}
        return "FEWER" if found == "unchanged" and lost else found

    def _read(self, data: bytes, other: Reader | None) -> Judgement:
        self._path.write_bytes(data)
        with read_archive(
            other or self._reader,
            self._path,
            strict=False,
            stop=lambda: False,
            progress=lambda *_: None,
        ) as reading:
            for document in reading.judgement.documents:
                algorithm = document.digest.algorithm
                assert digest_of(document.raw, algorithm) == document.digest
            return reading.judgement


def classify(names: list[tuple[str, Digest]], expected: Expected, *, whole: bool) -> str:
    """The class of an archive of which something is taken."""
    found = dict(names)
    strange = {name for name, digest in names if expected.get(name) != digest}
    if strange:
        only_new = all(n not in expected and found[n] in expected.values() for n in strange)
        return "renamed" if only_new else f"WRONG {sorted(strange)}"
    if not whole:
        return "partial"
    return "unchanged" if found.keys() == expected.keys() else "unnamed"


def regions(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(region, start, end) of a plain tar, in order."""
    position = 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            yield "header", position, member.offset_data
            end = member.offset_data + member.size
            if member.size:
                yield kind_of(data[member.offset_data : end], member.name), member.offset_data, end
            position = end + -end % 512
            if position > end:
                yield "padding", end, position
    yield "end", position, len(data)


def kind_of(content: bytes, name: str) -> str:
    if name in {"manifest.json", "index.json", "repositories"}:
        return name
    return "document" if content[:1] == b"{" else "layer"


def plain_positions(data: bytes, rng: Random) -> Iterator[tuple[str, int]]:
    """Every byte of what names images, many of headers and documents, some of all else."""
    shares = {"header": 24, "document": 90, "padding": 3, "layer": 40, "end": 30}
    for region, start, end in regions(data):
        count = min(shares.get(region, end - start), end - start)
        for position in sorted(rng.sample(range(start, end), count)):
            yield region, position


def compressed_positions(data: bytes, rng: Random) -> list[tuple[str, int]]:
    """The edges, where headers and checksums are, and a sample of the rest."""
    edges = [*range(32), *range(len(data) - 16, len(data))]
    inner = rng.sample(range(32, len(data) - 16), min(COMPRESSED_FLIPS, len(data) - 48))
    return [("compressed", position) for position in [*edges, *sorted(inner)]]


def flipped(data: bytes, position: int, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


def show(title: str, classes: Mapping[str, "Counter[str]"]) -> None:
    print(f"\n{title}")
    for region, counter in classes.items():
        print(f"  {region:14}", ", ".join(f"{n} {name}" for name, n in sorted(counter.items())))


def total(classes: Mapping[str, "Counter[str]"]) -> int:
    return sum(counter.total() for counter in classes.values())
