"""Tests of what `make dist` builds. `make test-dist` builds it first; nothing here is skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.debian import mirror
from support.shipped import ARCH

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
BASE = ROOT / "build/test-roots" / f"{SUITE}.tar"


@pytest.fixture(scope="session")
def debian_tar():
    """A minimal Debian as a tar, made once: without Python, systemd, containerd."""
    if not BASE.is_file():
        BASE.parent.mkdir(parents=True, exist_ok=True)
        scratch = BASE.with_suffix(".part")
        words = ["mmdebstrap", "--quiet", "--format=tar", "--variant=minbase"]
        subprocess.run([*words, SUITE, scratch, mirror()], check=True, timeout=600)
        scratch.rename(BASE)
    return BASE


@pytest.fixture(scope="session")
def build_packages():
    """Returns a function that packs the frozen program of this machine as another version."""

    def build(output: Path, version: str) -> None:
        environ = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}/scripts:{ROOT}/packaging"}
        words = ["--epoch", "1767225600", "--version", version, "--output", str(output), ARCH]
        command = [sys.executable, "-m", "packages", *words]
        subprocess.run(command, check=True, cwd=ROOT, env=environ, timeout=600)

    return build
