"""Layers of a directory: the same bytes for the same files, whenever and by whomever made."""

import gzip
import hashlib
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airside.archive.writer.image_spec import OCI_LAYER_GZIP, Layer
from airside.archive.writer.member import Blob
from airside.oci.digest import Digest


@dataclass(frozen=True)
class PackedLayer:
    """`diff_id`: digest of the tar before compression. `created_by`: for the image's history."""

    layer: Layer
    diff_id: str
    created_by: str


def pack(root: Path, prefix: str, target: Path, created_by: str) -> PackedLayer:
    """Packs the files below `root` as a layer in the file `target`, each name after `prefix`.

    Owner and time are 0, members are sorted; modes keep only whether the owner may execute, but for
    the directories of a layer without a prefix.
    """
    plain = target.with_suffix(".tar")
    with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in _above(prefix):
            tar.addfile(_directory(name))
        for path in sorted(root.rglob("*")):
            _add(tar, path, f"{prefix}{path.relative_to(root).as_posix()}", exact=not prefix)
    with (
        plain.open("rb") as source,
        target.open("wb") as out,
        gzip.GzipFile("", "wb", 9, out, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 1 << 20)
    diff_id = _sha256(plain)
    plain.unlink()
    digest, size_bytes = Digest("sha256", _sha256(target)), target.stat().st_size
    blob = Blob(digest, size_bytes, lambda: target.open("rb"))
    return PackedLayer(Layer(blob, OCI_LAYER_GZIP), f"sha256:{diff_id}", created_by)


def _above(prefix: str) -> Iterator[str]:
    parts = prefix.strip("/").split("/") if prefix else []
    for number in range(len(parts)):
        yield "/".join(parts[: number + 1])


def _directory(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{name}/")
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info


def _add(tar: tarfile.TarFile, path: Path, name: str, *, exact: bool) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(info)
    elif stat.S_ISDIR(found.st_mode):
        tar.addfile(_directory(name, stat.S_IMODE(found.st_mode) if exact else 0o755))
    else:
        info = tarfile.TarInfo(name)
        info.size, info.mode = found.st_size, 0o755 if found.st_mode & 0o100 else 0o644
        with path.open("rb") as file:
            tar.addfile(info, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
