"""`python -m installer --frozen DIR --arch ARCH --version V --epoch SECONDS --out FILE`.

A shell script (`installer.sh`) with a compressed tar after its last line: the frozen program, and
the manual pages in `share/man`. The same input makes the same bytes. The checksum in the script is
of the whole file but the line of the checksum.
"""

import argparse
import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from frozen.architectures import ARCHITECTURES, Architecture
from frozen.tree import OLDEST_GLIBC
from packages import manual

from airside.cli.main import airside

_SCRIPT = Path(__file__).with_name("installer.sh")
_SUM_LINE = "SUM=@SUM@\n"


def manual_pages(epoch: int) -> dict[str, bytes]:
    """Returns the compressed manual pages, by their path below the program's directory."""
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    return {
        f"share/man/man{name[-1]}/{name}.gz": gzip.compress(text.encode(), mtime=0)
        for name, text in sorted(manual.pages(airside, date).items())
    }


def packed(directory: Path, epoch: int, more: Mapping[str, bytes]) -> bytes:
    """Returns the files of a directory, in the order of their names, then `more`, as a tar.gz."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            info = archive.gettarinfo(path, str(path.relative_to(directory)))
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = epoch
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
        for name, data in more.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), epoch, 0o644
            info.uname = info.gname = "root"
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(tar.getvalue(), compresslevel=9, mtime=0)


def self_extracting(directory: Path, arch: Architecture, version: str, epoch: int) -> bytes:
    """Returns the whole file for a frozen program."""
    pages = manual_pages(epoch)
    payload = packed(directory, epoch, pages)
    unpacked = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    unpacked += sum(map(len, pages.values()))
    values = {
        "VERSION": version,
        "ARCH": arch.name,
        "MACHINE": arch.machine,
        "GLIBC": ".".join(map(str, OLDEST_GLIBC)),
        "ID": hashlib.sha256(payload).hexdigest()[:12],
        "SIZE": str(len(payload)),
        "UNPACKED_KB": str(unpacked // 1024 + 1024),
    }
    for script in _with_offsets(_SCRIPT.read_text(encoding="utf-8"), values):
        summed = script.replace(_SUM_LINE, "").encode() + payload
        whole = script.replace("@SUM@", hashlib.sha256(summed).hexdigest()).encode()
        if f"OFFSET={len(whole)}\n".encode() in whole:
            return whole + payload
    raise AssertionError("the offset does not settle")


def _with_offsets(script: str, values: dict[str, str]) -> Iterator[str]:
    """The script with everything but its checksum; its own length is in it, so it is guessed."""
    for name, value in {**values, "LINES": str(script.count("\n"))}.items():
        script = script.replace(f"@{name}@", value)
    length = len(script.encode()) - len("@SUM@") + 64 - len("@OFFSET@")
    for digits in range(3, 8):
        yield script.replace("@OFFSET@", str(length + digits))


def main() -> None:
    parser = argparse.ArgumentParser(prog="installer", description="Build the .run file.")
    parser.add_argument("--frozen", type=Path, required=True)
    parser.add_argument("--arch", choices=ARCHITECTURES, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    arch = ARCHITECTURES[given.arch]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    data = self_extracting(given.frozen, arch, given.version, given.epoch)
    given.out.write_bytes(data)
    given.out.chmod(0o755)
    print(f"{given.out}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
