"""The program for the other architecture, made without a machine of it: run by qemu."""

import json
import subprocess
from pathlib import Path

import pytest

import airside
from frozen import debian_runtime
from frozen.architectures import ARCHITECTURES
from frozen.elf import is_elf, read_elf
from support.debian import cache
from support.shipped import ARCH, OTHER, frozen
from support.waiting import LIMIT_SECONDS

BIN = frozen(OTHER) / "bin"


@pytest.fixture(scope="module")
def emulated():
    """Returns a function that runs the program under qemu, with Debian's C library for it.

    The bootloader starts itself again with LD_LIBRARY_PATH, which needs the kernel's help with
    foreign programs; it gets the environment of that second start at once.
    """
    directory = cache() / "emulated"
    here, there = ARCHITECTURES[ARCH], ARCHITECTURES[OTHER]
    qemu = debian_runtime.unpack_runtime(here, directory / "qemu", ["qemu-user-static"])
    library = debian_runtime.unpack_runtime(there, directory / "libc", ["libc6"])
    environ = {
        "LD_LIBRARY_PATH": BIN / "lib",
        "_PYI_ARCHIVE_FILE": BIN / "airside.pkg",
        "_PYI_PARENT_PROCESS_LEVEL": "-1",
    }
    given = [word for key, value in environ.items() for word in ("-E", f"{key}={value}")]
    command = [qemu / f"usr/bin/qemu-{there.machine}-static", "-L", library, *given]

    def run(*words):
        return subprocess.run(
            [str(word) for word in (*command, BIN / "airside", *words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )

    return run


def test_its_machine_code_is_that_of_the_other_architecture_and_the_rest_is_the_same():
    ours = {path.relative_to(frozen()): path for path in frozen().rglob("*") if path.is_file()}
    code = 0
    for path in (path for path in frozen(OTHER).rglob("*") if path.is_file()):
        name = path.relative_to(frozen(OTHER))
        if is_elf(path):
            code += 1
            assert read_elf(path).machine == ARCHITECTURES[OTHER].elf, name
        elif path.name != "sbom.cdx.json":
            assert path.read_bytes() == ours[name].read_bytes(), name
    assert code == sum(is_elf(path) for path in ours.values())


def test_it_starts_imports_and_lists(emulated, tmp_path):
    done = emulated("--version", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    machine = ARCHITECTURES[OTHER].machine
    assert (found["version"], found["platform"]) == (airside.__version__, f"linux/{machine}")
    assert emulated("sample", tmp_path / "hello.tar.gz").returncode == 0
    data = tmp_path / "data"
    done = emulated("import", tmp_path / "hello.tar.gz", "--data", data)
    assert done.returncode == 0, done.stderr
    done = emulated("images", "--data", data, "--json")
    assert json.loads(done.stdout)["items"][0]["reference"] == "docker.io/airside/hello:1"


def test_every_extension_module_of_it_can_be_loaded(emulated, tmp_path):
    """Each compression, TLS, SQLite, gRPC and passwords: whatever is imported late."""
    done = emulated("doctor", "--data", tmp_path / "data", "--json")
    assert done.returncode in {0, 1}, done.stderr
    assert json.loads(done.stdout)["schema"] == 1
    done = emulated("password", "somebody", "--help")
    assert done.returncode == 0, done.stderr
    assert Path(BIN / "lib/grpc").is_dir()
