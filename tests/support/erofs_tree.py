"""What a layer of erofs contains once it is mounted: `python -m support.erofs_tree FILE...`.

In a mount namespace of its own, so that no mount stays. Prints a list in JSON with a tree for each
file: for each path its kind, attributes, and the digest of its bytes.
"""

import ctypes
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.waiting import LIMIT_SECONDS

Tree = dict[str, list[object]]
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_UNTOLD = frozenset({"trusted.overlay.origin"})
"""mkfs.erofs marks some directories with it, of which overlayfs reads nothing here."""


def trees(*layers: Path) -> list[Tree]:
    """Returns the tree of each layer. Needs root."""
    done = subprocess.run(
        [sys.executable, "-m", "support.erofs_tree", *layers],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found: list[Tree] = json.loads(done.stdout)
    return found


def _main(layers: Sequence[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "cannot have a mount namespace")
    found = []
    with tempfile.TemporaryDirectory() as target:
        for layer in layers:
            subprocess.run(["mount", "-t", "erofs", "-o", "ro", layer, target], check=True)
            try:
                found.append(_tree(os.fsencode(target)))
            finally:
                subprocess.run(["umount", target], check=True)
    json.dump(found, sys.stdout)


def _tree(top: bytes) -> Tree:
    paths = [top]
    for directory, names, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in (*names, *files)]  # noqa: PTH118 - bytes
    first: dict[int, str] = {}
    found: Tree = {}
    for path in sorted(paths):
        name = path.removeprefix(top).decode("utf-8", "backslashreplace") or "/"
        about = os.lstat(path)
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False).hex()
            for key in os.listxattr(path, follow_symlinks=False)
            if key not in _UNTOLD
        }
        content = ""
        if stat.S_ISREG(about.st_mode):
            with open(path, "rb") as file:  # noqa: PTH123 - bytes
                content = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(path).hex()  # noqa: PTH115 - bytes
        found[name] = [
            oct(about.st_mode),
            about.st_uid,
            about.st_gid,
            about.st_nlink,
            first.setdefault(about.st_ino, name),
            about.st_rdev,
            0 if stat.S_ISDIR(about.st_mode) else about.st_size,
            about.st_mtime_ns,
            attributes,
            content,
        ]
    return found


if __name__ == "__main__":
    _main(sys.argv[1:])
