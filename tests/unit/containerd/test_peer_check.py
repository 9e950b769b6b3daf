import sys

import pytest

from airside.containerd.peer_check import find_inode, is_peer, parse_end
from airside.ports.content import Connection

LINES = [
    (
        "   0: 0100007F:13BA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
        " 4711 1 0000000000000000 100 0 0 10 0"
    ),
    (
        "   1: 0100007F:9C40 0100007F:13BA 01 00000000:00000000 00:00000000 00000000     0        0"
        " 4712 1 0000000000000000 20 4 30 10 -1"
    ),
    (
        "   2: 0100007F:13BA 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0"
        " 4713 1 0000000000000000 20 4 30 10 -1"
    ),
]

little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="written by a little-endian one")


@little_endian
@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("0100007F:13BA", ("127.0.0.1", 5050)),
        ("0000000000000000FFFF00000100007F:9C40", ("127.0.0.1", 40000)),
        ("00000000000000000000000001000000:0050", ("::1", 80)),
        ("B80D01200000000067452301EFCDAB89:FFFF", ("2001:db8::123:4567:89ab:cdef", 65535)),
    ],
)
def test_ends_are_read_as_the_kernel_writes_them(text, end):
    assert parse_end(text) == end


@little_endian
def test_a_socket_is_found_by_both_of_its_ends():
    client, server = ("127.0.0.1", 40000), ("127.0.0.1", 5050)
    assert find_inode(LINES, client, server) == 4712
    assert find_inode(LINES, server, client) == 4713
    assert find_inode(LINES, ("127.0.0.1", 40001), server) is None
    assert find_inode([], client, server) is None


def test_another_machine_is_not_the_runtime_and_who_cannot_be_told_is(tmp_path):
    nobody = str(tmp_path / "none.sock")
    assert not is_peer(nobody, Connection(("192.0.2.7", 40000), ("192.0.2.1", 5050)))
    assert is_peer(nobody, Connection(("127.0.0.1", 40000), ("127.0.0.1", 5050)))
    assert is_peer(nobody, Connection(("::ffff:192.0.2.1", 4), ("192.0.2.1", 5050)))
