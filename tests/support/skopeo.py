"""skopeo as users run it, and what a pull brought."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from airside.oci.digest import Digest
from support.waiting import LIMIT_SECONDS


def run(*words: object) -> str:
    """Run a program that must succeed; gives what it printed."""
    result = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert result.returncode == 0, (words, result.stderr.decode(errors="replace"))
    return result.stdout.decode(errors="replace")


def skopeo(*words: object) -> str:
    return run("skopeo", "--insecure-policy", *words)


def pull(registry: str, name: str, directory: Path, *, arch: str = "") -> set[Digest]:
    """Pull with skopeo, unchanged, and hash what came: manifests and blobs by their real digest.

    All platforms; with `arch` (`arm64`, `arm/v7`) only that one of an index, which skopeo picks.
    """
    architecture, _, variant = arch.partition("/")
    which = ["--override-arch", architecture] if arch else []
    which += ["--override-variant", variant] if variant else []
    copy = ["copy", "--preserve-digests", "--src-tls-verify=false", *([] if arch else ["--all"])]
    directory.parent.mkdir(parents=True, exist_ok=True)
    skopeo(*which, *copy, f"docker://{registry}/{name}", f"dir:{directory}")
    return set(digests_of(directory))


def digests_of(directory: Path) -> Iterator[Digest]:
    """The digests of all files of a `dir:` copy; a blob's name must be its digest."""
    for path in directory.iterdir():
        if path.name == "version":
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if path.name != "manifest.json":
            assert path.name.removesuffix(".manifest.json") == found
        yield Digest("sha256", found)
