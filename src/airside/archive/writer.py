"""Writes image archives: docker-archives, and OCI layouts in a tar.

An archive is first a list of `Member`s (`docker_members`, `oci_members`: small and pure), then
`write_archive` streams it. What always holds:

- the same images give the same bytes: times and owners are 0, the order is fixed;
- layers are streamed in chunks, never held;
- every blob is hashed while it is copied, so that nothing is written under a wrong digest;
- the document that names the images comes last, as other tools write it.

Left to the caller: whether the layers' digests agree with the config's diff IDs. References:
OCI image-layout.md, Docker image-spec v1.2.
"""

import contextlib
import errno
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

from isal import igzip

from airside.core.errors import (
    DigestMismatchError,
    SizeMismatchError,
    StorageFullError,
    StoreError,
)
from airside.oci.digest import Digest, digest_of, new_hasher
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageConfig,
    parse_config,
)
from airside.oci.reference import fits_ref_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compression: TypeAlias = Literal["none", "gzip", "zstd"]
DockerStyle: TypeAlias = Literal["docker", "skopeo"]

OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
NAME_ANNOTATION = "io.containerd.image.name"
REF_NAME_ANNOTATION = "org.opencontainers.image.ref.name"

_CHUNK_BYTES = 1 << 20
_RECORD_BYTES = 10240
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of known digest and size; `open` gives a new stream, which the writer closes."""

    digest: Digest
    size_bytes: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored: plain or compressed, the media type says which."""

    blob: Blob
    media_type: str = OCI_LAYER


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image of one platform: its config as bytes, its layers, lowest first, and its names.

    Names are written as they are. The manifest is derived; its media type is `media_type`.
    """

    config: bytes
    layers: Sequence[Layer]
    names: tuple[str, ...] = ()
    media_type: str = OCI_MANIFEST

    @property
    def parsed(self) -> ImageConfig:
        return parse_config(self.config, "image config")

    @property
    def manifest(self) -> bytes:
        config_type = DOCKER_CONFIG if self.media_type == DOCKER_MANIFEST else OCI_CONFIG
        document = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": _descriptor(config_type, blob_of(self.config)),
            "layers": [_descriptor(layer.media_type, layer.blob) for layer in self.layers],
        }
        return _json(document)


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An image of several platforms: an index over the manifests of `images`."""

    images: Sequence[ImageSpec]
    names: tuple[str, ...] = ()
    media_type: str = OCI_INDEX

    @property
    def index(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [_root_descriptor(image) for image in self.images],
        }
        return _json(document)


@dataclass(frozen=True, slots=True)
class Member:
    """One tar member: a file with a blob, a symbolic link with a target, else a directory."""

    name: str
    blob: Blob | None = None
    target: str = ""
    mode: int = 0o644


def blob_of(data: bytes) -> Blob:
    """A blob that is held in memory: a document or a small layer."""
    return Blob(digest_of(data), len(data), partial(io.BytesIO, data))


def write_docker_archive(
    out: BinaryIO, images: Sequence[ImageSpec], *, style: DockerStyle = "docker"
) -> None:
    """Write a docker-archive as `docker save` before 25 or skopeo does.

    `out` is only written to, and stays open. Raises VerificationError for a blob that is not
    what it says; what was written is then worthless.
    """
    write_archive(out, docker_members(images, style=style))


def write_oci_archive(
    out: BinaryIO, roots: Sequence[ImageSpec | IndexSpec], *, hybrid: bool = False
) -> None:
    """Write an OCI layout as a tar; `hybrid` adds `manifest.json`, as Docker 25 does.

    `out` is only written to, and stays open. Raises VerificationError for a blob that is not
    what it says; what was written is then worthless.
    """
    write_archive(out, oci_members(roots, hybrid=hybrid))


def write_archive(out: BinaryIO, members: Iterable[Member]) -> None:
    """Stream the members as a tar, with its end marker. `out` needs no `seek` or `tell`."""
    written = 0
    for member in members:
        header = _header(member)
        out.write(header)
        written += len(header)
        if member.blob is not None:
            _copy(out, member.blob, member.name)
            padding = -member.blob.size_bytes % tarfile.BLOCKSIZE
            out.write(bytes(padding))
            written += member.blob.size_bytes + padding
    end = 2 * tarfile.BLOCKSIZE
    out.write(bytes(end + -(written + end) % _RECORD_BYTES))


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.mode = member.mode
    if member.blob is not None:
        info.size = member.blob.size_bytes
    elif member.target:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
    else:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)


def _copy(out: BinaryIO, blob: Blob, name: str) -> None:
    hasher = new_hasher(blob.digest.algorithm)
    left = blob.size_bytes
    with blob.open() as source:
        while left and (chunk := source.read(min(_CHUNK_BYTES, left))):
            hasher.update(chunk)
            out.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise SizeMismatchError(
                f"{name} is not {blob.size_bytes} bytes long, as it should be",
                blob=blob.digest,
                expected=blob.size_bytes,
            )
    if hasher.hexdigest() != blob.digest.hex:
        found = Digest(blob.digest.algorithm, hasher.hexdigest())
        raise DigestMismatchError(
            f"{name} should have digest {blob.digest.short}, its bytes have {found.short}",
            blob=blob.digest,
            expected=blob.digest,
            found=found,
        )


# OCI layouts


def oci_members(
    roots: Sequence[ImageSpec | IndexSpec], *, hybrid: bool = False
) -> Iterator[Member]:
    """The members of an OCI layout: `oci-layout`, blobs by digest, `index.json` last."""
    yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield Member("blobs/")
    yield Member("blobs/sha256/")
    blobs = {blob.digest: blob for root in roots for blob in _blobs(root)}
    for digest in sorted(blobs):
        yield Member(_blob_path(digest), blobs[digest])
    if hybrid:
        yield _file("manifest.json", _json([_hybrid_entry(root) for root in roots]))
    entries = [entry for root in roots for entry in _index_entries(root, tag_only=hybrid)]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    yield _file("index.json", _json(index))


def _blobs(root: ImageSpec | IndexSpec) -> Iterator[Blob]:
    yield blob_of(_document(root))
    if isinstance(root, IndexSpec):
        for image in root.images:
            yield from _blobs(image)
    else:
        yield blob_of(root.config)
        yield from (layer.blob for layer in root.layers)


def _index_entries(root: ImageSpec | IndexSpec, *, tag_only: bool) -> list[dict[str, Any]]:
    """One entry per name, or one without annotations."""
    descriptor = _root_descriptor(root)
    return [
        {**descriptor, "annotations": _annotations(name, tag_only=tag_only)} for name in root.names
    ] or [descriptor]


def _annotations(name: str, *, tag_only: bool) -> dict[str, str]:
    annotations = {NAME_ANNOTATION: name}
    ref_name = _split_tag(name)[1] if tag_only else name
    if ref_name and fits_ref_name(ref_name):
        annotations[REF_NAME_ANNOTATION] = ref_name
    return annotations


def _hybrid_entry(root: ImageSpec | IndexSpec) -> dict[str, Any]:
    """manifest.json has one platform only: the first."""
    image = root.images[0] if isinstance(root, IndexSpec) else root
    return {
        "Config": _blob_path(digest_of(image.config)),
        "RepoTags": list(root.names) or None,
        "Layers": [_blob_path(layer.blob.digest) for layer in image.layers],
    }


def _root_descriptor(root: ImageSpec | IndexSpec) -> dict[str, Any]:
    descriptor = _descriptor(root.media_type, blob_of(_document(root)))
    platform = None if isinstance(root, IndexSpec) else root.parsed.platform
    if platform is not None:
        fields = {
            "architecture": platform.architecture,
            "os": platform.os,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features),
            "variant": platform.variant,
        }
        descriptor["platform"] = {key: value for key, value in fields.items() if value}
    return descriptor


def _document(root: ImageSpec | IndexSpec) -> bytes:
    return root.index if isinstance(root, IndexSpec) else root.manifest


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size_bytes}


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


# docker-archives


def docker_members(
    images: Sequence[ImageSpec], *, style: DockerStyle = "docker"
) -> Iterator[Member]:
    """The members of a docker-archive, `manifest.json` last.

    - `docker`: `<id>/{VERSION,json,layer.tar}`, `<config>.json`, `repositories`; a layer that
      an earlier image has too is a symbolic link to it;
    - `skopeo`: `<diff ID>.tar`, `<id>/layer.tar` a link to it, the rest the same.
    """
    members: dict[str, Member] = {}
    places: dict[Digest, str] = {}
    entries: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        histories = list(_v1_histories(image))
        paths = []
        for layer, diff_id, (v1_id, history) in zip(
            image.layers, image.parsed.diff_ids, histories, strict=True
        ):
            new = list(_layer_members(layer.blob, diff_id, v1_id, places, style))
            new += [_file(f"{v1_id}/VERSION", b"1.0"), _file(f"{v1_id}/json", history)]
            members.update({m.name: m for m in new if m.name not in members})
            paths.append(f"{diff_id.hex}.tar" if style == "skopeo" else f"{v1_id}/layer.tar")
        config = _file(f"{digest_of(image.config).hex}.json", image.config)
        members[config.name] = config
        entries.append({"Config": config.name, "RepoTags": list(image.names), "Layers": paths})
        for repository, tag in map(_split_tag, image.names if histories else ()):
            repositories.setdefault(repository, {})[tag] = histories[-1][0]
    yield from members.values()
    yield _file("repositories", _json(repositories))
    yield _file("manifest.json", _json(entries))


def _layer_members(
    blob: Blob, diff_id: Digest, v1_id: str, places: dict[Digest, str], style: DockerStyle
) -> Iterator[Member]:
    """The directory of a v1 layer and the layer, or a link to where it is already."""
    yield Member(f"{v1_id}/")
    path = f"{v1_id}/layer.tar"
    if style == "skopeo":
        yield Member(f"{diff_id.hex}.tar", blob)
        yield Member(path, target=f"../{diff_id.hex}.tar")
    elif places.setdefault(blob.digest, path) == path:
        yield Member(path, blob)
    else:
        yield Member(path, target=f"../{places[blob.digest]}")


def _v1_histories(image: ImageSpec) -> Iterator[tuple[str, bytes]]:
    """The v1 ID and `json` of each layer. Only the last knows the config, so bases are shared."""
    config: dict[str, Any] = json.loads(image.config)
    diff_ids = image.parsed.diff_ids
    parent = ""
    for number, diff_id in enumerate(diff_ids, start=1):
        history: dict[str, Any] = {"created": _EPOCH, "os": config.get("os", "linux")}
        if number == len(diff_ids):
            history = {k: v for k, v in config.items() if k not in {"rootfs", "history"}}
        if parent:
            history["parent"] = parent
        parent = digest_of(_json([str(diff_id), history])).hex
        yield parent, _json({"id": parent, **history})


def _split_tag(name: str) -> tuple[str, str]:
    """(repository, tag), without judging the name."""
    repository, colon, tag = name.partition("@")[0].rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def _file(name: str, data: bytes) -> Member:
    return Member(name, blob_of(data))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# Output files


@contextlib.contextmanager
def open_compressed(path: Path, compression: Compression = "none") -> Iterator[BinaryIO]:
    """Open a new archive for writing; it appears under `path` when the block ends well.

    Until then it has a hidden name ending in `.part`, which no agent reads. It is not synced.
    Raises StoreError, StorageFullError.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb", buffering=_CHUNK_BYTES) as raw, _compressor(raw, compression) as out:
            yield out
        part.replace(path)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(exc, OSError):
            full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
            reason = exc.strerror or exc
            kind = StorageFullError if full else StoreError
            raise kind(f"can't write {path}: {reason}", path=path) from exc
        raise


@contextlib.contextmanager
def _compressor(raw: BinaryIO, compression: Compression) -> Iterator[BinaryIO]:
    if compression == "gzip":
        gzip = igzip.IGzipFile("", "wb", fileobj=raw, mtime=0)  # type: ignore[no-untyped-call]
        with gzip as out:
            yield cast("BinaryIO", out)
    elif compression == "zstd":
        options = {int(zstd.CompressionParameter.checksum_flag): 1}  # as the `zstd` command does
        with zstd.ZstdFile(raw, "wb", options=options) as out:
            yield cast("BinaryIO", out)
    else:
        yield raw
