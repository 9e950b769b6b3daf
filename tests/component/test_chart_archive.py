"""A Helm chart that is dropped as a file: told by its content, verified, stored as it is."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from airside.archive import reader
from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings
from support.nodes import import_now, node_at, visible

NAME = "docker.io/charts/shop:1.2.3"
FILES = {
    "shop/Chart.yaml": b"apiVersion: v2\nname: shop\nversion: 1.2.3\n",
    "shop/values.yaml": b"replicas: 2\n",
    "shop/templates/a.yaml": b"kind: ConfigMap\n",
    "shop/charts/db/Chart.yaml": b"apiVersion: v2\nname: db\nversion: 9.9.9\n",
}


def packed(files: dict[str, bytes], *, directories: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if directories:
            info = tarfile.TarInfo("shop")
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def inspected(path: Path, raw: bytes):
    path.write_bytes(raw)
    return inspect_file(Settings(), path, quiet=True)


@pytest.mark.parametrize("directories", [False, True])
@pytest.mark.parametrize("name", ["shop-1.2.3.tgz", "shop.tar.gz", "shop"])
def test_a_chart_is_told_by_its_content(tmp_path, name, directories):
    item = inspected(tmp_path / name, packed(FILES, directories=directories))
    assert (item["state"], item["format"]) == ("imported", "helm-chart")
    assert [image["references"] for image in item["images"]] == [[NAME]]


def test_an_image_archive_with_a_chart_beside_is_no_chart(tmp_path):
    item = inspected(tmp_path / "a.tgz", packed({"x/y.txt": b"", **FILES}))
    assert item["state"] == "rejected"
    assert "as the .tgz file that `helm package` makes" in item["problems"][0]["reason"]


@pytest.mark.parametrize("cut", [10, 100, -1, -9])
def test_a_chart_that_ends_early_is_incomplete_and_not_stored(tmp_path, cut):
    item = inspected(tmp_path / "a.tgz", packed(FILES)[:cut])
    assert item["state"] == "incomplete"


def test_no_flipped_byte_changes_the_content_of_an_accepted_chart(tmp_path):
    raw = bytearray(packed(FILES))
    content = gzip.decompress(raw)
    for place in range(len(raw)):
        raw[place] ^= 0x40
        item = inspected(tmp_path / "a.tgz", bytes(raw))
        if item["state"] == "imported":  # gzip has bits that mean nothing
            assert gzip.decompress(raw) == content, place
        raw[place] ^= 0x40


def test_two_sets_of_metadata_are_refused(tmp_path):
    item = inspected(tmp_path / "a.tgz", packed({**FILES, "other/Chart.yaml": b"name: x\n"}))
    assert item["state"] == "rejected"
    assert "several Chart.yaml" in item["problems"][0]["reason"]


def test_a_chart_that_became_another_archive_while_it_was_read_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "is_chart", lambda _head: True)
    item = inspected(tmp_path / "a.tgz", packed({"shop/values.yaml": b""}))
    assert item["state"] == "incomplete"


def test_metadata_that_are_too_large_are_refused(tmp_path):
    item = inspected(tmp_path / "a.tgz", packed({"shop/Chart.yaml": b"#" * 300_000}))
    assert item["state"] == "rejected"


def test_a_dropped_chart_is_stored_as_the_file_it_is_and_goes_to_no_runtime(tmp_path):
    raw = packed(FILES)
    with node_at(tmp_path) as node:
        path = tmp_path / "shop-1.2.3.tgz"
        path.write_bytes(raw)
        import_now(node, path)
        assert NAME in visible(node)
