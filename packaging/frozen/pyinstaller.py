"""Runs PyInstaller with the unpacked Python of this machine's architecture."""

import os
import shutil
import subprocess
from pathlib import Path

from frozen.architectures import Architecture

SPEC = Path(__file__).with_name("airside.spec")


def freeze(
    arch: Architecture, root: Path, *, modules: list[Path], tools: Path, work: Path, epoch: int
) -> Path:
    """Returns `bin`, the directory that PyInstaller made below `work`.

    `modules`: where the program and its requirements are installed. Nothing of the caller's
    environment reaches the build, and so its result.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    environ = {
        "PATH": os.defpath,
        "HOME": str(work),
        "LC_ALL": "C.UTF-8",
        "PYINSTALLER_CONFIG_DIR": str(work / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "1",
        "SOURCE_DATE_EPOCH": str(epoch),
        "LD_LIBRARY_PATH": f"{root}/usr/lib/{arch.triplet}:{root}/lib/{arch.triplet}",
        "PYTHONPATH": ":".join(map(str, [*modules, tools])),
    }
    command = [f"{root}/usr/bin/python3.11", "-s", "-m", "PyInstaller", "--log-level", "ERROR"]
    command += ["--distpath", str(work / "dist"), "--workpath", str(work / "work"), str(SPEC)]
    subprocess.run(command, env=environ, check=True)
    return work / "dist/bin"
