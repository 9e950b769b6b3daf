"""Guesses what a file is that is no image archive, and says what to do about it. Pure.

Called only for files without images: a guess here never decides what is imported.
"""

import contextlib
import re
from collections.abc import Iterable

from airside.archive.formats.nested import ZARF, nested_directories
from airside.archive.formats.plan import ReadMember
from airside.core.errors import InputError
from airside.oci.strict_json import load_json

_TRANSPORT = "Directory Transport Version"
_ROOT = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root"}
    | {"run", "sbin", "srv", "sys", "tmp", "usr", "var"}
)
_ENOUGH_ROOT = 3
_PACKED = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4")
_DISKS = (".ovf", ".vmdk", ".qcow2", ".vhd", ".vhdx")
_SKOPEO = "`skopeo copy dir:DIRECTORY oci-archive:FILE.tar:NAME:TAG`"
_SERVE = "`skopeo copy docker://HOST/NAME:TAG oci-archive:FILE.tar:NAME:TAG`"
_STORAGE = re.compile(r"(?:.*/)?docker/registry/v2/(?:blobs|repositories)/.*")
_IMGPKG_LAYER = re.compile(r"(?:.*/)?sha256-[0-9a-f]{64}\.tar\.gz")
_IMGPKG = (
    "this is a tar of imgpkg (`imgpkg copy --to-tar`), which only imgpkg reads: copy it to a "
    "registry with `imgpkg copy --tar FILE --to-repo HOST/NAME`, and its images from there with "
    "`skopeo copy --all docker://HOST/NAME@DIGEST oci-archive:FILE.tar:NAME:TAG`"
)
_TEXT = re.compile(rb"(?!\s*[{\[<])[\t\r\x20-\x7e\x80-\xff]+\n")

FILE_SYSTEM = (
    "this looks like the file system of a container (`docker export`), not an image: "
    "use `docker save` or `podman save`"
)
TEXT = "the file is text, not an archive; if it is a list of images, let its name end in .txt"

SCHEMA_1 = {
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
}
ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"


def media_type_hint(media_type: str) -> str:
    """Returns the name of an obsolete media type of documents and what to do; "" for others."""
    if media_type in SCHEMA_1:
        return (
            "a Docker schema 1 manifest, which no current tool runs: copy the image again, with "
            "`skopeo copy --format v2s2` or a tool of today"
        )
    if media_type == ARTIFACT_MANIFEST:
        return (
            "an OCI artifact manifest, which was removed from the specification: copy the "
            "artifact again with a tool of today"
        )
    return ""


def describe_single_manifest(raw: bytes, files: frozenset[str], read: ReadMember) -> str:
    """Returns what an archive is whose `manifest.json` is an object and not a list."""
    version = ""
    if "version" in files:
        with contextlib.suppress(InputError):
            version = read("version")[:100].decode("utf-8", "replace")
    with contextlib.suppress(InputError):
        value = load_json(raw, "manifest.json")
        if isinstance(value, dict) and value.get("schemaVersion") == 1:
            return f"its manifest.json is {media_type_hint(min(SCHEMA_1))}"
    if version.startswith(_TRANSPORT):
        what = "this is a directory of skopeo's or podman's `dir:` transport"
    else:
        what = "its manifest.json is a single manifest, as in a directory of the `dir:` transport"
    return f"{what}, which has no image name: make an archive of the directory with {_SKOPEO}"


def describe_foreign_list(raw: bytes, files: frozenset[str]) -> str:
    """Returns what an archive is whose `manifest.json` lists images in a form of its own; or ""."""
    if any(_IMGPKG_LAYER.fullmatch(name) for name in files):
        return _IMGPKG
    value: object = None
    with contextlib.suppress(InputError):
        value = load_json(raw, "manifest.json")
    entries = value if isinstance(value, list) else []
    own = [e for e in entries if isinstance(e, dict) and {"Image", "ImageIndex"} <= e.keys()]
    return _IMGPKG if own and len(own) == len(entries) else ""


def guess_contents(files: frozenset[str]) -> str:
    """Returns what a tar without the documents of an image archive seems to be; or ""."""
    if ".dockerenv" in files or _looks_like_root(files):
        return FILE_SYSTEM
    bundle = _bundle(files)
    if bundle:
        return bundle
    nested = _first(files, ("/index.json", "/manifest.json"))
    if nested:
        folder = nested.rpartition("/")[0]
        return f"there is one in {folder!r:.200}: pack the contents of that directory"
    if _first(files, ("chart.yaml",)):
        return "this looks like a Helm chart: drop it as the .tgz file that `helm package` makes"
    disk, packed = _first(files, _DISKS), _first(files, _PACKED)
    if disk:
        return f"this looks like a virtual machine ({disk:.200}), not an image of a container"
    return f"it holds other archives ({packed:.200}): unpack it" if packed else ""


def describe_storage(names: Iterable[str]) -> str:
    """Returns what to do with the storage of a registry, if one of the paths is in it; or ""."""
    if not any(_STORAGE.fullmatch(name) for name in names):
        return ""
    return (
        "this is the storage of a registry (docker/registry/v2): start a registry on it, and copy "
        f"its images from there with {_SERVE}"
    )


def _bundle(files: frozenset[str]) -> str:
    """Returns what a tar is that holds several layouts, or images in a form of its own; or ""."""
    storage = describe_storage(files)
    if storage:
        return storage
    layouts = nested_directories(files)
    if len(layouts) > 1:
        shown = ", ".join(repr(folder[:-1]) for folder in layouts[:3])
        more = ", …" if len(layouts) > 3 else ""
        return f"there are {len(layouts)}, in {shown:.200}{more}: pack each of them by itself"
    if ZARF in files:
        return "this is a Zarf package without images: it brings none to a node"
    return ""


def _looks_like_root(files: frozenset[str]) -> bool:
    tops = {name.partition("/")[0] for name in files if "/" in name}
    return len(tops & _ROOT) >= _ENOUGH_ROOT


def _first(files: frozenset[str], suffixes: tuple[str, ...]) -> str:
    return min((name for name in files if name.lower().endswith(suffixes)), default="")


def is_text(head: bytes) -> bool:
    """Returns True if the first bytes are a line of text, as in a list of images; no tar has one.

    The tar reader recognises JSON and HTML.
    """
    return bool(_TEXT.match(head)) and b"\0" not in head
