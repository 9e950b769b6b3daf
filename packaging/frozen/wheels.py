"""Installs locked wheels for any architecture into a directory, with this interpreter's pip."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from frozen.architectures import Architecture

PYTHON = "3.11"


def install_locked(arch: Architecture, lock: Path, target: Path) -> Path:
    """Install what the lock file pins, by its hashes, into `target`. Returns `target`.

    What is there already is used again if it was made from the same lock file.
    """
    stamp = target.with_name(f"{target.name}.inputs")
    wanted = [PYTHON, *arch.wheel_platforms, lock.read_text(encoding="utf-8")]
    inputs = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    if target.is_dir() and stamp.is_file() and stamp.read_text(encoding="ascii") == inputs:
        return target
    shutil.rmtree(target, ignore_errors=True)
    _pip(arch, target, ["--require-hashes", "-r", str(lock)])
    stamp.write_text(inputs, encoding="ascii")
    return target


def install_wheel(arch: Architecture, wheel: Path, target: Path) -> Path:
    """Install one wheel without its dependencies, in place of an earlier one."""
    shutil.rmtree(target, ignore_errors=True)
    _pip(arch, target, [str(wheel)])
    return target


def pins_of(lock: Path, project: str) -> str:
    """Returns the lines of a lock file that pin one project, with its hashes."""
    kept, inside = [], False
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.startswith((" ", "#")):
            inside = line.startswith(f"{project}==")
        if inside and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _pip(arch: Architecture, target: Path, words: Sequence[str]) -> None:
    scratch = target.with_name(target.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    platforms = [word for tag in arch.wheel_platforms for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--target", str(scratch), "--no-compile", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    subprocess.run([*command, *platforms, *words], check=True)
    scratch.rename(target)
