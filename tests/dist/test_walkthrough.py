"""The walk of a new user on machines without a network and without Python.

Install from the one file, and from the Debian package; drop, look, pull, run; break it in five ways
and find each cause from the page, `status`, `explain` and `doctor` alone; upgrade; remove. The
tests of a machine follow each other: each begins where the one before ended. Transcripts and pictures
go to `build/walkthrough`, for the documentation.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.command import airside
from support.machine import Machine
from support.waiting import wait_until
from support.walk import IMAGES, Walk, flip_byte_of, free_bytes, has_network

ROOT = Path(__file__).parents[2]
DIST = Path(os.environ.get("AIRSIDE_DIST", ROOT / "dist"))
OUTPUT = ROOT / "build/walkthrough"
HELLO = "docker.io/airside/hello:1"
SAID = "this image came without a network"
"""What a container of it prints."""
HELD_BYTES = 200_000
"""What is left free on the full disk."""

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """What comes on the stick: a good archive, one cut short, one with a flipped bit, one too big."""
    stick = tmp_path_factory.mktemp("stick")
    airside("sample", stick / "hello.tar")
    whole = images.random_image("cut", layers=3, layer_bytes=200_000)
    images.docker_archive(stick / "cut.tar", {"site/cut:1": whole})
    images.truncate(stick / "cut.tar", 300_000)
    flipped = images.random_image("flipped", layers=2, layer_bytes=100_000)
    images.docker_archive(stick / "sound.tar", {"site/flipped:1": flipped})
    flip_byte_of(stick / "sound.tar", flipped.layers[1].raw, stick / "flipped.tar")
    images.big_archive(stick / "big.tar", 60_000_000, name="docker.io/site/big:1")
    return stick


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Walk]:
    """The machine that is installed from the one file."""
    yield from _walk(tmp_path_factory.mktemp("site"), "one-file")


@pytest.fixture(scope="module")
def debian(tmp_path_factory) -> Iterator[Walk]:
    """The machine that is installed from the Debian package."""
    yield from _walk(tmp_path_factory.mktemp("debian"), "debian-package")


@pytest.fixture(scope="module")
def before(site) -> set[str]:
    """Every path of the machine before anything was installed."""
    return site.machine.files()


def _walk(directory: Path, name: str) -> Iterator[Walk]:
    machine = Machine(directory, name)
    try:
        machine.start()
        yield Walk(machine, OUTPUT, name)
    finally:
        machine.stop()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _built(pattern: str) -> Path:
    found = sorted(DIST.glob(pattern.format(arch=_architecture())))
    assert found, f"{DIST} has no {pattern}: `make dist` makes it"
    return found[-1]


def is_written_by_the_unit(walk: Walk) -> bool:
    """Returns True if airside-layers@.service wrote all layers, and containerd none."""
    [runtime] = walk.json("airside status --json")["runtimes"]
    assert runtime["layers_written_by"] == "unit", runtime["applies_because"]
    return runtime["layers"].keys() == {"airside"}


def test_a_machine_without_network_and_python_is_there(site, before):
    assert not has_network(site.machine)
    assert not [path for path in before if path.startswith("/usr/bin/python")]


def test_one_file_installs_it(site, before):
    site.title("Install")
    site.machine.copy_in(_built("airside-*-{arch}.run"), "/root/airside.run")
    site.type("sh /root/airside.run --systemd")
    assert site.type("systemctl is-active airside").strip() == "active"
    site.until_said("airside status", "All is well")
    site.type("airside doctor")
    site.look("installed", "All is well")


def test_a_dropped_archive_is_seen_pulled_and_run(site, archives):
    site.title("Drop an archive")
    site.drop(archives / "hello.tar")
    site.settled("hello.tar", "imported")
    site.until_said("airside status", "All is well: 1 image ")
    site.until_said("ctr --namespace k8s.io images list -q", HELLO)
    assert is_written_by_the_unit(site)
    assert "hello.tar" in site.type(f"airside explain {HELLO}")
    site.look("imported", "All is well", "hello.tar")
    site.look("images", "airside/hello", path="images")
    site.title("Pull it, and run it")
    site.type(f"ctr images pull --hosts-dir /etc/containerd/certs.d {HELLO}")
    site.until_said(f"ctr run --rm {HELLO} first", SAID)  # ctr loses the output of short programs
    site.until_said(f"ctr --namespace k8s.io run --rm {HELLO} second", SAID)


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [("cut.tar", "incomplete", "ends"), ("flipped.tar", "rejected", "sha256")],
)
def test_a_damaged_archive_is_told_in_words(site, archives, name, state, reason):
    site.title(f"An archive that is {'cut short' if name == 'cut.tar' else 'damaged'}")
    site.drop(archives / name)
    site.settled(name, state)
    site.until_said("airside status", "1 archive of 2", state)
    assert reason in site.type("airside archives")
    said = site.type(f"airside explain site/{name.removesuffix('.tar')}:1; true")
    assert name in said
    assert reason in said
    site.look(name.removesuffix(".tar"), "1 archive of 2", name, reason)
    site.type(f"rm {IMAGES}/{name}")
    site.until_said("airside status", "All is well")


def test_a_full_disk_is_told_and_mended_by_space(site, archives):
    site.title("A full disk")
    site.machine.copy_in(archives / "big.tar", f"{IMAGES}/.big.part")
    filler = free_bytes(site.machine) - HELD_BYTES
    site.type(f"fallocate -l {filler} /var/filler")
    site.type(f"mv {IMAGES}/.big.part {IMAGES}/big.tar")
    site.until_said("airside status", "The disk is full")
    site.until_said("airside doctor; true", "free")
    said = site.until_said("airside explain site/big:1; true", "big.tar")
    assert "file system" in said
    site.look("full", "The disk is full")
    site.type("rm /var/filler")
    site.settled("big.tar", "imported")
    site.type(f"rm {IMAGES}/big.tar")
    site.until_said("airside status", "All is well")


def test_a_containerd_that_is_away_is_told_and_comes_back(site):
    site.title("containerd does not run")
    site.type("systemctl stop containerd")
    site.until_said("airside status", "The container runtime", "is not connected")
    site.until_said("airside doctor; true", "containerd")
    site.until_said(f"airside explain {HELLO}; true", "not connected")
    site.look("runtime-away", "The container runtime", "is not connected")
    site.type("systemctl start containerd")
    site.until_said("airside status", "All is well")


def test_a_stand_in_that_is_gone_is_told(site):
    site.title("The fallback server is gone, and cannot start again")
    program = site.machine.done("readlink", "-f", "/usr/local/bin/airside").strip()
    site.machine.done("cp", "-a", str(Path(program).parents[1]), "/root/copy")
    copy = f"/root/copy/bin/{Path(program).name}"
    first = site.fallback_server()
    site.type(f"kill -KILL {first}")
    wait_until(lambda: site.fallback_server() not in {"", first}, "another one is started")
    site.until_said("airside doctor; true", "the fallback server runs")
    site.type(f"chmod a-x {program}; kill -KILL {site.fallback_server()}")
    site.until_said(f"{copy} status", "fallback server")
    site.until_said(f"{copy} doctor; true", "no fallback server answers")
    site.look("no-fallback", "fallback server")
    site.type(f"chmod a+x {program}; rm -r /root/copy")
    site.until_said("airside status", "All is well")


def test_an_upgrade_keeps_everything(site, tmp_path):
    site.title("Upgrade")
    newer = tmp_path / "airside-0.2.1.run"
    frozen = ROOT / "build/frozen" / _architecture() / "airside"
    words = ["--frozen", frozen, "--arch", _architecture(), "--version", "0.2.1", "--out", newer]
    command = [sys.executable, "-m", "installer", *map(str, words), "--epoch", "1767225600"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT}/scripts:{ROOT}/packaging"}
    subprocess.run(command, check=True, env=environ, timeout=600)
    site.machine.copy_in(newer, "/root/airside.run")
    process = site.type("systemctl show --property MainPID airside")
    site.type("sh /root/airside.run --systemd")
    assert site.type("systemctl show --property MainPID airside") != process
    site.until_said("airside status", "All is well")
    assert HELLO in site.type("airside images")


def test_after_the_removal_nothing_is_left(site, before):
    site.title("Remove")
    site.type("rm /root/airside.run; sh /opt/airside/uninstall --purge")
    assert sorted(site.machine.files() - before) == []
    assert sorted(before - site.machine.files()) == []
    assert HELLO not in site.type("ctr --namespace k8s.io images list -q")


def test_the_debian_package_is_installed_used_upgraded_and_purged(debian, archives):
    debian.title("Install")
    files = debian.machine.files()
    package = _built("airside_*_{arch}.deb")
    debian.machine.copy_in(package, "/root/airside.deb")
    debian.type("dpkg --install /root/airside.deb")
    assert debian.type("systemctl is-active airside").strip() == "active"
    debian.until_said("airside status", "All is well")
    debian.title("Drop an archive")
    debian.drop(archives / "hello.tar")
    debian.until_said("ctr --namespace k8s.io images list -q", HELLO)
    assert is_written_by_the_unit(debian)
    debian.until_said(f"ctr --namespace k8s.io run --rm {HELLO} first", SAID)
    debian.look("imported", "All is well", "hello.tar")
    debian.title("Upgrade")
    debian.type("dpkg --install /root/airside.deb")
    debian.until_said("airside status", "All is well: 1 image ")
    debian.title("Remove and purge")
    debian.type("dpkg --remove airside")
    assert (debian.machine.root / "var/lib/airside/images/hello.tar").exists()
    debian.type("dpkg --purge airside; rm /root/airside.deb")
    assert sorted(debian.machine.files() - files) == []
