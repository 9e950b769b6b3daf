"""Digests are those of containerd's own importer.

`support/parity.json` holds what `ctr images import` made of archives from fixed seeds, in an empty
namespace. `python tests/system/test_parity.py --record` makes it again.
"""

import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from airside.oci.model import DOCKER_LAYER_GZIP
from support.containerd import Containerd
from support.images import (
    TestLayer,
    docker_archive,
    image_of,
    index_of,
    oci_archive,
    random_image,
    random_layer,
)
from support.makers import v1_archive, v1_steps
from support.nodes import import_now, node_at, visible

TABLE = Path(__file__).parents[1] / "support/parity.json"


def raw_zstd(data):
    """A zstd frame of raw blocks (RFC 8878, 3.1.1.2): the same bytes with any library."""
    blocks = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    out = [b"\x28\xb5\x2f\xfd\xa0", struct.pack("<I", len(data))]
    for number, block in enumerate(blocks, start=1):
        header = len(block) << 3 | (number == len(blocks))
        out += [header.to_bytes(3, "little"), block]
    return b"".join(out)


def zstd_layer(seed):
    tar = random_layer(seed, media="docker").tar
    return TestLayer(raw_zstd(tar), DOCKER_LAYER_GZIP, tar)


def docker_image(seed, compression="none", **more):
    return random_image(seed, compression=compression, media="docker", **more)


def several():
    base = [random_layer("base", media="docker")]
    return {
        "rancher/a:v1": docker_image("a", base=base),
        ("registry.example.com:5000/deep/er/b:2", "b", "quay.io/b/b:b"): docker_image(
            "b", base=base, platform="linux/arm64/v8"
        ),
        "c:3": docker_image("c", compression="stored", platform="linux/arm/v7", base=base),
    }


def mixed():
    plain, packed = random_layer("plain", media="docker"), random_layer("p", compression="stored")
    layers = [plain, zstd_layer("z"), packed, plain]
    return {"mixed:1": image_of(layers, media="docker", label="mixed")}


def oci_set():
    index = index_of(
        [random_image("i/1"), random_image("i/2", platform="linux/arm64", compression="stored")]
    )
    return {
        "example.com/index:1": index,
        ("example.com/plain:1", "example.com/plain:2"): random_image("oci", compression="stored"),
        "docker.io/library/docker-types:1": docker_image("inside"),
    }


CASES = {
    "docker-plain": lambda path: docker_archive(path, {"one:1": docker_image(1)}),
    "docker-stored": lambda path: docker_archive(path, {"one:1": docker_image(1, "stored")}),
    "docker-zstd-layer": lambda path: docker_archive(
        path, {"zst:1": image_of([zstd_layer(1)], media="docker")}
    ),
    "docker-several": lambda path: docker_archive(path, several()),
    "docker-mixed": lambda path: docker_archive(path, mixed()),
    "docker-no-layers": lambda path: docker_archive(path, {"empty:1": docker_image(2, layers=0)}),
    "skopeo-plain": lambda path: docker_archive(path, {"one:1": docker_image(1)}, style="skopeo"),
    "skopeo-several": lambda path: docker_archive(path, several(), style="skopeo"),
    "legacy": lambda path: v1_archive(path, {("one:1",): v1_steps("one")}),
    "oci": lambda path: oci_archive(path, oci_set()),
    "hybrid": lambda path: oci_archive(path, oci_set(), hybrid=True),
    "hybrid-null-index": lambda path: oci_archive(
        path, {"one:1": docker_image(1)}, hybrid=True, null_manifests=True
    ),
    "oci-sparse": lambda path: oci_archive(path, oci_set(), sparse=["linux/arm64"]),
    "oci-no-layout-file": lambda path: oci_archive(path, oci_set(), no_layout_file=True),
}
ONLY_OURS = {"legacy", "hybrid-null-index", "oci-no-layout-file", "oci-sparse"}
"""Archives that containerd does not read and we do, on purpose."""


# containerd's side


def import_into_containerd(containerd, name, path):
    """Reference → digest after an import into a namespace of its own."""
    flags = ["--all-platforms", "--no-unpack", *containerd.local]
    containerd.ctr("images", "import", *flags, path, namespace=name)  # of some there is no image
    listed = containerd.did("images", "ls", namespace=name)
    rows = [line.split() for line in listed.splitlines()[1:]]
    return {row[0]: row[2] for row in rows}


def record(directory):
    table = {}
    with Containerd() as containerd:
        for name, make in CASES.items():
            path = Path(directory) / f"{name}.tar"
            make(path)
            table[name] = import_into_containerd(containerd, name, path)
    return table


# tests


def recorded():
    return json.loads(TABLE.read_text(encoding="utf-8"))


def imported_by_us(tmp_path, path):
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, path)
        return outcome, {name: str(digest) for name, digest in visible(node).items()}


def test_table_has_every_case():
    assert set(recorded()) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_digests_are_those_that_containerd_gives(name, tmp_path):
    expected = CASES[name](tmp_path / "a.tar")
    _, found = imported_by_us(tmp_path, tmp_path / "a.tar")
    table = recorded()[name]
    if name in ONLY_OURS:
        assert table == {}
        assert found == {reference: str(digest) for reference, digest in expected.items()}
    else:
        assert found == table


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("style", ["docker", "skopeo"])
def test_compression_of_the_archive_changes_no_digest(style, compression, tmp_path):
    docker_archive(tmp_path / "a.tar", several(), style=style, compression=compression)
    outcome, found = imported_by_us(tmp_path, tmp_path / "a.tar")
    assert outcome.state == "imported"
    assert found == recorded()[f"{style}-several"]


def test_documents_of_a_layout_are_kept_byte_for_byte(tmp_path):
    roots = oci_set()
    oci_archive(tmp_path / "a.tar", roots)
    with node_at(tmp_path / "data") as node:
        import_now(node, tmp_path / "a.tar")
        documents = [root.blobs[0] for root in roots.values()]
        documents += [image.manifest for image in roots["example.com/index:1"].images]
        for document in documents:
            assert node.catalog.document(document.digest) == document.raw
            assert node.store.path(document.digest).read_bytes() == document.raw


@pytest.mark.system
@pytest.mark.needs("containerd", "ctr")
@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_table_is_what_the_installed_containerd_gives(tmp_path):
    assert record(tmp_path) == recorded()


def main():
    if sys.argv[1:] != ["--record"] or not shutil.which("containerd"):
        sys.exit("usage: test_parity.py --record   (as root, with containerd and ctr installed)")
    with tempfile.TemporaryDirectory() as directory:
        table = record(directory)
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{TABLE}: {sum(map(len, table.values()))} names of {len(table)} archives")


if __name__ == "__main__":
    main()
