"""`python -m frozen --wheel FILE --epoch SECONDS [ARCH...]`: freezes Airside (docs/packages.md).

Makes OUTPUT/ARCH/airside, laid out as /opt/airside. Downloads are kept beside it. What was made
from the same wheel, locks and recipe is kept.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from frozen import debian_runtime, foreign, pyinstaller, sbom, tree, wheels
from frozen.architectures import ARCHITECTURES, Architecture, native
from frozen.bootloader import make_program

ROOT = Path(__file__).parents[2]
LOCK, TOOLS_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dist.lock"
_BOOTLOADERS = {"amd64": "Linux-64bit-intel", "arm64": "Linux-64bit-arm"}


class Build:
    """One build of one wheel below `output`."""

    def __init__(self, output: Path, downloads: Path, wheel: Path, epoch: int) -> None:
        self._output, self._downloads = output, downloads
        self._wheel, self._epoch = wheel, epoch
        self._here = native()
        self._known: dict[str, foreign.Origins] = {}

    def make(self, names: list[str]) -> None:
        for name in names:
            self._make(ARCHITECTURES[name])

    def _make(self, arch: Architecture) -> None:
        directory = self._output / arch.name
        stamp, inputs = directory / "inputs", self._inputs()
        if stamp.is_file() and stamp.read_text(encoding="ascii") == inputs:
            return
        scratch = directory / "part"
        shutil.rmtree(scratch, ignore_errors=True)
        frozen, origins, here = self._frozen(inputs), self._origins(arch), self._origins(self._here)
        if arch == self._here:
            shutil.copytree(frozen, scratch / "bin", symlinks=True)
            (scratch / "bin/airside").unlink()
        else:
            foreign.exchange(frozen, self._here, origins, scratch / "bin")
        make_program(origins.bootloader, scratch / "bin/airside", self._here, here.root)
        shutil.copyfile(ROOT / "LICENSE", scratch / "LICENSE")
        text = sbom.document(
            scratch,
            arch,
            version=self._wheel.name.split("-")[1],
            work=self._output / "work",
            downloads=self._downloads,
            epoch=self._epoch,
        )
        (scratch / "sbom.cdx.json").write_text(text, encoding="utf-8")
        tree.check(scratch, arch)
        tree.normalise(scratch, self._epoch)
        shutil.rmtree(directory / "airside", ignore_errors=True)
        scratch.rename(directory / "airside")
        stamp.write_text(inputs, encoding="ascii")

    def _inputs(self) -> str:
        """Returns a digest of what the result is made from, but for Debian's packages."""
        digest = hashlib.sha256(str(self._epoch).encode())
        recipe = sorted(Path(__file__).parent.glob("*.[ps]*"))
        for path in [self._wheel, LOCK, TOOLS_LOCK, *recipe]:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def _frozen(self, inputs: str) -> Path:
        """Run PyInstaller, once for all architectures."""
        work = self._output / "work"
        stamp = work / "inputs"
        if not stamp.is_file() or stamp.read_text(encoding="ascii") != inputs:
            origins = self._origins(self._here)
            pyinstaller.freeze(
                self._here,
                origins.root,
                modules=origins.modules,
                tools=self._tools(),
                work=work,
                epoch=self._epoch,
            )
            stamp.write_text(inputs, encoding="ascii")
        return work / "dist/bin"

    def _tools(self) -> Path:
        return wheels.install_locked(self._here, TOOLS_LOCK, self._downloads / "tools")

    def _origins(self, arch: Architecture) -> foreign.Origins:
        if arch.name not in self._known:
            self._known[arch.name] = self._fetched(arch)
        return self._known[arch.name]

    def _fetched(self, arch: Architecture) -> foreign.Origins:
        downloads = self._downloads / arch.name
        root = debian_runtime.unpack_runtime(arch, downloads / "runtime")
        locked = wheels.install_locked(arch, LOCK, downloads / "locked")
        program = wheels.install_wheel(arch, self._wheel, self._output / arch.name / "program")
        lock = downloads / "bootloader.lock"
        lock.write_text(wheels.pins_of(TOOLS_LOCK, "pyinstaller"), encoding="utf-8")
        pyinstalled = wheels.install_locked(arch, lock, downloads / "bootloader")
        bootloader = pyinstalled / "PyInstaller/bootloader" / _BOOTLOADERS[arch.name] / "run"
        return foreign.Origins(arch, root, [program, locked], bootloader)


def main() -> None:
    parser = argparse.ArgumentParser(prog="frozen", description="Freeze Airside.")
    parser.add_argument("architectures", nargs="*", metavar="ARCH", help="amd64, arm64; both")
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "build/frozen")
    parser.add_argument("--downloads", type=Path, default=ROOT / "build/downloads")
    parser.add_argument("--epoch", type=int, required=True, help="SOURCE_DATE_EPOCH")
    given = parser.parse_args()
    output, downloads = given.output.resolve(), given.downloads.resolve()
    names = given.architectures or [*ARCHITECTURES]
    Build(output, downloads, given.wheel.resolve(), given.epoch).make(names)


if __name__ == "__main__":
    main()
