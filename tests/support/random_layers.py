"""Random layers of few names, so that members meet: hypothesis strategies."""

import tarfile
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

FILE, DIRECTORY, SYMLINK, LINK = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
)
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000").decode("latin-1")
_FORMATS = (tarfile.PAX_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)


@dataclass(frozen=True)
class Made:
    """One member, as tarfile writes it."""

    name: str
    kind: bytes = FILE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    mtime: float = 1_000_000_000
    device: tuple[int, int] = (0, 0)
    records: tuple[tuple[str, str], ...] = ()
    form: int = tarfile.PAX_FORMAT

    def tar(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.type, info.linkname, info.mode, info.mtime = (
            self.kind,
            self.link,
            self.mode,
            int(self.mtime),
        )
        info.uid, info.gid = self.owner
        info.devmajor, info.devminor = self.device
        info.size = len(self.data) if self.kind == FILE else 0
        form = self.form
        if self.records:
            info.pax_headers, form = dict(self.records), tarfile.PAX_FORMAT
        try:
            header = info.tobuf(form, errors="surrogateescape")
        except ValueError:  # USTAR holds it not
            header = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        data = self.data if self.kind == FILE else b""
        return header + data + bytes(-len(data) % 512)


def layer_of(members: list[Made]) -> bytes:
    return b"".join(member.tar() for member in members) + bytes(1024)


_COMPONENTS = st.sampled_from(["a", "b", "c", "a", "b", "n" * 120, "\udcff\udcfe", "ä"])
_PATHS = st.lists(_COMPONENTS, min_size=1, max_size=3).map("/".join)
_ODD = ["a/../b", "a//b", ".", "./", "/", "../a", "a/.", "a/..", "", "a/b/../../c", "./a"]
_WHITEOUTS = st.one_of(
    _PATHS.map(lambda p: "/".join([*p.split("/")[:-1], ".wh." + p.split("/")[-1]])),
    _PATHS.map(lambda p: p + "/.wh..wh..opq"),
    st.sampled_from([".wh..wh..opq", ".wh.", ".wh..", ".wh...", "a/.wh..wh.x", ".wh.a/b"]),
)
_NAMES = st.one_of(
    _PATHS,
    _PATHS,
    _PATHS,
    _PATHS.map(lambda p: "./" + p),
    _PATHS.map(lambda p: "/" + p),
    _WHITEOUTS,
    _WHITEOUTS,
    st.sampled_from(_ODD),
)
_TARGETS = st.one_of(
    _PATHS,
    _PATHS,
    _PATHS.map(lambda p: "/" + p),
    st.sampled_from(["..", "../b", ".", "a/../b", "missing", "/", "../../../a", "c/..", "b/"]),
)
_KINDS = st.sampled_from(
    [FILE] * 5
    + [DIRECTORY] * 5
    + [SYMLINK] * 2
    + [LINK] * 2
    + [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"\0"]
)
_MODES = st.sampled_from(
    [0o644, 0o755, 0o755, 0o4755, 0o2755, 0o1777, 0, 0o7777, 0o100640, 0o40750, 0o2070]
)
_IDS = st.sampled_from([0, 0, 0, 1, 1000, 2**21 + 7, 2**32 - 2, 2**32 - 1])
_DEVICES = st.sampled_from([(1, 3), (0, 0), (4095, 1048575), (259, 300), (5000, 3)])
_TIMES = st.sampled_from([1_000_000_000, 0, 1, 2**33, 2**34, -1])
_RECORDS = st.lists(
    st.sampled_from(
        [
            ("mtime", "1700000000.123456789"),
            ("mtime", "1.5"),
            ("mtime", "-5.5"),
            ("mtime", "9999999999999.9"),
            ("mtime", "12.3456789012345"),
            ("atime", "1800000000.000000001"),
            ("atime", "3"),
            ("ctime", "4"),
            ("comment", "what"),
            ("uname", "root"),
            ("SCHILY.xattr.user.one", "1"),
            ("SCHILY.xattr.user.empty", ""),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("SCHILY.xattr.security.other", "o"),
            ("SCHILY.xattr.system.posix_acl_default", "o"),
            ("SCHILY.xattr.odd", "o"),
            ("LIBARCHIVE.creationtime", "1"),
        ]
    ),
    max_size=3,
    unique_by=lambda record: record[0],
).map(tuple)


@st.composite
def members(draw: st.DrawFn) -> Made:
    name, kind = draw(_NAMES), draw(_KINDS)
    if kind == DIRECTORY and draw(st.booleans()):
        name += "/"
    plain = draw(st.integers(0, 3))  # most members are like those of real layers
    more: dict[str, Any] = {}
    if plain == 0:
        more = {
            "owner": (draw(_IDS), draw(_IDS)),
            "mtime": draw(_TIMES),
            "records": draw(_RECORDS),
            "form": draw(st.sampled_from(_FORMATS)),
        }
    data = draw(st.sampled_from([b"", b"x", b"y" * 512, b"z" * 5000]))
    device, mode = draw(_DEVICES), draw(_MODES)
    return Made(name, kind, data, draw(_TARGETS), mode, device=device, **more)


LAYERS = st.lists(members(), max_size=10)
STACKS = st.lists(LAYERS, min_size=1, max_size=3)

_BLOCK = 512
_BYTES = st.sampled_from(b"\0 017589-+_./xLgS=\n\x80\xff")
_DAMAGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 511), _BYTES), max_size=2)


def damaged(tar: bytes, damages: list[tuple[int, int, int]], length: int | None) -> bytes:
    """Returns a layer with other bytes in some blocks; the checksums of headers are right."""
    found = bytearray(tar)
    for block, offset, value in damages:
        start = block % (len(tar) // _BLOCK) * _BLOCK
        was_header = found[start + 257 : start + 262] == b"ustar"
        found[start + offset] = value
        if was_header:
            found[start + 148 : start + 156] = b" " * 8
            total = sum(found[start : start + _BLOCK])
            found[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(found[: length or len(found)])


DAMAGED = st.builds(
    damaged,
    st.lists(members(), min_size=1, max_size=4).map(layer_of),
    _DAMAGES,
    st.one_of(st.none(), st.none(), st.none(), st.integers(1, 4000)),
)
