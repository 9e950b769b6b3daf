"""Finds the one directory of a tar in which its images are: Zarf packages, CNAB bundles. Pure.

What always holds: only a tar without any document of images at its top is looked into, and only one
directory is read; with several, nothing says which of them is meant.
"""

import re

from airside.archive.formats.docker_legacy import is_legacy
from airside.archive.formats.docker_manifest import MANIFEST_JSON, REPOSITORIES
from airside.archive.formats.index_json import INDEX_JSON
from airside.archive.formats.oci_layout import LAYOUT_FILE

ZARF = "zarf.yaml"
_DEPTH = 6
_LAYER = re.compile(
    r"(?:sha256:)?[0-9a-f]{64}(?:\.json|\.tar(?:\.gz)?|/layer\.tar)?|[^/]+\.tar(?:\.gz)?"
)


def nested_directories(files: frozenset[str]) -> list[str]:
    """Returns the directories that hold an OCI layout or a docker-archive, each with a `/`."""
    documents = (name.rpartition("/") for name in files)
    found = {
        (f"{folder}/", name)
        for folder, _, name in documents
        if folder and name in {INDEX_JSON, MANIFEST_JSON} and folder.count("/") < _DEPTH
    }
    is_layout = {folder for folder, _ in found if f"{folder}{LAYOUT_FILE}" in files}
    open_ones = {folder for folder, _ in found} - is_layout
    for name in files if open_ones else ():
        folder, rest = _split(name, open_ones)
        if folder and (rest.startswith("blobs/") or _LAYER.fullmatch(rest)):
            is_layout.add(folder)
    return sorted(is_layout)


def _split(name: str, folders: set[str]) -> tuple[str, str]:
    """Splits a name behind the longest of these folders that it is in; ("", "") if in none."""
    parts = name.split("/")
    for count in range(min(len(parts) - 1, _DEPTH + 1), 0, -1):
        folder = "/".join(parts[:count]) + "/"
        if folder in folders:
            return folder, name[len(folder) :]
    return "", ""


def nested_directory(files: frozenset[str]) -> str:
    """Returns the only directory with images, with a `/`; "" if there are images at the top."""
    tops = {INDEX_JSON, MANIFEST_JSON, LAYOUT_FILE, REPOSITORIES}
    if tops & files or is_legacy(files) or any(name.startswith("blobs/") for name in files):
        return ""
    found = nested_directories(files)
    return found[0] if len(found) == 1 else ""


def nested_note(folder: str, files: frozenset[str]) -> str:
    """Returns the note on an archive whose images are in a directory of it."""
    what = "this is a Zarf package; its" if ZARF in files else "the archive's"
    return f"{what} images are in the directory {folder[:-1]!r:.200}; what lies beside is not read"
