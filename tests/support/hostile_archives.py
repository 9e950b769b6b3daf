"""Archives and documents that are small and ask for much: for memory, time or rows of the catalog.

Each builder makes the members of one archive, by name, in a size that its caller gives.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airside.oci.model import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST

from .images import compact, sha256

Members = dict[str, bytes]
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
IMAGE_NAME = "io.containerd.image.name"
LAYER = bytes(1024)
AMD64 = {"os": "linux", "architecture": "amd64"}


def blob(data: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{sha256(data).hex}", data


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(sha256(data)), "size": len(data), **more}


def config(*, layers: int = 1, **more: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [str(sha256(LAYER))] * layers}
    return compact({**AMD64, "rootfs": rootfs, **more})


def image(*, layers: int = 1, **more: Any) -> tuple[bytes, Members]:
    """Returns the manifest of an image that lists one layer many times, and its blobs."""
    about = config(layers=layers)
    manifest = manifest_of(about, layers=layers, **more)
    return manifest, dict([blob(about), blob(LAYER), blob(manifest)])


def manifest_of(about: bytes, *, layers: int = 1, **more: Any) -> bytes:
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(about, OCI_CONFIG),
        "layers": [described(LAYER, OCI_LAYER)] * layers,
    }
    return compact({**value, **more})


def index(entries: Iterable[Mapping[str, Any]], **more: Any) -> bytes:
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return compact({**value, **more})


def layout(blobs: Members, *roots: Mapping[str, Any]) -> Members:
    return {"oci-layout": LAYOUT, **blobs, "index.json": index(roots)}


def named(data: bytes, name: str, media_type: str = OCI_INDEX) -> dict[str, Any]:
    return described(data, media_type, annotations={IMAGE_NAME: name})


def nested(times: int, deep: int) -> tuple[bytes, list[bytes], Members]:
    """Returns an index that lists one child many times, so many deep, with all documents."""
    below, blobs = image()
    documents, media_type = [below], OCI_MANIFEST
    for level in range(deep):
        about = described(below, media_type, platform=AMD64)
        below = index([about] * times, annotations={"level": str(level)})
        media_type = OCI_INDEX
        documents.append(below)
        blobs |= [blob(below)]
    return below, documents, blobs


def one_child_listed_often(times: int = 1000, deep: int = 3) -> Members:
    root, _, blobs = nested(times, deep)
    return layout(blobs, named(root, "example.com/often:1"))


def many_names(count: int = 300_000) -> Members:
    about = config()
    tags = [f"a:{number}" for number in range(count)]
    entry = {"Config": f"{sha256(about).hex}.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}
    return {
        f"{sha256(about).hex}.json": about,
        "l/layer.tar": LAYER,
        "manifest.json": compact([entry]),
    }


def many_images(count: int = 20_000) -> Members:
    """One image that `manifest.json` lists many times."""
    [(name, about)] = [(f"{sha256(config()).hex}.json", config())]
    entry = {"Config": name, "Layers": ["l"]}
    images = [{**entry, "RepoTags": [f"b:{number}"]} for number in range(count)]
    return {name: about, "l": LAYER, "manifest.json": compact(images)}


def many_repositories(names: int = 5_000, layers: int = 5_000) -> Members:
    """Few names and few blobs, but each name is a repository that gets a row for each blob."""
    about = config(layers=layers)
    blobs = [b"%d" % number for number in range(layers)]
    value = {
        "schemaVersion": 2,
        "config": described(about, OCI_CONFIG),
        "layers": [described(data, f"{OCI_LAYER}+gzip") for data in blobs],
    }
    manifest = compact(value)
    roots = [named(manifest, f"example.com/r{number}:1", OCI_MANIFEST) for number in range(names)]
    return layout(dict(map(blob, [about, manifest, *blobs])), *roots)


def many_referrers(names: int, referrers: int) -> tuple[Members, Members]:
    """An image in many repositories, and an archive of its referrers, which belong to each."""
    manifest, blobs = image()
    roots = [named(manifest, f"example.com/s{number}:1", OCI_MANIFEST) for number in range(names)]
    subject, about = described(manifest, OCI_MANIFEST), config()
    each = [
        manifest_of(about, subject=subject, annotations={"n": str(number)})
        for number in range(referrers)
    ]
    others = dict(map(blob, [LAYER, about, *each]))
    return layout(blobs, *roots), layout(others, *(described(one, OCI_MANIFEST) for one in each))


def many_layers(count: int = 20_000) -> Members:
    manifest, blobs = image(layers=count)
    return layout(blobs, named(manifest, "example.com/layers:1", OCI_MANIFEST))


def many_entries(count: int = 12_000) -> Members:
    """One root that `index.json` lists under many names that are only a tag."""
    manifest, blobs = image()
    roots = [named(manifest, f"t{number}", OCI_MANIFEST) for number in range(count)]
    return layout(blobs, *roots)


def many_configs(count: int = 200, diff_ids: int = 50_000) -> Members:
    """Configs of megabytes, each with diff IDs of its own number."""
    blobs: Members = dict([blob(LAYER)])
    roots = []
    for number in range(count):
        about = config(layers=diff_ids, author=str(number))
        manifest = manifest_of(about)
        blobs |= [blob(about), blob(manifest)]
        roots.append(described(manifest, OCI_MANIFEST))
    return layout(blobs, *roots)


def many_annotations(documents: int = 40, count: int = 60_000) -> Members:
    """Manifests whose annotations take many times their text once they are parsed."""
    about = config()
    blobs: Members = dict([blob(LAYER), blob(about)])
    roots = []
    for number in range(documents):
        annotations = {f"{number}.{each}": "" for each in range(count)}
        manifest = manifest_of(about, annotations=annotations)
        blobs |= [blob(manifest)]
        roots.append(described(manifest, OCI_MANIFEST))
    return layout(blobs, *roots)


def wide_annotations(documents: int = 7, chars: int = 4_000_000) -> Members:
    """Manifests with long texts, each character of which takes four bytes for one emoji's sake."""
    about = config()
    blobs: Members = dict([blob(LAYER), blob(about)])
    roots = []
    for number in range(documents):
        text = f"\U0001f600{number}" + "x" * chars
        manifest = json.dumps(
            json.loads(manifest_of(about, annotations={"a": text})), ensure_ascii=False
        ).encode()
        blobs |= [blob(manifest)]
        roots.append(described(manifest, OCI_MANIFEST))
    return layout(blobs, *roots)


def empty_lists(count: int = 1_300_000) -> Members:
    return {"oci-layout": LAYOUT, "index.json": b"[" + b"[]," * count + b"[]]"}


def damaged_below_many_roots(roots: int = 3_000, manifests: int = 3_000) -> Members:
    """Many indexes above one index, whose manifests all have another config's diff IDs."""
    about = config(layers=1)
    wrong = compact(
        json.loads(about) | {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}}
    )
    each = [manifest_of(wrong, annotations={"n": str(number)}) for number in range(manifests)]
    inner = index(described(manifest, OCI_MANIFEST) for manifest in each)
    outer = [index([described(inner, OCI_INDEX)], annotations={"n": str(n)}) for n in range(roots)]
    blobs = dict(map(blob, [LAYER, wrong, inner, *each, *outer]))
    return layout(blobs, *(described(root, OCI_INDEX) for root in outer))


def old_images(count: int = 40, fields: int = 80_000) -> Members:
    """Images of Docker before 1.10 whose documents have many small fields."""
    members: Members = {}
    repositories = {}
    for number in range(count):
        v1_id = f"{number:064x}"
        value = {"id": v1_id, "x": [{}] * fields}
        members |= {f"{v1_id}/json": compact(value), f"{v1_id}/layer.tar": LAYER}
        repositories[str(number)] = v1_id
    return {**members, "repositories": compact({"example.com/old": repositories})}


def long_member_names(count: int = 90_000, chars: int = 4_000) -> Members:
    return {f"{number:05d}{'n' * chars}": b"" for number in range(count)}


def long_texts(names: int = 9_000, chars: int = 400_000) -> Members:
    """An index whose entry attests a digest that is a long text, under many names."""
    manifest, blobs = image()
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": "sha256:" + "x" * chars,
    }
    root = index(
        [
            described(manifest, OCI_MANIFEST, platform=AMD64),
            described(manifest, OCI_MANIFEST, annotations=annotations),
        ]
    )
    blobs |= [blob(root)]
    about = described(root, OCI_INDEX)
    names_of = ({IMAGE_NAME: f"example.com/text:{number}"} for number in range(names))
    return layout(blobs, *({**about, "annotations": each} for each in names_of))


def write_tar(path: Path, members: Mapping[str, bytes], *, compress: bool = False) -> Path:
    """Writes a tar, with gzip if asked, beside `path` and renames it."""
    beside = path.with_name(path.name + ".part")
    with (
        tarfile.open(beside, "w:gz" if compress else "w", compresslevel=1)
        if compress
        else (tarfile.open(beside, "w")) as tar
    ):
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    beside.rename(path)
    return path
