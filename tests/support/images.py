"""Builders of images and archives: the tests' fixtures are made, never kept as binaries.

Everything is deterministic by its seed. Layers with compression `none` or `stored` (gzip with
stored blocks, written here) keep their digests for ever; `gzip` and `zstd` bytes may change with
the library's version. What an archive's images are called and which manifests they have is
computed here, apart from the code under test.
"""

import bz2
import contextlib
import functools
import gzip
import hashlib
import io
import json
import lzma
import random
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import lz4.frame

from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.image_spec import (
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    ImageSpec,
    IndexSpec,
    Layer,
)
from airside.archive.writer.member import Blob, Member, blob_of
from airside.archive.writer.oci_archive import oci_members
from airside.archive.writer.output_file import open_compressed
from airside.archive.writer.tar_stream import write_archive
from airside.oci.digest import Digest
from airside.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)
from airside.oci.platform import Platform
from airside.oci.reference import parse_reference

try:
    from backports import zstd
except ImportError:
    from compression import zstd

CREATED = "1970-01-01T00:00:00Z"
PAGE_BYTES = 4 << 20

_LAYER_TYPES = {
    ("oci", "none"): OCI_LAYER,
    ("oci", "gzip"): OCI_LAYER_GZIP,
    ("oci", "stored"): OCI_LAYER_GZIP,
    ("oci", "zstd"): OCI_LAYER_ZSTD,
    ("docker", "none"): DOCKER_LAYER,
    ("docker", "gzip"): DOCKER_LAYER_GZIP,
    ("docker", "stored"): DOCKER_LAYER_GZIP,
    ("docker", "zstd"): DOCKER_LAYER_GZIP,
}


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# Images


@dataclass(frozen=True)
class TestBlob:
    __test__: ClassVar[bool] = False  # no test, whatever its name says

    raw: bytes
    media_type: str

    @functools.cached_property
    def digest(self) -> Digest:
        return sha256(self.raw)

    @property
    def size_bytes(self) -> int:
        return len(self.raw)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size_bytes,
        }


@dataclass(frozen=True)
class TestLayer(TestBlob):
    """`raw` as it is stored; `tar` without compression."""

    tar: bytes = b""

    @functools.cached_property
    def diff_id(self) -> Digest:
        return sha256(self.tar)


@dataclass(frozen=True)
class TestImage:
    __test__: ClassVar[bool] = False

    manifest: TestBlob
    config: TestBlob
    layers: tuple[TestLayer, ...]
    platform: Platform

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    @property
    def blobs(self) -> tuple[TestBlob, ...]:
        """Manifest, config, layers."""
        return (self.manifest, self.config, *self.layers)

    def spec(self, names: tuple[str, ...] = ()) -> ImageSpec:
        """The same for the writer."""
        layers = [Layer(blob_of(each.raw), each.media_type) for each in self.layers]
        return ImageSpec(self.config.raw, layers, names, self.manifest.media_type)


@dataclass(frozen=True)
class TestIndex:
    __test__: ClassVar[bool] = False

    index: TestBlob
    images: tuple[TestImage, ...]

    @property
    def digest(self) -> Digest:
        return self.index.digest

    @property
    def blobs(self) -> tuple[TestBlob, ...]:
        """The index, then each image's."""
        return (self.index, *(blob for image in self.images for blob in image.blobs))

    def image(self, platform: str) -> TestImage:
        return next(each for each in self.images if str(each.platform) == platform)

    def spec(self, names: tuple[str, ...] = ()) -> IndexSpec:
        return IndexSpec([each.spec() for each in self.images], names, self.index.media_type)


def random_image(
    seed: object,
    *,
    layers: int = 2,
    layer_bytes: int = 20_000,
    platform: str = "linux/amd64",
    compression: str = "none",
    media: str = "oci",
    base: Sequence[TestLayer] = (),
    config: Mapping[str, Any] | None = None,
) -> TestImage:
    """An image of `layers` new layers of about `layer_bytes` each, on top of those of `base`."""
    new = [
        random_layer(
            f"{seed}/{n}", layer_bytes=layer_bytes, compression=compression, media=media, number=n
        )
        for n in range(layers)
    ]
    return image_of([*base, *new], platform=platform, media=media, config=config, label=str(seed))


def image_of(
    layers: Sequence[TestLayer],
    *,
    platform: str = "linux/amd64",
    media: str = "oci",
    config: Mapping[str, Any] | None = None,
    label: str = "",
) -> TestImage:
    """An image of these layers; `label` makes its config, and so its image ID, its own."""
    os, architecture, *variant = platform.split("/")
    document = {
        "created": CREATED,
        "architecture": architecture,
        "os": os,
        **({"variant": variant[0]} if variant else {}),
        "config": {"Cmd": ["/bin/true"], "Labels": {"seed": label}},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        "history": [{"created": CREATED, "created_by": "random_image"} for _ in layers],
        **(config or {}),
    }
    docker = media == "docker"
    raw = TestBlob(compact(document), DOCKER_CONFIG if docker else OCI_CONFIG)
    manifest_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": raw.descriptor,
        "layers": [layer.descriptor for layer in layers],
    }
    return TestImage(
        TestBlob(compact(manifest), manifest_type),
        raw,
        tuple(layers),
        Platform(os, architecture, *variant),
    )


def random_index(
    seed: object,
    platforms: Sequence[str] = ("linux/amd64", "linux/arm64"),
    *,
    layers: int = 2,
    layer_bytes: int = 20_000,
    compression: str = "none",
    media: str = "oci",
) -> TestIndex:
    images = [
        random_image(
            f"{seed}/{platform}",
            layers=layers,
            layer_bytes=layer_bytes,
            platform=platform,
            compression=compression,
            media=media,
        )
        for platform in platforms
    ]
    return index_of(images, media=media)


def index_of(images: Sequence[TestImage], *, media: str = "oci") -> TestIndex:
    media_type = DOCKER_LIST if media == "docker" else OCI_INDEX
    entries = [{**each.manifest.descriptor, "platform": _platform(each)} for each in images]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    return TestIndex(TestBlob(compact(document), media_type), tuple(images))


def _platform(image: TestImage) -> dict[str, str]:
    platform = image.platform
    fields = {"architecture": platform.architecture, "os": platform.os}
    return {**fields, "variant": platform.variant} if platform.variant else fields


def expected_blobs(image: TestImage | TestIndex) -> dict[Digest, int]:
    """What must be held for it: every document, config and layer, with its size."""
    return {blob.digest: blob.size_bytes for blob in image.blobs}


# Layers


def random_layer(
    seed: object,
    *,
    layer_bytes: int = 20_000,
    compression: str = "none",
    media: str = "oci",
    number: int = 0,
) -> TestLayer:
    tar = _layer_tar(str(seed), layer_bytes, number)
    return layer_of(tar, compression=compression, media=media)


def layer_of(tar: bytes, *, compression: str = "none", media: str = "oci") -> TestLayer:
    media_type = _LAYER_TYPES.get((media, compression), DOCKER_LAYER)  # as containerd says
    return TestLayer(compress(tar, compression), media_type, tar)


@functools.lru_cache(maxsize=64)
def _layer_tar(seed: str, layer_bytes: int, number: int) -> bytes:
    """Directories, files, links, a long name, and a whiteout above the first layer."""
    rng = random.Random(seed)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("etc", "usr", "usr/bin", "usr/lib", "var", "var/lib"):
            tar.addfile(_info(name, tarfile.DIRTYPE, mode=0o755))
        tag = f"{rng.getrandbits(32):08x}"
        files = [f"usr/bin/tool-{tag}", f"etc/{tag}.conf", f"usr/lib/lib{tag}.so.1"]
        files.append("/".join(["var/lib", *(f"{tag}-deep-directory-{n}" for n in range(9)), "x"]))
        for name in files:
            data = _file_bytes(rng, layer_bytes // len(files))
            tar.addfile(_info(name, size=len(data), mode=0o755), io.BytesIO(data))
        tar.addfile(_info(f"usr/lib/lib{tag}.so", tarfile.SYMTYPE, f"lib{tag}.so.1", mode=0o777))
        tar.addfile(_info(f"usr/bin/alias-{tag}", tarfile.LNKTYPE, files[0]))
        tar.addfile(_info(f"usr/bin/absolute-{tag}", tarfile.SYMTYPE, "/bin/true", mode=0o777))
        if number:
            tar.addfile(_info("etc/.wh.removed", mode=0))
    return out.getvalue()


def _file_bytes(rng: random.Random, size: int) -> bytes:
    """Half noise, half repetition, as programs are."""
    noise = rng.randbytes((size + 1) // 2)
    return (noise + noise[: len(noise) // 8] * 4 + bytes(size))[:size]


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", *, size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def compress(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if compression == "stored":
        return _stored_gzip(data)
    if compression == "zstd":
        return zstd.compress(data)
    if compression in _OF_TESTS:
        return _OF_TESTS[compression](data)
    assert compression == "none", compression
    return data


_OF_TESTS: Mapping[str, Callable[[bytes], bytes]] = {
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "lz4-bare": lz4.frame.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
"""Compressions that the writer does not know; `lz4-bare` has no checksum."""


def _stored_gzip(data: bytes) -> bytes:
    """Gzip of stored blocks only (RFC 1951, 3.2.4): the same bytes with any library."""
    blocks = [data[start : start + 65535] for start in range(0, len(data), 65535)] or [b""]
    out = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff"]
    for number, block in enumerate(blocks, start=1):
        size = len(block)
        out += [struct.pack("<BHH", number == len(blocks), size, size ^ 0xFFFF), block]
    return b"".join([*out, struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)])


# Archives


Names = str | tuple[str, ...]


@contextlib.contextmanager
def open_output(path: Path, compression: str = "none") -> Iterator[BinaryIO]:
    """A new file, also with the compressions that only tests write."""
    if compression in {"stored", *_OF_TESTS}:
        buffer = io.BytesIO()
        yield buffer
        path.write_bytes(compress(buffer.getvalue(), compression))
    else:
        with open_compressed(path, compression) as out:
            yield out


def docker_archive(
    path: Path,
    images: Mapping[Names, TestImage],
    *,
    compression: str = "none",
    style: str = "docker",
) -> dict[str, Digest]:
    """Write a docker-archive. Returns reference → digest of the manifest containerd would build.

    Names are written as given; the references returned are normalised.
    """
    specs = [image.spec(_names(names)) for names, image in images.items()]
    with open_output(path, compression) as out:
        write_archive(out, docker_members(specs, style=style))
    return {
        str(parse_reference(name)): sha256(containerd_manifest(image))
        for names, image in images.items()
        for name in _names(names)
    }


def containerd_manifest(image: TestImage) -> bytes:
    """The manifest that containerd's importer builds for an image of a docker-archive."""
    config = {**image.config.descriptor, "mediaType": DOCKER_CONFIG}
    layers = [
        {**layer.descriptor, "mediaType": DOCKER_LAYER_GZIP if packed else DOCKER_LAYER}
        for layer in image.layers
        for packed in [layer.raw[:2] == b"\x1f\x8b" or layer.raw[:4] == b"\x28\xb5\x2f\xfd"]
    ]
    return compact(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    )


def oci_archive(
    path: Path,
    images: Mapping[Names, TestImage | TestIndex],
    *,
    compression: str = "none",
    sparse: Collection[str] = (),
    drop_blobs: Collection[Digest] = (),
    hybrid: bool = False,
    no_layout_file: bool = False,
    null_manifests: bool = False,
) -> dict[str, Digest]:
    """Write an OCI layout in a tar. Returns reference → digest of the manifest or index.

    `sparse`: platforms whose blobs are left out (the index still lists them); `drop_blobs`: blobs
    left out one by one; `null_manifests`: an index.json that says so (with `hybrid`, as Docker
    25 writes it). An empty tuple of names makes an image without a name.
    """
    members = _oci_members(images, sparse, drop_blobs, hybrid=hybrid)
    if no_layout_file:
        members = [each for each in members if each.name != "oci-layout"]
    if null_manifests:
        raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": None})
        members[-1] = Member("index.json", blob_of(raw))
    with open_output(path, compression) as out:
        write_archive(out, members)
    return _references(images)


def oci_layout(
    path: Path,
    images: Mapping[Names, TestImage | TestIndex],
    *,
    sparse: Collection[str] = (),
    drop_blobs: Collection[Digest] = (),
) -> dict[str, Digest]:
    """The same as a directory."""
    for member in _oci_members(images, sparse, drop_blobs, hybrid=False):
        target = path / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.blob is not None:
            with member.blob.open() as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
        else:
            target.mkdir(exist_ok=True)
    return _references(images)


def _oci_members(
    images: Mapping[Names, TestImage | TestIndex],
    sparse: Collection[str],
    drop_blobs: Collection[Digest],
    *,
    hybrid: bool,
) -> list[Member]:
    roots = [image.spec(_names(names)) for names, image in images.items()]
    dropped = {digest.hex for digest in drop_blobs} | _sparse(images, sparse)
    members = oci_members(roots, hybrid=hybrid)
    return [each for each in members if each.name.rpartition("/")[2] not in dropped - {""}]


def _sparse(images: Mapping[Names, TestImage | TestIndex], platforms: Collection[str]) -> set[str]:
    """Digests of blobs that only the left-out platforms need."""
    dropped: set[str] = set()
    kept: set[str] = set()
    for root in images.values():
        children = root.images if isinstance(root, TestIndex) else (root,)
        for image in children:
            which = dropped if str(image.platform) in platforms else kept
            which.update(blob.digest.hex for blob in image.blobs)
    return dropped - kept


def _references(images: Mapping[Names, TestImage | TestIndex]) -> dict[str, Digest]:
    return {
        str(parse_reference(name)): image.digest
        for names, image in images.items()
        for name in _names(names)
    }


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


# Sets like those of RKE2


@dataclass(frozen=True)
class Made:
    """An archive and what it holds: reference → manifest digest, reference → image."""

    path: Path
    references: dict[str, Digest]
    images: dict[str, TestImage] = field(default_factory=dict)


@dataclass(frozen=True)
class Rke2Set:
    """`update` is a later `canal` of the same file name, in the directory `update`."""

    canal: Made
    harvester: Made
    update: Made


CANAL = "rke2-images-canal.linux-amd64.tar.zst"
HARVESTER = "rke2-images-harvester.linux-amd64.tar.gz"
CANAL_NAMES = (
    "rancher/hardened-calico:v3.29.1-build20241211",
    "rancher/hardened-flannel:v0.26.1-build20241107",
    "rancher/mirrored-pause:3.6",
)
CANAL_UPDATE_NAMES = (
    "rancher/hardened-calico:v3.29.2-build20250306",
    "rancher/hardened-flannel:v0.26.5-build20250306",
    "rancher/mirrored-pause:3.6",  # the same tag, another image
)
HARVESTER_NAMES = (
    "rancher/harvester-cloud-provider:v0.2.4",
    "rancher/harvester-csi-driver:v0.1.18",
    "longhornio/csi-attacher:v4.7.0",
    "longhornio/csi-node-driver-registrar:v2.12.0",
    "longhornio/csi-provisioner:v4.0.1-20241007",
    "longhornio/csi-resizer:v1.12.0",
)


def rke2_like_set(directory: Path, seed: object = 1, *, layer_bytes: int = 400_000) -> Rke2Set:
    """Two archives like those beside an RKE2 release, and an update of the first.

    Docker-archives of a few MB. Names are written as `docker save` does, without `docker.io/`.
    The images of a set share a base layer; the update shares it too.
    """
    (directory / "update").mkdir(parents=True, exist_ok=True)
    bci = random_layer(f"{seed}/bci", layer_bytes=2 * layer_bytes, media="docker")
    longhorn = random_layer(f"{seed}/longhorn", layer_bytes=layer_bytes, media="docker")

    def make(path: Path, names: Sequence[str], base: TestLayer, release: str) -> Made:
        images = {
            name: random_image(
                f"{seed}/{release}/{name}",
                layers=1 + number % 2,
                layer_bytes=layer_bytes,
                media="docker",
                base=[base],
            )
            for number, name in enumerate(names)
        }
        compression = "gzip" if path.suffix == ".gz" else "zstd"
        references = docker_archive(path, images, compression=compression)
        return Made(path, references, {f"docker.io/{n}": image for n, image in images.items()})

    return Rke2Set(
        make(directory / CANAL, CANAL_NAMES, bci, "1"),
        make(directory / HARVESTER, HARVESTER_NAMES, longhorn, "1"),
        make(directory / "update" / CANAL, CANAL_UPDATE_NAMES, bci, "2"),
    )


# Damage


HOSTILE_KINDS = (
    "absolute",
    "bad_checksum",
    "block_device",
    "device",
    "dotdot",
    "dotdot_inside",
    "fifo",
    "hardlink_out",
    "huge_pax",
    "negative_size",
    "sparse",
    "sparse_pax",
    "symlink_absolute",
    "symlink_out",
)


def hostile_tar(kind: str, *, seed: object = "hostile") -> bytes:
    """A docker-archive of one good image, `example.com/hostile:1`, behind one hostile member."""
    out = io.BytesIO()
    out.write(_hostile_member(kind))
    spec = random_image(seed, media="docker").spec(("example.com/hostile:1",))
    write_archive(out, docker_members([spec]))
    return out.getvalue()


def _hostile_member(kind: str) -> bytes:
    links = {
        "symlink_out": (tarfile.SYMTYPE, "../../../etc/passwd"),
        "symlink_absolute": (tarfile.SYMTYPE, "/etc/passwd"),
        "hardlink_out": (tarfile.LNKTYPE, "../../etc/passwd"),
    }
    names = {"absolute": "/tmp/airside-evil", "dotdot": "../evil", "dotdot_inside": "a/../../evil"}
    devices = {
        "device": tarfile.CHRTYPE,
        "block_device": tarfile.BLKTYPE,
        "fifo": tarfile.FIFOTYPE,
    }
    info = _info(names.get(kind, "evil"))
    if kind in links:
        info = _info("evil/layer.tar", *links[kind])
    elif kind in devices:
        info.type, info.devmajor, info.devminor = devices[kind], 1, 3
    elif kind in names:
        info.size = 4
        return info.tobuf(tarfile.PAX_FORMAT) + b"evil".ljust(512, b"\0")
    else:
        return _hostile_header(kind)
    return info.tobuf(tarfile.PAX_FORMAT)


def _hostile_header(kind: str) -> bytes:
    header = bytearray(_info("evil").tobuf(tarfile.USTAR_FORMAT))
    if kind == "negative_size":
        header[124:136] = b"\xff" * 11 + b"\x00"  # base-256 of -256
    elif kind == "sparse":
        header[156:157] = tarfile.GNUTYPE_SPARSE
        header[257:265] = b"ustar  \0"
        header[386:410] = b"00000000000\0" + b"00000000000\0"  # one empty hole
        header[483:495] = b"77777777777\0"  # expands to 8 GiB
    elif kind == "sparse_pax":
        info = _info("evil")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40)}
        return info.tobuf(tarfile.PAX_FORMAT)
    elif kind == "huge_pax":
        header[156:157] = tarfile.XHDTYPE
        header[124:136] = b"77777777777\0"  # an extended header of 8 GiB
    elif kind != "bad_checksum":
        raise ValueError(kind)
    header[148:156] = b"%06o\0 " % _checksum(header, wrong=kind == "bad_checksum")
    return bytes(header)


def _checksum(header: bytes, *, wrong: bool) -> int:
    return sum(header[:148]) + 8 * 32 + sum(header[156:512]) + wrong


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def truncate(path: Path, size_bytes: int) -> None:
    """Cut the file to this size; a negative one cuts so many bytes from the end."""
    size = path.stat().st_size + size_bytes if size_bytes < 0 else size_bytes
    with path.open("r+b") as file:
        file.truncate(size)


# Big archives


def big_archive(
    path: Path,
    total_bytes: int,
    *,
    compression: str = "none",
    layers: int = 4,
    form: str = "docker",
    name: str = "docker.io/airside/big:1",
    seed: int = 1,
) -> dict[str, Digest]:
    """An archive of one image with `layers` layers of `total_bytes` together, in little memory.

    Each layer is a plain tar of one file. Its bytes are about half compressible, and no 64 KiB
    are twice the same. Returns reference → manifest digest, as the other builders do.
    """
    blobs = [_paged_layer(seed + number, total_bytes // layers) for number in range(layers)]
    document = {
        "created": CREATED,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(blob.digest) for blob in blobs]},
    }
    docker = form == "docker"
    layer_type, media_type = (
        (DOCKER_LAYER, DOCKER_MANIFEST) if docker else (OCI_LAYER, OCI_MANIFEST)
    )
    stored = [Layer(blob, layer_type) for blob in blobs]
    spec = ImageSpec(compact(document), stored, (name,), media_type)
    with open_output(path, compression) as out:
        write_archive(out, docker_members([spec]) if docker else oci_members([spec]))
    return {str(parse_reference(name)): sha256(spec.manifest)}


def _paged_layer(seed: int, size: int) -> Blob:
    def open_stream() -> BinaryIO:
        return io.BufferedReader(_PagedTar(seed, size), buffer_size=PAGE_BYTES)

    hasher = hashlib.sha256()
    total = 0
    with open_stream() as stream:
        while chunk := stream.read(1 << 20):
            hasher.update(chunk)
            total += len(chunk)
    return Blob(Digest("sha256", hasher.hexdigest()), total, open_stream)


class _PagedTar(io.RawIOBase):
    """A tar of one file, made while it is read: a noisy page again and again, with counters."""

    def __init__(self, seed: int, size: int) -> None:
        self._parts = self._generate(seed, size)
        self._rest = memoryview(b"")

    def _generate(self, seed: int, size: int) -> Iterator[bytes]:
        yield _info(f"data-{seed}.bin", size=size).tobuf(tarfile.PAX_FORMAT)
        page = bytearray(_noisy_page(seed))
        for start in range(0, size, PAGE_BYTES):
            for offset in range(0, PAGE_BYTES, 1 << 16):
                struct.pack_into("<QQ", page, offset, seed, start + offset)
            yield bytes(page[: size - start])
        yield bytes(-size % 512 + 1024)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._parts, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@functools.lru_cache(maxsize=8)  # of all layers of an archive
def _noisy_page(seed: int) -> bytes:
    noise = random.Random(seed).randbytes(PAGE_BYTES // 2)
    return b"".join(noise[n : n + 64] + bytes(64) for n in range(0, len(noise), 64))
