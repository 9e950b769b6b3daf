"""Tars of layers with a member that containerd may refuse, and whether it does."""

import io
import tarfile

LONG = "n" * 256


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info.tobuf(tarfile.GNU_FORMAT)


FILE = _info("usr/bin/tool", size=4) + b"tool".ljust(512, b"\0")
END = bytes(1024)


def _sparse(name: str, *, extended: bool = False) -> bytes:
    """A member of the type that GNU tar --sparse --format=gnu writes."""
    block = bytearray(_info(name, b"S", size=512))
    block[386:398], block[398:410] = b"00000000000\0", b"00000001000\0"
    block[483:495] = b"00000010000\0"
    block[482] = extended
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + (bytes(512) if extended else b"") + b"x" * 512


def _pax_sparse() -> bytes:
    """What GNU tar --sparse --format=pax writes: containerd unpacks it."""
    records = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "var/sparse",
        "GNU.sparse.realsize": "4096",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/sparse")
        info.pax_headers, info.size = records, 1024
        tar.addfile(info, io.BytesIO(b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512))
        end = tar.offset
    return out.getvalue()[:end]


def _directory(name: str) -> bytes:
    return _info(name, tarfile.DIRTYPE)


REFUSED: dict[str, tuple[bytes, str]] = {
    "gnu-sparse": (_sparse("var/sparse"), "var/sparse"),
    "gnu-sparse-long-map": (_sparse("var/sparse", extended=True), "var/sparse"),
    "contiguous": (_info("var/seven", b"7"), "var/seven"),
    "dump-directory": (_info("var/dump", b"D"), "var/dump"),
    "volume-label": (_info("label", b"V"), "label"),
    "multi-volume": (_info("var/rest", b"M"), "var/rest"),
    "solaris": (_info("var/acl", b"A"), "var/acl"),
    "unknown": (_info("var/unknown", b"Z"), "var/unknown"),
    "link-elsewhere": (_info("var/link", tarfile.LNKTYPE, "etc/elsewhere"), "var/link"),
    "link-before-target": (
        _info("var/link", tarfile.LNKTYPE, "etc/late") + _info("etc/late"), "var/link",
    ),
    "long-name": (_info(f"var/{LONG}"), f"var/{LONG}"),
    "no-target": (_info("var/symlink", tarfile.SYMTYPE), "var/symlink"),
}  # fmt: skip
TAKEN: dict[str, bytes] = {
    "pax-sparse": _pax_sparse(),
    "link": _info("etc/link", tarfile.LNKTYPE, "usr/bin/tool"),
    "link-dotted": _info("./etc/link", tarfile.LNKTYPE, "./usr/bin/tool"),
    "link-rooted": _info("etc/link", tarfile.LNKTYPE, "/usr/bin/tool"),
    "long-path": _info("/".join(["d" * 90] * 8)),
    "directory": _directory("var"),
    "fifo": _info("var/fifo", tarfile.FIFOTYPE),
    "dangling": _info("var/symlink", tarfile.SYMTYPE, "/nowhere"),
    "global": tarfile.TarInfo.create_pax_global_header({"comment": "git"}),
}


def tar_of(member: bytes) -> bytes:
    return FILE + member + END
