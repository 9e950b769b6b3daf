"""Files beside archives: what is none of them is ignored by its kind, and said only on request."""

import json

import pytest
from click.testing import CliRunner

from airside.cli.archives import archives
from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings
from support.images import oci_archive, random_image
from support.nodes import import_now, visible

APP = "docker.io/library/app:1"
SUMS = f"{'a' * 64}  k3s\n{'b' * 64}  k3s-airgap-images-amd64.tar.zst\n"
BESIDE = {
    "sha256sum-amd64.txt": SUMS,
    "checksums.txt": SUMS,
    "SHA256SUMS": SUMS,
    "hashes.txt": SUMS,
    "images.tar.sha256sum": SUMS,
    "images.tar.md5sum": SUMS[32:],
    "images.tar.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n",
    "images.tar.sig": "AAAA",
    "images.tar:Zone.Identifier": "[ZoneTransfer]\r\nZoneId=3\r\n",
    "desktop.ini": "[.ShellClassInfo]\r\n",
    "images.tar.aria2": "\0\1" + "\0" * 40,
    "README.md": "# Read me\n",
    "registries.yaml": "mirrors: {}\n",
    "empty.md5": "",
}


def write(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_beside_archives_is_ignored_by_its_kind(tmp_path, name):
    item = inspect_file(Settings(), write(tmp_path / name, BESIDE[name]), quiet=True)
    assert (item["state"], item["problems"]) == ("ignored", [])
    assert item["notes"]


def test_an_import_of_such_a_file_fails_nothing_and_changes_no_image(node, tmp_path):
    oci_archive(tmp_path / "a.tar", {"app:1": random_image("a")})
    import_now(node, tmp_path / "a.tar")
    before = visible(node)
    for name, text in BESIDE.items():
        outcome = import_now(node, write(tmp_path / name, text))
        assert (outcome.state, outcome.problems, outcome.retry) == ("ignored", (), False)
        [row] = node.catalog.sources(path=str(tmp_path / name))
        assert (row.state, row.reason) == ("ignored", outcome.reason)
        assert row.stat_key
    assert visible(node) == before


def test_ignored_files_are_listed_on_request_only(node, tmp_path):
    oci_archive(tmp_path / "a.tar", {"app:1": random_image("a")})
    import_now(node, tmp_path / "a.tar")
    import_now(node, write(tmp_path / "SHA256SUMS", SUMS))
    data = str(tmp_path / "data")

    def listed(*flags):
        result = CliRunner().invoke(archives, ["--data", data, "--json", *flags])
        return {item["path"]: item["state"] for item in json.loads(result.stdout)["items"]}

    archive = {str(tmp_path / "a.tar"): "imported"}
    assert listed() == archive
    assert listed("--all") == {**archive, str(tmp_path / "SHA256SUMS"): "ignored"}


def test_an_archive_of_such_a_name_is_an_archive(node, tmp_path):
    oci_archive(tmp_path / "images.json", {"app:1": random_image("a")})
    assert import_now(node, tmp_path / "images.json").state == "imported"
    assert list(visible(node)) == [APP]
