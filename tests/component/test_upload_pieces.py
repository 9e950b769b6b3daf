"""What bodies of uploads hold in memory before they are written."""

import asyncio

import pytest

from airside.core.settings import KIB, MIB
from airside.registry.http.upload_pieces import (
    MOST_BYTES,
    PIECE_BYTES,
    SMALL_PIECE_BYTES,
    PieceMemory,
    UploadPieces,
)

DATA = bytes(64 * KIB)


def written(into):
    def write(pieces):
        future = asyncio.get_running_loop().create_future()
        into.append(b"".join(pieces))
        future.set_result(None)
        return future

    return write


def test_a_body_is_written_in_order_and_in_pieces_of_a_megabyte():
    async def work():
        memory, into = PieceMemory(), []
        pieces = UploadPieces(memory, written(into))
        sent = [bytes([n]) * (100 * KIB) for n in range(40)]
        for data in sent:
            await pieces.add(data)
        await pieces.close()
        assert b"".join(into) == b"".join(sent)
        assert all(len(each) >= PIECE_BYTES for each in into[:-1])
        await asyncio.sleep(0)  # callbacks of the last writes
        assert memory.held_bytes == 0

    asyncio.run(work())


def test_uploads_that_stall_hold_little_together():
    async def work():
        memory, uploads = PieceMemory(), []
        for _ in range(250):
            pieces = UploadPieces(memory, written([]))
            uploads.append(pieces)
            for _ in range(15):
                await pieces.add(DATA)
            await asyncio.sleep(0)
        assert memory.held_bytes <= MOST_BYTES + 250 * 2 * SMALL_PIECE_BYTES < 112 * MIB
        for pieces in uploads:
            await pieces.close()
        await asyncio.sleep(0)  # callbacks of the last writes
        assert memory.held_bytes == 0

    asyncio.run(work())


def test_a_failed_write_ends_the_upload_and_holds_nothing():
    def fail(_pieces):
        future = asyncio.get_running_loop().create_future()
        future.set_exception(OSError("full"))
        return future

    async def work():
        memory = PieceMemory()
        pieces = UploadPieces(memory, fail)
        await pieces.add(bytes(PIECE_BYTES))
        with pytest.raises(OSError, match="full"):
            await pieces.add(bytes(PIECE_BYTES))
        with pytest.raises(OSError, match="full"):
            await pieces.close()
        await asyncio.sleep(0)  # callbacks of the last writes
        assert memory.held_bytes == 0

    asyncio.run(work())
