"""Turns the program frozen for one architecture into that for another, without a machine of it.

PyInstaller's bytecode archive is the same for each architecture; so are data files. Everything that
is machine code is replaced by the same file of the other architecture: the bootloader from
PyInstaller's wheel, Python and its libraries from Debian's packages of the same version, extension
modules from the locked wheels. A file without a counterpart ends the build.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from frozen.architectures import Architecture
from frozen.elf import is_elf


@dataclass(frozen=True)
class Origins:
    """Where the machine code of an architecture comes from."""

    arch: Architecture
    root: Path
    modules: list[Path]
    bootloader: Path

    def counterpart(self, name: Path, other: Architecture) -> Path:
        """Returns our file for `name` (below `lib`) of the other architecture."""
        ours = Path(str(name).replace(other.triplet, self.arch.triplet))
        directories = [
            self.root / "usr/lib",
            self.root / "usr/lib" / self.arch.triplet,
            self.root / "lib" / self.arch.triplet,
            *self.modules,
        ]
        for directory in directories:
            if (directory / ours).is_file():
                return directory / ours
        raise SystemExit(f"frozen: {name} has no counterpart for {self.arch.name}")

    def libraries(self, name: str) -> Path:
        """Returns the directory `name` of libraries that a wheel has bundled."""
        for directory in self.modules:
            if (directory / name).is_dir():
                return directory / name
        raise SystemExit(f"frozen: {name} has no counterpart for {self.arch.name}")


def exchange(native: Path, other: Architecture, origins: Origins, target: Path) -> None:
    """Make `target`, a `bin` directory, from the `native` one, which was frozen for `other`."""
    target.mkdir(parents=True)
    shutil.copyfile(native / "airside.pkg", target / "airside.pkg")
    bundled = set()
    for path in sorted((native / "lib").rglob("*")):
        name = path.relative_to(native / "lib")
        if path.is_dir() and not path.is_symlink():
            continue
        if name.parts[0].endswith(".libs"):
            bundled.add(name.parts[0])  # names in it differ by architecture
            continue
        source, ours = path, name
        if is_elf(path):
            source = origins.counterpart(name, other)
            ours = Path(str(name).replace(other.triplet, origins.arch.triplet))
        (target / "lib" / ours).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / "lib" / ours)
    for directory in bundled:
        shutil.copytree(origins.libraries(directory), target / "lib" / directory)
