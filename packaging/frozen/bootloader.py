"""Makes `bin/airside` from PyInstaller's bootloader."""

import subprocess
from pathlib import Path

from frozen.architectures import Architecture

_BESIDE = b"MEI\r\x0b\n\x0b\x0e"
"""Tells the bootloader that its archive is in a file beside it; PyInstaller writes the same."""


def make_program(bootloader: Path, target: Path, here: Architecture, root: Path) -> None:
    """Write `target`: finds its libraries in `lib` beside it, and its archive in `airside.pkg`.

    The bootloader itself asks for zlib, which minimal hosts lack. `root`: Debian's packages for
    `here`, this machine's architecture, with patchelf.
    """
    libraries = f"{root}/usr/lib/{here.triplet}:{root}/lib/{here.triplet}"
    command = [f"{root}/usr/bin/patchelf", "--set-rpath", "$ORIGIN/lib"]
    subprocess.run(
        [*command, "--output", str(target), str(bootloader)],
        env={"LD_LIBRARY_PATH": libraries},
        check=True,
    )
    with target.open("ab") as file:
        file.write(_BESIDE)
