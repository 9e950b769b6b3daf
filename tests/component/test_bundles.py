"""Archives of bundlers: layouts one level down are read, everything else is told by its name."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings
from support.images import compress, docker_archive, oci_archive, random_image, truncate
from support.nodes import import_now, node_at, visible

APP = "docker.io/library/app:1"


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isreg()}
        return {name: file.read() for name, file in found.items() if file}


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("layout") / "a.tar"
    oci_archive(path, {"app:1": random_image("a")})
    return members(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("saved") / "a.tar"
    docker_archive(path, {"app:1": random_image("a", media="docker")})
    return members(path)


def inspected(path: Path, data: bytes) -> dict:
    path.write_bytes(data)
    return inspect_file(Settings(), path, quiet=True)


def reason_of(item: dict) -> str:
    return " ".join(problem["reason"] for problem in item["problems"])


ZARF = {"zarf.yaml": b"kind: ZarfPackageConfig\n", "checksums.txt": b"", "sboms.tar": bytes(10240)}


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("images", {**ZARF, "components/app.tar": bytes(10240)}),
        ("artifacts/layout", {"cnab/bundle.json": b"{}", "cnab/app/run": b"#!/bin/sh\n"}),
        ("my-layout", {}),
        ("a/b/c", {"a/index.json": b"{}", "README": b"x", "manifest.json.bak": b"x"}),
    ],
)
def test_a_layout_in_one_directory_is_read_there(tmp_path, layout, folder, others, compression):
    data = compress(tar_of({**others, **below(folder, layout)}), compression)
    item = inspected(tmp_path / "bundle.tar", data)
    assert (item["state"], item["images"][0]["references"]) == ("imported", [APP])
    assert any(repr(folder) in note for note in item["notes"])


def test_a_docker_archive_in_one_directory_is_read_there(tmp_path, saved):
    item = inspected(tmp_path / "bundle.tar", tar_of(below("saved", saved)))
    assert (item["state"], item["images"][0]["references"]) == ("imported", [APP])


def test_the_images_of_a_zarf_package_are_imported(tmp_path, layout):
    package = tmp_path / "zarf-package-app-amd64-1.0.0.tar.zst"
    package.write_bytes(compress(tar_of({**ZARF, **below("images", layout)}), "zstd"))
    with node_at(tmp_path / "data") as node:
        assert import_now(node, package).state == "imported"
        assert list(visible(node)) == [APP]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_package_that_ends_early_is_incomplete(tmp_path, layout, compression):
    path = tmp_path / "package.tar"
    path.write_bytes(compress(tar_of({**ZARF, **below("images", layout)}), compression))
    truncate(path, path.stat().st_size * 2 // 3)
    assert inspect_file(Settings(), path, quiet=True)["state"] == "incomplete"


def test_images_at_the_top_are_read_and_not_those_below(tmp_path, layout, saved):
    item = inspected(tmp_path / "a.tar", tar_of({**layout, **below("more", saved)}))
    assert (item["state"], item["format"], item["notes"]) == ("imported", "oci-layout", [])


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"docker/registry/v2/blobs/sha256/aa/aa/data": b"x"}, "storage of a registry"),
        ({"zarf.yaml": b"kind: ZarfPackageConfig\n"}, "Zarf package without images"),
        ({"app/Chart.yaml": b"name: app\n"}, "Helm chart"),
        ({"x/index.json": b"{}"}, "pack the contents of that directory"),
        ({"etc/passwd": b"", "usr/bin/a": b"", "var/index.json": b"{}"}, "docker export"),
    ],
)
def test_other_bundles_are_told_by_name(tmp_path, files, what):
    item = inspected(tmp_path / "a.tar", tar_of(files))
    assert (item["state"], what in reason_of(item)) == ("rejected", True)


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": b'[{"ImageIndex":null,"Image":{"Refs":[],"Layers":null}}]'},
        {"manifest.json": b'[{"ImageIndex":{"Images":[],"Raw":"{}"},"Image":null}]'},
        {"manifest.json": bytes(5_000_000), f"sha256-{'a' * 64}.tar.gz": b"x"},
        {"b/manifest.json": b"[", f"b/sha256-{'a' * 64}.tar.gz": b"x"},
    ],
)
def test_a_tar_of_imgpkg_is_told_with_what_to_do(tmp_path, files):
    item = inspected(tmp_path / "a.tar", tar_of(files))
    assert item["state"] == "rejected"
    assert "imgpkg copy --tar FILE --to-repo HOST/NAME" in reason_of(item)


def test_a_list_of_no_images_is_not_called_a_tar_of_imgpkg(tmp_path):
    item = inspected(tmp_path / "a.tar", tar_of({"manifest.json": b"[]"}))
    assert "is not a list of images" in reason_of(item)


def test_several_layouts_are_named(tmp_path, layout):
    files = {**below("one", layout), **below("two", layout)}
    item = inspected(tmp_path / "a.tar", tar_of(files))
    assert (item["state"], "2, in 'one', 'two'" in reason_of(item)) == ("rejected", True)


LONG = bytes(40_000)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"),
        (b'\n<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "error message"),
        (b'{"errors":[{"code":"DENIED","message":"no"}]}', "error message"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://x\r\n", "answer of a server"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", "Git LFS"),
        (b"/annex/objects/SHA256E-s3--aa.tar\n", "git-annex"),
        (b"age-encryption.org/v1\n-> X25519 abc\n", "encrypted with age"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQE\n", "encrypted with PGP"),
        (b"\x85\x01\x0c\x03" + LONG, "encrypted with PGP"),
        (b"\x8c\x0d\x04\x09\x03" + LONG, "encrypted with PGP"),
        (b"Salted__" + LONG, "encrypted with OpenSSL"),
        (b"QFI\xfb" + LONG, "qcow2"),
        (LONG[:32769] + b"CD001" + LONG, "ISO"),
        (LONG[:512] + b"EFI PART" + LONG, "GPT"),
        (LONG[:1080] + b"\x53\xef" + LONG, "ext file system"),
        ("docker-archive".encode("utf-16"), "PowerShell"),
        (b"PK\x03\x04" + LONG, "zip"),
        (b"7z\xbc\xaf\x27\x1c" + LONG, "7z"),
        (b"hello\n", "the file is text"),
    ],
)
@pytest.mark.parametrize("name", ["images.tar", "images.tar.zst", "images"])
def test_a_file_of_another_kind_is_told_by_name(tmp_path, name, head, what):
    item = inspected(tmp_path / name, head)
    assert (item["state"], what in reason_of(item)) == ("rejected", True), reason_of(item)


@pytest.mark.parametrize(("inner", "outer"), [("gzip", "gzip"), ("zstd", "gzip"), ("gzip", "xz")])
def test_an_archive_that_is_compressed_twice_is_read(tmp_path, layout, inner, outer):
    data = compress(compress(tar_of(layout), inner), outer)
    item = inspected(tmp_path / "a.tar.gz", data)
    assert item["state"] == "imported"
    assert f"the archive is compressed twice: {inner} in {outer}" in item["notes"]


@pytest.mark.parametrize("end", [-20, -8, -1])
def test_an_archive_that_is_compressed_twice_and_ends_early_is_incomplete(tmp_path, layout, end):
    data = gzip.compress(gzip.compress(tar_of(layout)))
    assert inspected(tmp_path / "a.tar.gz", data[:end])["state"] == "incomplete"
    inner = gzip.compress(tar_of(layout))[:end]
    assert inspected(tmp_path / "a.tar.gz", gzip.compress(inner))["state"] == "incomplete"


def test_three_times_is_told(tmp_path, layout):
    data = gzip.compress(gzip.compress(gzip.compress(tar_of(layout))))
    assert "gzip data" in reason_of(inspected(tmp_path / "a.tar.gz", data))
