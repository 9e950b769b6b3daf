"""The files of the image beneath the program: the loader and the C library of Debian, little else.

There is no shell and no package manager. The frozen program has every other library itself.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from frozen.architectures import Architecture

PACKAGES = ("libc6", "ca-certificates")
_LIBRARIES = ("libc", "libdl", "libm", "libpthread", "libresolv", "librt", "libutil")
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_DIRECTORIES = (
    *("dev", "etc", "host", "proc", "run", "sys", "tmp", "usr/bin"),
    *("var/lib/airside/data", "var/lib/airside/images"),
)
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def make_root(debian: Path, arch: Architecture, root: Path) -> None:
    """Makes the directory `root` of the unpacked packages below `debian`. Raises SystemExit."""
    shutil.rmtree(root, ignore_errors=True)
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/lib/airside/data").chmod(0o700)
    for name, text in _TEXTS.items():
        (root / name).write_text(text, encoding="utf-8")
    libraries = Path("lib") / arch.triplet
    names = [f"{name}.so.*" for name in (*_LIBRARIES, "ld-linux-*")]
    _copy(_found(debian / libraries, names), root / libraries)
    _loader(debian, root)
    _certificates(debian, root)
    for package in PACKAGES:
        place = Path("usr/share/doc") / package
        _copy([debian / place / "copyright"], root / place)
    (root / "usr/bin/airside").symlink_to("/opt/airside/bin/airside")


def _loader(debian: Path, root: Path) -> None:
    """Copies the loader's name that programs have in them: /lib64/… or /lib/…, a link."""
    for name in ("lib64", "lib"):
        links = sorted((debian / name).glob("ld-linux-*")) if (debian / name).is_dir() else []
        _copy(links, root / name)


def _certificates(debian: Path, root: Path) -> None:
    found = sorted((debian / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    if not found:
        raise SystemExit("image: no certificates in Debian's package ca-certificates")
    bundle = root / CERTIFICATES
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(b"".join(path.read_bytes().strip() + b"\n" for path in found))


def _found(directory: Path, patterns: Iterable[str]) -> list[Path]:
    found = []
    for pattern in patterns:
        matches = sorted(directory.glob(pattern))
        if not matches:
            raise SystemExit(f"image: no {pattern} in {directory}")
        found += matches
    return found


def _copy(paths: Iterable[Path], directory: Path) -> None:
    for path in paths:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, directory / path.name, follow_symlinks=False)
