"""Damage to the archives of every maker: cut at each block, or one bit flipped.

`test_flips` does the same, at more positions, to the four forms that are seen most. Here are their
relatives, with links, long names, absent platforms, artifacts, two records that disagree.
"""

import itertools
import random
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from airside.archive.formats.oci_layout import blob_member
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.member import Member
from airside.oci.digest import Digest, digest_of, parse_digest
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support.damage import Judge, compressed_positions, flipped, plain_positions, show, total
from support.images import (
    TestBlob,
    TestImage,
    compact,
    image_of,
    index_of,
    oci_archive,
    open_output,
    random_layer,
)
from support.makers import (
    Named,
    attached_sbom,
    built,
    cosign_signature,
    docker_25_members,
    file,
    ggcr_members,
    helm_chart,
    imgutil_members,
    jib_members,
    kept,
    layout_members,
    named,
    rules_oci_members,
    v1_archive,
    v1_steps,
    windows_members,
    write_members,
    write_tar,
)
from support.size import sized

pytestmark = pytest.mark.system

COMPRESSIONS = ("gzip", "zstd", "lz4", "bzip2", "xz")
NAME, OTHER = "example.com/one:1.0", "docker.io/library/second:2"
CUTS, FLIPS = sized((16, 80), (200, 2000))
TURNS = sized(2, len(COMPRESSIONS))
"""How many compressions each form is tried with."""

Expected = Mapping[str, Digest]


def _layer(seed: str, media: str, packed: str = "none"):
    return random_layer(seed, layer_bytes=1200, compression=packed, media=media)


def _image(seed: str, *, media: str = "docker", packed: str = "none", **more: str) -> TestImage:
    layers = [_layer("base", media, packed), _layer(seed, media, packed)]
    return image_of(layers, media=media, label=seed, **more)


def _two(media: str = "docker", packed: str = "none") -> Named:
    return {
        (NAME, "example.com/also/one:x"): _image("a", media=media, packed=packed),
        (OTHER,): _image("b", media=media, packed=packed, platform="linux/arm64"),
    }


def _index():
    return index_of([_image("a", media="oci"), _image("b", media="oci", platform="linux/arm64")])


def _docker(members: Callable[[Named], list[Member]], *, packed: str = "none"):
    def build(path: Path) -> Expected:
        images = _two(packed=packed)
        write_members(path, members(images))
        return built(images)

    return build


def _single(members: Callable[..., list[Member]], *, packed: str):
    def build(path: Path) -> Expected:
        image = _image("a", packed=packed)
        write_members(path, members((NAME,), image))
        return built({(NAME,): image})

    return build


def _docker_25(layers: str):
    def build(path: Path) -> Expected:
        images = _two("oci")
        write_members(path, docker_25_members(images, layers=layers))
        return kept(images) if layers == "right" else built(images)

    return build


def _linked(form: int, *, prefix: str, hard_links: bool):
    """The third image has the layers of the second as links."""

    def build(path: Path) -> Expected:
        images = {**_two(), ("third:3",): image_of(_two()[OTHER,].layers, media="docker")}
        members = docker_members([i.spec(names) for names, i in images.items()], style="docker")
        write_tar(path, members, form=form, prefix=prefix, hard_links=hard_links)
        return built(images)

    return build


def _windows(path: Path) -> Expected:
    members, manifest = windows_members((NAME,), _image("a", platform="windows/amd64"))
    write_members(path, members)
    return {NAME: TestBlob(manifest, "").digest}


def _sparse(path: Path) -> Expected:
    return oci_archive(path, {(NAME, OTHER): _index()}, sparse=["linux/arm64"])


def _manifest_last(path: Path) -> Expected:
    """As `tar -C DIR .` may pack a directory: one platform whole, the other's manifest last."""
    index = _index()
    one, other = index.images
    blobs = [index.index, *one.blobs, *reversed(other.blobs)]
    layout, *files, index_json = layout_members(
        [named(index.index, NAME)], list(dict.fromkeys(blobs))
    )
    write_members(path, [layout, index_json, *files])
    return {NAME: index.digest}


def _nested(path: Path) -> Expected:
    inner, image = _index(), _image("c", media="oci", platform="linux/s390x")
    listed = {"manifests": [inner.index.descriptor, image.manifest.descriptor]}
    outer = TestBlob(compact({"schemaVersion": 2, "mediaType": OCI_INDEX, **listed}), OCI_INDEX)
    blobs = [outer, inner.index, *(b for i in (*inner.images, image) for b in i.blobs)]
    write_members(path, layout_members([named(outer, NAME)], blobs))
    return {NAME: outer.digest}


def _null(path: Path) -> Expected:
    images = _two()
    oci_archive(path, images, hybrid=True, null_manifests=True)
    return built(images)


def _no_layout_file(path: Path) -> Expected:
    return oci_archive(path, _two("oci"), no_layout_file=True)


def _artifacts(path: Path) -> Expected:
    image = _image("a", media="oci")
    chart, sbom = helm_chart("shop"), attached_sbom(image.manifest)
    signature = cosign_signature(image.manifest)
    tag = str(image.digest).replace(":", "-") + ".sig"
    entries = [
        named(image.manifest, NAME),
        named(chart[0], "example.com/chart:1"),
        named(signature[0], f"example.com/one:{tag}"),
        named(sbom[0]),
    ]
    blobs = (*image.blobs, *chart[1], *signature[1], *sbom[1])
    write_members(path, layout_members(entries, blobs))
    return {
        NAME: image.digest,
        "example.com/chart:1": chart[0].digest,
        f"example.com/one:{tag}": signature[0].digest,
    }


def _sha512(path: Path) -> Expected:
    image = _image("a", media="oci")
    files: dict[str, bytes] = {}

    def add(blob: TestBlob) -> dict[str, object]:
        digest = digest_of(blob.raw, "sha512")
        files[blob_member(digest)] = blob.raw
        return {**blob.descriptor, "digest": str(digest)}

    listed = {"config": add(image.config), "layers": [add(layer) for layer in image.layers]}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **listed}
    root = add(TestBlob(compact(document), OCI_MANIFEST))
    annotations = {"org.opencontainers.image.ref.name": NAME}
    index = {"schemaVersion": 2, "manifests": [{**root, "annotations": annotations}]}
    members = [file(name, raw) for name, raw in files.items()]
    write_members(path, [*members, file("index.json", compact(index))])
    return {NAME: parse_digest(root["digest"])}


def _v1(path: Path) -> Expected:
    base = v1_steps("cut", layer_bytes=1200)
    more = v1_steps("cut/more", layers=1, layer_bytes=1200)
    return v1_archive(path, {(NAME, "also/one:x"): base, ("second:2",): (*base, *more)})


FORMS: dict[str, Callable[[Path], Expected]] = {
    "kaniko, plain": _docker(ggcr_members),
    "kaniko, gzip": _docker(ggcr_members, packed="stored"),
    "jib": _single(jib_members, packed="stored"),
    "rules_oci": _single(rules_oci_members, packed="zstd"),
    "imgutil": _single(imgutil_members, packed="none"),
    "windows": _windows,
    "symbolic links, pax": _linked(tarfile.PAX_FORMAT, prefix="./", hard_links=False),
    "hard links, gnu": _linked(tarfile.GNU_FORMAT, prefix="./", hard_links=True),
    "docker 25.0.0": _docker_25("shuffled"),
    "docker 25": _docker_25("right"),
    "null manifests": _null,
    "no oci-layout": _no_layout_file,
    "sparse": _sparse,
    "manifest last": _manifest_last,
    "nested": _nested,
    "artifacts": _artifacts,
    "sha512": _sha512,
    "v1": _v1,
}


def _good(form: str, directory: Path) -> tuple[Expected, bytes]:
    expected = FORMS[form](directory / "good.tar")
    return expected, (directory / "good.tar").read_bytes()


def _packed(data: bytes, compression: str, directory: Path) -> bytes:
    """As the programs compress: with checksums."""
    with open_output(directory / "packed", compression) as out:
        out.write(data)
    return (directory / "packed").read_bytes()


def _by_turns(forms: Iterable[str]) -> list[tuple[str, str]]:
    """Each form with some compressions, which take turns; with all in `make torture`."""
    turns = itertools.cycle(COMPRESSIONS)
    return [(form, next(turns)) for form in forms for _ in range(TURNS)]


@pytest.mark.parametrize("form", FORMS)
def test_cut_at_any_block_it_is_incomplete_or_whole(
    form: str, memory_path: Path, judge: Judge
) -> None:
    expected, data = _good(form, memory_path)
    documents = judge.whole(data)
    classes: Counter[str] = Counter()
    for cut in range(0, len(data), 512):
        found = judge(data[:cut], expected, documents=documents)
        assert found in {"incomplete", "unchanged"}, (found, cut)
        classes[found] += 1
    show(f"{form}: cut at {classes.total()} blocks", {"any": classes})
    assert classes["incomplete"] >= classes.total() // 3


@pytest.mark.parametrize(("form", "compression"), _by_turns(FORMS))
def test_cut_under_a_compression_it_is_incomplete_or_whole(
    form: str, compression: str, memory_path: Path, judge: Judge
) -> None:
    expected, plain = _good(form, memory_path)
    documents, data = judge.whole(plain), _packed(plain, compression, memory_path)
    rng = random.Random(len(data))
    classes: Counter[str] = Counter()
    for cut in {*range(0, len(data), 512), *rng.sample(range(len(data)), CUTS), len(data) - 1}:
        found = judge(data[:cut], expected, documents=documents)
        assert found in {"incomplete", "unchanged"}, (found, cut)
        classes[found] += 1
    assert judge(data, expected, documents=documents) == "unchanged"
    assert classes["incomplete"] >= classes.total() // 2


UNVOUCHED = {
    "v1": {"document", "layer"},
    "jib": {"document"},
    "windows": {"manifest.json"},
}
"""What no digest vouches for: all of v1, Jib's `config.json`, what is said of a foreign layer."""


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_never_changes_what_a_name_means(
    form: str, memory_path: Path, judge: Judge
) -> None:
    expected, data = _good(form, memory_path)
    rng = random.Random(zlib.crc32(form.encode()))
    positions = list(plain_positions(data, rng))
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    for region, position in rng.sample(positions, min(FLIPS, len(positions))):
        found = judge(flipped(data, position, rng.randrange(8)), expected).partition(" ")[0]
        assert found != "WRONG" or region in UNVOUCHED.get(form, ()), (found, region, position)
        classes[region][found] += 1
    show(f"{form}: one bit flipped at {total(classes)} positions", classes)
    assert total(classes) >= 80


@pytest.mark.parametrize(
    ("form", "compression"),
    _by_turns(["v1", "sparse", "symbolic links, pax", "docker 25.0.0"]),
)
def test_a_flipped_bit_under_a_compression_is_seen(
    form: str, compression: str, memory_path: Path, judge: Judge
) -> None:
    """All have checksums: nothing but what has no meaning may change unseen."""
    expected, plain = _good(form, memory_path)
    data = _packed(plain, compression, memory_path)
    rng = random.Random(zlib.crc32(f"{form}/{compression}".encode()))
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    positions = compressed_positions(data, rng)
    for region, position in rng.sample(positions, min(FLIPS, len(positions))):
        found = judge(flipped(data, position, rng.randrange(8)), expected)
        assert found in {"rejected", "incomplete", "failed", "unchanged"}, (found, position)
        classes[region][found] += 1
    show(f"{form}, {compression}: one bit flipped at {total(classes)} positions", classes)
    assert total(classes) >= 80
