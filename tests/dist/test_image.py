"""Airside's own image: what is in it, on each platform, and what other tools make of it."""

import datetime as dt
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import airside
from support.agent import Agent
from support.containerd import Containerd
from support.own_image import NAME, ROOT, own_image
from support.skopeo import skopeo
from support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.needs("skopeo", "runc")]

ARCHITECTURES = ("amd64", "arm64")
VERSION = f"airside {airside.__version__}"
LARGEST_BYTES = 50 << 20
MACHINES = {"amd64": 62, "arm64": 183}
"""e_machine of ELF."""


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        found = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isreg()}
        return {name.removeprefix("blobs/sha256/"): f.read() for name, f in found.items() if f}


def manifests_of(archive: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Manifest and config of each platform."""
    found = blobs(archive)
    [root] = json.loads(found["index.json"])["manifests"]
    assert root["annotations"]["io.containerd.image.name"] == NAME
    document = json.loads(found[root["digest"][7:]])
    for entry in document.get("manifests", [root]):
        manifest = json.loads(found[entry["digest"][7:]])
        yield manifest, json.loads(found[manifest["config"]["digest"][7:]])


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Of all layers, by their names."""
    found: dict[str, tarfile.TarInfo] = {}
    raw = blobs(archive)
    [(manifest, _)] = manifests_of(archive)
    for layer in manifest["layers"]:
        path = archive.parent / ".layer"
        path.write_bytes(raw[layer["digest"][7:]])
        try:
            with tarfile.open(path) as tar:
                found |= {f"/{m.name}": m for m in tar.getmembers()}
        finally:
            path.unlink()
    return found


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_config_starts_the_agent_and_has_the_annotations_of_oci(arch: str):
    [(manifest, config)] = manifests_of(own_image(arch))
    run = config["config"]
    assert (config["os"], config["architecture"]) == ("linux", arch)
    assert run["Entrypoint"] + run["Cmd"] == ["/opt/airside/bin/airside", "run"]
    assert run["Healthcheck"]["Test"][-2:] == ["status", "--check"]
    texts = manifest["annotations"]
    assert texts["org.opencontainers.image.version"] == airside.__version__
    assert texts["org.opencontainers.image.title"] == "airside"
    assert run["Labels"].items() <= texts.items()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_it_has_no_shell_no_package_manager_and_nothing_that_gives_rights(arch: str):
    found = members(own_image(arch))
    programs = {Path(name).name for name in found}
    assert not programs & {"sh", "bash", "dash", "busybox", "apt", "dpkg", "perl", "su", "mount"}
    assert "/opt/airside/bin/airside" in found
    for name, member in found.items():
        assert (member.uid, member.gid, member.mtime) == (0, 0, 0), name
        assert not member.mode & 0o6000, name
        assert not member.mode & 0o022 or member.issym() or name == "/tmp", name


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_it_is_small_and_its_program_is_of_the_platform(arch: str, tmp_path: Path):
    archive = own_image(arch)
    assert archive.stat().st_size < LARGEST_BYTES
    skopeo("copy", f"oci-archive:{archive}", f"dir:{tmp_path / 'copied'}")
    [(manifest, _)] = manifests_of(archive)
    with tarfile.open(tmp_path / "copied" / manifest["layers"][1]["digest"][7:]) as tar:
        program = tar.extractfile("opt/airside/bin/airside")
        assert program is not None
        assert int.from_bytes(program.read(20)[18:20], "little") == MACHINES[arch]


def test_one_archive_has_both_platforms_under_one_name():
    found = [config["architecture"] for _, config in manifests_of(own_image(""))]
    assert sorted(found) == sorted(ARCHITECTURES)


@pytest.mark.parametrize("arch", [None, ""])
def test_containerd_imports_and_runs_it(containerd_version: str, arch: str | None, tmp_path: Path):
    with Containerd(containerd_version, tmp_path / "containerd") as containerd:
        containerd.did("images", "import", *containerd.local, own_image(arch))
        ran = containerd.run_container(NAME, "version", "/opt/airside/bin/airside", "--version")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(VERSION)


def test_airside_imports_its_own_image_of_both_platforms(tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    with Agent(images, tmp_path / "data") as agent:
        target = images / own_image("").name
        target.symlink_to(own_image(""))
        agent.wait_imported(target)
        platforms = agent.images()[NAME]["platforms"]
        assert [platform.split("/")[1] for platform in platforms] == list(ARCHITECTURES)
        path = NAME.partition(":")[0]
        for arch in ARCHITECTURES:
            words = ["inspect", "--tls-verify=false", f"--override-arch={arch}", "--no-tags"]
            shown = skopeo(*words, f"docker://{agent.registry}/{path}:{airside.__version__}")
            assert json.loads(shown)["Architecture"] == arch
        assert not agent.complaints()


def test_it_is_the_same_bytes_when_it_is_built_again(tmp_path: Path):
    [(manifest, config)] = manifests_of(own_image())
    texts, arch = manifest["annotations"], config["architecture"]
    fetched = Path("image", arch, "debian")  # a mirror may have other packages by now
    shutil.copytree(ROOT / "build" / fetched, tmp_path / fetched, symlinks=True)
    command = [sys.executable, "-m", "image", "--work", tmp_path / "image", "--out", tmp_path]
    command += ["--frozen", f"{arch}={ROOT}/build/frozen/{arch}/airside"]
    command += ["--revision", texts.get("org.opencontainers.image.revision", "")]
    made = dt.datetime.fromisoformat(texts["org.opencontainers.image.created"])
    command += ["--epoch", int(made.timestamp())]
    subprocess.run(
        list(map(str, command)),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}/src:{ROOT}/packaging"},
        check=True,
        capture_output=True,
        timeout=LIMIT_SECONDS,
    )
    assert (tmp_path / own_image().name).read_bytes() == own_image().read_bytes()
