import bz2
import gzip
import lzma
import random
import struct
import threading
import zlib
from collections.abc import Iterable

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.tar import compression
from airside.archive.tar.compression import (
    ByteSource,
    Compression,
    TrailingBytesError,
    compression_name,
    content_bytes,
    detect_compression,
    iter_decompressed,
)
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    StoppedError,
)
from airside.core.settings import CHUNK_BYTES, MIB, Limits

zstd = compression.zstd
_RANDOM = random.Random(7)
DATA = _RANDOM.randbytes(300) + b"the same words again and again; " * 40
MORE = b"a second frame" * 9
SKIPPABLE = b"\x53\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zs(data: bytes) -> bytes:
    return zstd.compress(data, options=CHECKED)


def gz_with_every_header_field(data: bytes) -> bytes:
    header = b"\x1f\x8b\x08\x1e" + bytes(5) + b"\x03" + struct.pack("<H", 5) + b"extra"
    header += b"a name" * 20 + b"\0" + b"a comment\0"
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


DELTA = [{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 3}]


def lz(data: bytes, **options: object) -> bytes:
    return lz4.frame.compress(data, content_checksum=True, **options)


WHOLE = {
    "gzip": (gz(DATA), DATA),
    "gzip, two members": (gz(DATA) + gz(MORE), DATA + MORE),
    "gzip, every header field": (gz_with_every_header_field(DATA), DATA),
    "gzip, stored": (gzip.compress(DATA, 0), DATA),
    "gzip, padded": (gz(DATA) + bytes(700), DATA),
    "gzip, empty member": (gz(b"") + gz(DATA), DATA),
    "zstd": (zs(DATA), DATA),
    "zstd, two frames": (zs(DATA) + zs(MORE), DATA + MORE),
    "zstd, skippable frames": (SKIPPABLE + zs(DATA) + SKIPPABLE + zs(MORE), DATA + MORE),
    "zstd, padded": (zs(DATA) + bytes(3), DATA),
    "zstd, empty frame": (zs(b"") + zs(DATA), DATA),
    "lz4": (lz(DATA), DATA),
    "lz4, two frames": (lz(DATA) + lz(MORE), DATA + MORE),
    "lz4, skippable frames": (SKIPPABLE + lz(DATA) + SKIPPABLE + lz(MORE), DATA + MORE),
    "lz4, padded": (lz(DATA) + bytes(3), DATA),
    "lz4, empty frame": (lz(b"") + lz(DATA), DATA),
    "lz4, linked blocks": (lz(DATA * 99, block_linked=True, block_size=4), DATA * 99),
    "lz4, of its own blocks": (lz(DATA * 99, block_linked=False, block_size=4), DATA * 99),
    "bzip2": (bz2.compress(DATA), DATA),
    "bzip2, two streams": (bz2.compress(DATA) + bz2.compress(MORE, 1), DATA + MORE),
    "bzip2, padded": (bz2.compress(DATA) + bytes(7), DATA),
    "bzip2, empty stream": (bz2.compress(b"") + bz2.compress(DATA), DATA),
    "xz": (lzma.compress(DATA), DATA),
    "xz, two streams": (lzma.compress(DATA) + lzma.compress(MORE), DATA + MORE),
    "xz, padding between": (lzma.compress(DATA) + bytes(8) + lzma.compress(MORE), DATA + MORE),
    "xz, padded": (lzma.compress(DATA) + bytes(4), DATA),
    "xz, padded oddly": (lzma.compress(DATA) + bytes(5), DATA),
    "xz, empty stream": (lzma.compress(b"") + lzma.compress(DATA), DATA),
    "xz, a filter before": (lzma.compress(DATA, filters=DELTA), DATA),
    "xz, no check": (lzma.compress(DATA, check=lzma.CHECK_NONE), DATA),
    "none": (DATA, DATA),
}
ALL = pytest.mark.parametrize(("packed", "plain"), WHOLE.values(), ids=WHOLE)
EACH = pytest.mark.parametrize("pack", [gz, zs, lz, bz2.compress, lzma.compress])


def unpack(
    chunks: bytes | Iterable[bytes],
    limits: Limits | None = None,
    windows: WindowBudget | None = None,
    notes: list[str] | None = None,
) -> bytes:
    parts = [chunks] if isinstance(chunks, bytes) else list(chunks)
    return b"".join(
        iter_decompressed(
            parts,
            detect_compression(b"".join(parts)[:64]),
            limits=limits or Limits(),
            windows=windows or WindowBudget(64 * MIB),
            notes=[] if notes is None else notes,
        )
    )


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


# Recognising


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (gz(b""), Compression.GZIP),
        (zs(b""), Compression.ZSTD),
        (SKIPPABLE, Compression.ZSTD),
        (SKIPPABLE + zs(b""), Compression.ZSTD),
        (SKIPPABLE + SKIPPABLE + lz(b""), Compression.LZ4),
        (lz(b""), Compression.LZ4),
        (bz2.compress(b""), Compression.BZIP2),
        (bz2.compress(DATA, 1), Compression.BZIP2),
        (lzma.compress(b""), Compression.XZ),
        (b"", Compression.NONE),
        (b"\x1f", Compression.NONE),
        (b"manifest.json" + bytes(100), Compression.NONE),
        (b"]" + bytes(100), Compression.NONE),
    ],
)
def test_the_compression_is_told_by_the_first_bytes(head: bytes, found: Compression) -> None:
    assert detect_compression(head) is found


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x02\x21\x4c\x18", "lz4 (the legacy frame)"),
        (b"\x5d\x00\x00\x80\x00" + b"\xff" * 8 + bytes(3), "lzma"),
        (b"\x5d\x00\x00\x80\x00" + struct.pack("<Q", 10_000) + bytes(3), "lzma"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07\x01\x00", "rar"),
    ],
)
def test_a_format_that_is_not_read_is_refused_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(ArchiveFormatError) as caught:
        detect_compression(head)
    assert caught.value.context["found"] == name
    assert caught.value.context["hint"]
    assert compression_name(head) == name


# Each compression that is read


@ALL
def test_whole_data_is_decompressed(packed: bytes, plain: bytes) -> None:
    assert unpack(packed) == plain


@ALL
@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_any_chunking_gives_the_same_result(packed: bytes, plain: bytes, cuts: list[int]) -> None:
    assert unpack(split(packed, cuts)) == plain


@ALL
def test_data_that_comes_byte_by_byte_gives_the_same_result(packed: bytes, plain: bytes) -> None:
    assert unpack(split(packed, range(len(packed)))) == plain


@pytest.mark.parametrize(
    "packed",
    [
        gz(DATA),
        gz_with_every_header_field(DATA),
        zs(DATA),
        SKIPPABLE + zs(DATA),
        lz(DATA),
        bz2.compress(DATA),
        lzma.compress(DATA),
    ],
    ids=["gzip", "gzip, fields", "zstd", "zstd, skippable frame", "lz4", "bzip2", "xz"],
)
def test_no_truncation_is_accepted_as_whole(packed: bytes) -> None:
    kind = detect_compression(packed)
    for end in range(len(packed)):
        if packed[:end] == SKIPPABLE:
            continue  # whole frames that hold nothing
        parts = iter_decompressed(
            [packed[:end]], kind, limits=Limits(), windows=WindowBudget(MIB), notes=[]
        )
        got: list[bytes] = []
        with pytest.raises(ArchiveTruncatedError):
            got.extend(parts)
        assert DATA.startswith(b"".join(got))


@EACH
def test_a_second_frame_that_is_cut_is_truncated(pack) -> None:
    first, second = pack(DATA), pack(MORE)
    for end in range(1, len(second)):
        with pytest.raises(ArchiveTruncatedError):
            unpack(first + second[:end])


@EACH
def test_zero_padding_is_accepted_with_a_note(pack) -> None:
    for count in (1, 2, 3, 4, 511, 3 * MIB):
        notes: list[str] = []
        assert unpack(pack(DATA) + bytes(count), notes=notes) == DATA
        assert len(notes) == 1
        assert str(count) in notes[0]


@EACH
@pytest.mark.parametrize("rest", [b"x", b"junk" * 9, bytes(512) + b"x", bytes(2 * MIB) + b"x"])
def test_other_bytes_at_the_end_are_told_after_all_data_was_given(pack, rest: bytes) -> None:
    parts = iter_decompressed(
        [pack(DATA) + rest],
        detect_compression(pack(DATA)),
        limits=Limits(),
        windows=WindowBudget(MIB),
        notes=[],
    )
    got: list[bytes] = []
    with pytest.raises(TrailingBytesError):
        got.extend(parts)
    assert b"".join(got) == DATA


@pytest.mark.parametrize(
    "packed",
    [
        gz(DATA),
        gz_with_every_header_field(DATA),
        zs(DATA),
        lz(DATA),
        bz2.compress(DATA),
        lzma.compress(DATA),
    ],
    ids=["gzip", "gzip, every header field", "zstd", "lz4", "bzip2", "xz"],
)
def test_no_flipped_bit_changes_the_data_unnoticed(packed: bytes) -> None:
    kind = detect_compression(packed)
    for position in range(len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 1 << (position % 8)
        try:
            got = b"".join(
                iter_decompressed(
                    [bytes(damaged)], kind, limits=Limits(), windows=WindowBudget(MIB), notes=[]
                )
            )
        except (ArchiveFormatError, ArchiveTruncatedError, ArchiveLimitError):
            continue
        # time, system and flags of the gzip header, or the unused bits of the last block's byte
        assert got == DATA


@EACH
def test_a_damaged_checksum_is_a_format_error(pack) -> None:
    damaged = bytearray(pack(DATA))
    place = {gz: -5, bz2.compress: -3, lzma.compress: -40}.get(pack, -1)
    damaged[place] ^= 0x10
    with pytest.raises(ArchiveFormatError):
        unpack(bytes(damaged))


def test_a_damaged_length_of_gzip_is_a_format_error() -> None:
    damaged = bytearray(gz(DATA))
    damaged[-1] ^= 0x10
    with pytest.raises(ArchiveFormatError):
        unpack(bytes(damaged))


@pytest.mark.parametrize(
    "header",
    [b"\x1f\x8b\x07" + bytes(30), b"\x1f\x8b\x08\x20" + bytes(30)],
    ids=["method", "reserved flag"],
)
def test_a_gzip_header_that_the_standard_does_not_know_is_refused(header: bytes) -> None:
    with pytest.raises(ArchiveFormatError):
        unpack(header)


def test_an_endless_name_in_a_gzip_header_is_refused() -> None:
    with pytest.raises(ArchiveFormatError):
        unpack(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 200_000)


@EACH
def test_a_damaged_second_frame_is_never_lost_silently(pack) -> None:
    """The file classes of the library give the first frame alone, without an error."""
    first, second = pack(DATA), bytearray(pack(MORE))
    second[len(second) // 2] ^= 0x40
    with pytest.raises((ArchiveFormatError, ArchiveTruncatedError)):
        unpack(first + bytes(second))


@pytest.mark.parametrize("kind", [kind for kind in Compression if kind is not Compression.NONE])
def test_data_of_another_kind_is_refused(kind: Compression) -> None:
    windows = WindowBudget(MIB)
    with pytest.raises(ArchiveFormatError):
        list(iter_decompressed([b"text"], kind, limits=Limits(), windows=windows, notes=[]))
    with pytest.raises(ArchiveTruncatedError):
        list(iter_decompressed([], kind, limits=Limits(), windows=windows, notes=[]))


# Limits


@EACH
def test_a_bomb_comes_in_small_chunks(pack) -> None:
    bomb = pack(bytes(40 * MIB))
    assert len(bomb) < MIB
    sizes = [
        len(part)
        for part in iter_decompressed(
            [bomb],
            detect_compression(bomb),
            limits=Limits(),
            windows=WindowBudget(64 * MIB),
            notes=[],
        )
    ]
    assert sum(sizes) == 40 * MIB
    assert max(sizes) <= CHUNK_BYTES


@pytest.mark.parametrize("pack", [gz, zs, lz, bz2.compress, lzma.compress, bytes])
def test_large_data_comes_in_chunks_of_at_most_a_mebibyte(pack) -> None:
    packed = pack(_RANDOM.randbytes(3 * MIB + 17))
    chunks = iter_decompressed(
        [packed],
        detect_compression(packed),
        limits=Limits(),
        windows=WindowBudget(64 * MIB),
        notes=[],
    )
    assert max(map(len, chunks)) <= CHUNK_BYTES


@pytest.mark.parametrize("pack", [gz, zs, lz, bz2.compress, lzma.compress, bytes])
def test_more_than_total_bytes_is_refused(pack) -> None:
    packed = pack(b"tar" * 1000)
    assert len(unpack(packed, Limits(total_bytes=3000))) == 3000
    with pytest.raises(ArchiveLimitError) as caught:
        unpack(packed, Limits(total_bytes=2999))
    assert caught.value.context["limit"] == "limits.total_bytes"


@EACH
def test_the_ratio_counts_only_past_the_first_bytes(pack, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack(bytes(8 * MIB))
    assert len(unpack(bomb, Limits(ratio=50))) == 8 * MIB
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 4 * MIB)
    with pytest.raises(ArchiveLimitError) as caught:
        unpack(bomb, Limits(ratio=50))
    assert caught.value.context["limit"] == "limits.ratio"
    assert len(unpack(pack(_RANDOM.randbytes(5 * MIB)), Limits(ratio=2))) == 5 * MIB


def zstd_with_window(log: int) -> bytes:
    packer = zstd.ZstdCompressor(
        options={zstd.CompressionParameter.window_log: log, zstd.CompressionParameter.strategy: 1}
    )
    return packer.compress(DATA) + packer.flush()


def test_a_zstd_window_above_the_limit_is_refused_and_one_at_it_is_read() -> None:
    packed = zstd_with_window(21)
    assert unpack(packed, Limits(window_bytes=2 * MIB)) == DATA
    assert unpack(packed, Limits(window_bytes=3 * MIB)) == DATA
    with pytest.raises(ArchiveLimitError) as caught:
        unpack(packed, Limits(window_bytes=2 * MIB - 1))
    assert caught.value.context["limit"] == "limits.window_bytes"


@pytest.mark.parametrize(
    ("packed", "window_bytes"),
    [
        (lzma.compress(DATA, preset=6), 8 * MIB),
        (lzma.compress(DATA, preset=9), 64 * MIB),
        (lzma.compress(DATA, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 3 << 19}]), 3 << 19),
        (lzma.compress(b"") + lzma.compress(DATA, preset=0), 256 * 1024),
        (bz2.compress(DATA, 1), 500_000),
        (bz2.compress(DATA), 3_700_000),
        (lz(DATA, block_size=4), 192 * 1024),
        (lz(DATA * 4000, block_size=7), 8 * MIB + 65_536),
    ],
)
def test_each_kind_holds_the_memory_that_its_header_asks_for(packed, window_bytes) -> None:
    windows = WindowBudget(128 * MIB)
    kind = detect_compression(packed)
    parts = iter_decompressed([packed], kind, limits=Limits(), windows=windows, notes=[])
    next(parts)
    assert windows.held_bytes == window_bytes
    parts.close()
    assert unpack(packed, Limits(window_bytes=window_bytes)).startswith(DATA)
    with pytest.raises(ArchiveLimitError) as caught:
        unpack(packed, Limits(window_bytes=window_bytes - 1))
    assert caught.value.context["limit"] == "limits.window_bytes"


def test_a_later_block_of_xz_with_a_larger_dictionary_is_bounded_too() -> None:
    small = lzma.compress(b"", preset=0) + lzma.compress(DATA, preset=0)
    large = lzma.compress(DATA, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(ArchiveLimitError):
        unpack(small + large)


def test_an_lz4_frame_that_needs_a_dictionary_is_refused() -> None:
    packed = bytearray(lz(DATA))
    packed[4] |= 1
    with pytest.raises(ArchiveFormatError, match="dictionary"):
        unpack(bytes(packed))


@pytest.mark.parametrize("size", [10, 255, 256, 300, 65_791, 65_792, 100_000])
def test_the_window_of_a_single_segment_is_its_content(size: int) -> None:
    packed = zstd.compress(bytes(size))
    assert packed[4] & 0x20
    assert unpack(packed, Limits(window_bytes=size)) == bytes(size)
    with pytest.raises(ArchiveLimitError):
        unpack(packed, Limits(window_bytes=size - 1))


# Memory


def test_the_window_is_held_while_decompressing_and_given_back_at_the_end() -> None:
    windows = WindowBudget(64 * MIB)
    for packed, held in ((zstd_with_window(21), 2 * MIB), (gz(DATA), 32 * 1024)):
        parts = iter_decompressed(
            [packed], detect_compression(packed), limits=Limits(), windows=windows, notes=[]
        )
        next(parts)
        assert windows.held_bytes == held
        assert not list(parts)
        assert windows.held_bytes == 0


def test_closing_the_iterator_gives_back_the_window() -> None:
    windows = WindowBudget(64 * MIB)
    parts = iter_decompressed(
        [gz(DATA)], Compression.GZIP, limits=Limits(), windows=windows, notes=[]
    )
    next(parts)
    parts.close()
    assert windows.held_bytes == 0


def test_frames_with_growing_windows_grow_the_reservation() -> None:
    windows = WindowBudget(64 * MIB)
    packed = zstd_with_window(20) + zstd_with_window(22) + zstd_with_window(19)
    held = [
        windows.held_bytes
        for _ in iter_decompressed(
            [packed], Compression.ZSTD, limits=Limits(), windows=windows, notes=[]
        )
    ]
    assert held == [MIB, 4 * MIB, 4 * MIB]


def test_a_request_above_the_budget_waits_until_it_is_alone_and_then_holds_all() -> None:
    windows = WindowBudget(100)
    first = windows.reserve(1)
    asked, served = threading.Event(), threading.Event()

    def stop() -> bool:
        asked.set()
        return False

    def ask() -> None:
        with windows.reserve(1000, stop=stop):
            served.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(10)
    assert not served.is_set()
    first.release()
    assert served.wait(10)
    thread.join()
    assert windows.held_bytes == 0


def test_a_large_request_is_not_overtaken_by_later_small_ones() -> None:
    windows = WindowBudget(100)
    first = windows.reserve(50)
    asked = threading.Event()
    order: list[str] = []

    def stop() -> bool:
        asked.set()
        return False

    def ask(name: str, amount: int) -> None:
        with windows.reserve(amount, stop=stop):
            order.append(name)

    threads = []
    for name, amount in (("large", 100), ("small", 10)):
        asked.clear()
        threads.append(threading.Thread(target=ask, args=(name, amount)))
        threads[-1].start()
        assert asked.wait(10)
    assert order == []
    first.release()
    for thread in threads:
        thread.join()
    assert order == ["large", "small"]


def test_a_wait_for_memory_ends_when_stopped() -> None:
    windows = WindowBudget(100)
    with windows.reserve(100), pytest.raises(StoppedError):
        windows.reserve(1, stop=lambda: True)
    with windows.reserve(100):
        pass
    assert windows.held_bytes == 0


def test_two_holders_that_grow_at_once_do_not_block_each_other() -> None:
    windows = WindowBudget(100)
    both = threading.Barrier(2)
    done: list[int] = []

    def work() -> None:
        with windows.reserve(40) as reservation:
            both.wait(10)
            reservation.grow(90)
            done.append(windows.held_bytes)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert done == [90, 90]


@given(chunks=st.lists(st.binary(max_size=6)), counts=st.lists(st.integers(0, 9)))
def test_a_byte_source_reads_the_same_bytes_whatever_the_chunks(
    chunks: list[bytes], counts: list[int]
) -> None:
    whole, source, start = b"".join(chunks), ByteSource(chunks), 0
    for count in counts:
        assert source.peek(count) == whole[start : start + count]
        if count % 3 == 0:
            start += source.skip(count)
        elif count % 3 == 1:
            start += len(source.read(count))
        else:
            piece = bytes(source.take(count))
            assert piece == whole[start : start + len(piece)]
            assert piece or start == len(whole)
            source.put_back(len(piece) // 2)
            start += len(piece) - len(piece) // 2
        assert source.position == start


def test_zstd_header_tells_how_many_bytes_come_out():
    packed = zstd.compress(b"x" * 5000)
    assert size_of(packed) == 5000
    assert size_of(b"\x50\x2a\x4d\x18\x00\x00\x00\x00", Compression.ZSTD) == 0
    assert size_of(b"\x28\xb5\x2f\xfd\x08") is None
    assert size_of(gzip.compress(b"x")) is None
    assert size_of(bz2.compress(b"x")) is None
    assert size_of(lz(DATA, store_size=True)) == len(DATA)
    assert size_of(lz(DATA, store_size=False)) is None


def size_of(packed: bytes, kind: Compression | None = None) -> int | None:
    """The size that a file says it has."""

    def read(count: int, offset: int) -> bytes:
        return packed[offset : offset + count]

    return content_bytes(packed[:4096], kind or detect_compression(packed), read, len(packed))


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name.startswith("xz") and "oddly" not in name]
)
def test_the_indexes_of_xz_tell_the_whole_size(name: str) -> None:
    packed, plain = WHOLE[name]
    assert size_of(packed) == len(plain)
    for end in range(len(packed)):
        found = size_of(packed[:end], Compression.XZ)
        assert found is None or found <= len(plain)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_what_is_no_index_of_xz_tells_nothing_or_anything(noise: bytes, place: int) -> None:
    packed = lzma.compress(DATA)
    damaged = packed[: -(place % 60) or None] + noise + b"YZ"
    found = size_of(damaged, Compression.XZ)
    assert found is None or found >= 0
