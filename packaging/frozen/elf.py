"""Reads of a shared library or program what a loader decides by: machine, libraries, symbols."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHT_DYNAMIC, _SHT_VERNEED = 6, 0x6FFFFFFE
_DT_NEEDED = 1


@dataclass(frozen=True)
class Elf:
    """`versions`: (library, version of symbols) that must exist where it runs."""

    machine: int
    needed: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]

    def newest_glibc(self) -> tuple[int, ...]:
        """Returns the newest glibc release that it asks for, such as (2, 34)."""
        texts = [text[6:] for _, text in self.versions if text.startswith("GLIBC_2")]
        return max((tuple(map(int, text.split("."))) for text in texts), default=(2, 0))


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def read_elf(path: Path) -> Elf:
    """Raises ValueError if it is no 64-bit little-endian ELF file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path}: no 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", data, 18)
    needed: list[str] = []
    versions: list[tuple[str, str]] = []
    sections = _sections(data)
    for kind, offset, size, link, count in sections:
        texts = sections[link][1] if link < len(sections) else 0
        if kind == _SHT_DYNAMIC:
            pairs = struct.iter_unpack("<qQ", data[offset : offset + size])
            needed += [_text(data, texts + value) for tag, value in pairs if tag == _DT_NEEDED]
        elif kind == _SHT_VERNEED:
            versions += _versions(data, offset, texts, count)
    return Elf(machine, tuple(needed), tuple(versions))


def _sections(data: bytes) -> list[tuple[int, int, int, int, int]]:
    """Each section: type, offset, size, link, info."""
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    found = []
    for index in range(count):
        fields = struct.unpack_from("<IIQQQQIIQQ", data, start + index * size)
        found.append((fields[1], fields[4], fields[5], fields[6], fields[7]))
    return found


def _versions(data: bytes, offset: int, texts: int, count: int) -> Iterator[tuple[str, str]]:
    for _ in range(count):
        _, entries, file, first, following = struct.unpack_from("<HHIII", data, offset)
        place = offset + first
        for _ in range(entries):
            _, _, _, name, step = struct.unpack_from("<IHHII", data, place)
            yield _text(data, texts + file), _text(data, texts + name)
            place += step
        offset += following


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
