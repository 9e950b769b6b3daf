"""What an archive holds, read apart from the code under test: tarfile, json and hashlib.

Documents of an OCI index are kept byte for byte; for
a docker-archive the manifest is built as containerd's importer builds it.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCKER = "application/vnd.docker."
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Tree:
    """All that a root leads to: what is there, with its size, and what is not."""

    held: Mapping[str, int]
    absent: frozenset[str]


@dataclass(frozen=True)
class Contents:
    """`names`: reference → digest of its root; `unnamed`: roots that no reference leads to."""

    format: str
    names: Mapping[str, str]
    unnamed: frozenset[str]
    trees: Mapping[str, Tree]

    @property
    def roots(self) -> set[str]:
        return {*self.names.values(), *self.unnamed}

    @property
    def held(self) -> set[str]:
        return {digest for tree in self.trees.values() for digest in tree.held}

    @property
    def absent(self) -> set[str]:
        return {digest for tree in self.trees.values() for digest in tree.absent}


def read_contents(path: Path, _key: str = "") -> Contents:
    """Of a plain tar or a layout directory."""
    files = dict(_files(path))
    roots = json.loads(files["index.json"])["manifests"] if "index.json" in files else None
    return _of_layout(files, roots) if roots is not None else _of_docker_archive(files)


def read_docker_archive(path: Path, _key: str = "") -> Contents:
    """The same by `manifest.json`, whatever is beside it."""
    return _of_docker_archive(dict(_files(path)))


def read_below(folder: str) -> Callable[[Path, str], Contents]:
    """The same of a layout that lies in a directory of a tar."""

    def read(path: Path, _key: str) -> Contents:
        found = {n.removeprefix(f"{folder}/"): d for n, d in _files(path) if n.startswith(folder)}
        return _of_layout(found, json.loads(found["index.json"])["manifests"])

    return read


def read_with_loose(path: Path, _key: str = "") -> Contents:
    """The same of a layout whose index does not list all manifests among the blobs."""
    files = dict(_files(path))
    roots = json.loads(files["index.json"])["manifests"]
    known = {root["digest"] for root in roots}
    for name, raw in files.items():
        is_manifest = name.startswith("blobs/") and raw.startswith(b'{"schemaVersion"')
        if is_manifest and digest_of(raw) not in known:
            roots.append(_descriptor(json.loads(raw)["mediaType"], raw))
    return _of_layout(files, roots)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file():
                yield str(file.relative_to(path)), file.read_bytes()
        return
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            content = None if member.isdir() else tar.extractfile(member)  # follows links
            if content is not None:
                yield member.name.removeprefix("./"), content.read()


# OCI layouts


def _of_layout(files: Mapping[str, bytes], entries: list[dict[str, Any]]) -> Contents:
    names: dict[str, str] = {}
    for entry in entries:
        annotations = entry.get("annotations", {})
        name = annotations.get(IMAGE_NAME) or annotations.get(REF_NAME, "")
        if any(mark in name for mark in "/:"):
            names[full_name(name)] = entry["digest"]
    trees = {entry["digest"]: _tree(files, entry) for entry in entries}
    unnamed = frozenset(trees) - set(names.values())
    return Contents("oci-layout", names, unnamed, trees)


def _tree(files: Mapping[str, bytes], root: Mapping[str, Any]) -> Tree:
    held: dict[str, int] = {}
    absent: set[str] = set()
    todo = [root]
    while todo:
        descriptor = todo.pop()
        digest = descriptor["digest"]
        raw = files.get("blobs/" + digest.replace(":", "/"))
        if raw is None:
            absent.add(digest)
            continue
        assert digest_of(raw, digest.partition(":")[0]) == digest
        assert len(raw) == descriptor["size"]
        held[digest] = len(raw)
        if "manifest" in descriptor["mediaType"] or "index" in descriptor["mediaType"]:
            document = json.loads(raw)
            todo += document.get("manifests", []) + document.get("layers", [])
            todo += [document["config"]] if "config" in document else []
    return Tree(held, frozenset(absent))


# docker-archives


def _of_docker_archive(files: Mapping[str, bytes]) -> Contents:
    names: dict[str, str] = {}
    trees: dict[str, Tree] = {}
    for entry in json.loads(files["manifest.json"]):
        config, layers = files[entry["Config"]], [files[name] for name in entry["Layers"]]
        manifest = _manifest(config, layers)
        root = digest_of(manifest)
        held = {digest_of(raw): len(raw) for raw in (manifest, config, *layers)}
        trees[root] = Tree(held, frozenset())
        names |= dict.fromkeys(map(full_name, entry["RepoTags"] or []), root)
    unnamed = frozenset(trees) - set(names.values())
    return Contents("docker-archive", names, unnamed, trees)


def _manifest(config: bytes, layers: list[bytes]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER + "distribution.manifest.v2+json",
        "config": _descriptor(DOCKER + "container.image.v1+json", config),
        "layers": [_descriptor(_layer_type(raw), raw) for raw in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _layer_type(raw: bytes) -> str:
    packed = raw.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    return DOCKER + ("image.rootfs.diff.tar.gzip" if packed else "image.rootfs.diff.tar")


def _descriptor(media_type: str, raw: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw)}


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def full_name(name: str) -> str:
    """As Docker reads it."""
    host, slash, path = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = "docker.io", name if slash else f"library/{name}"
    return f"{host}/{path}" + ("" if ":" in path else ":latest")
