"""`python -m packages --epoch SECONDS [ARCH...]`: makes the .deb and .rpm (docs/packages.md).

What they are made of, beside the frozen program, is in build/packages/ARCH; `packaging/nfpm.yaml`
says where it goes. The same input gives the same bytes.
"""

import argparse
import gzip
import os
import shutil
import subprocess
import time
from pathlib import Path

from frozen import wheels
from frozen.architectures import ARCHITECTURES, native
from frozen.tree import OLDEST_GLIBC

from airside import __version__
from airside.cli.main import airside
from airside.install.configuration import DEFAULT
from airside.install.layers_unit import service_text, socket_text
from airside.install.targets import LAYERS_SERVICE, LAYERS_SOCKET, UNIT
from airside.install.unit import Place, unit_text
from packages import completions, manual

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements-dist.lock"
KINDS = ("deb", "rpm")


def main() -> None:
    parser = argparse.ArgumentParser(prog="packages")
    parser.add_argument("--epoch", type=int, required=True, help="time of all files")
    parser.add_argument("--version", default=__version__, help="of the packages")
    parser.add_argument("--frozen", type=Path, default=ROOT / "build/frozen")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("arch", nargs="*", default=list(ARCHITECTURES))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for arch in given.arch:
        frozen = given.frozen.absolute() / arch / "airside"
        if not (frozen / "bin/airside").is_file():
            raise SystemExit(f"packages: no frozen program in {frozen}: run `make frozen`")
        build = ROOT / "build/packages" / arch
        write_parts(build, given.epoch)
        for kind in KINDS:
            _pack(kind, arch, build, frozen, given)


def write_parts(build: Path, epoch: int) -> None:
    """Writes what the packages have beside the program."""
    shutil.rmtree(build, ignore_errors=True)
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    parts = {f"man/man{n[-1]}/{n}": text for n, text in manual.pages(airside, date).items()}
    for place, text in completions.files(airside).items():
        parts[f"{_shell_of(place)}/{Path(place).name}"] = text
    parts["doc/changelog"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts["doc/copyright"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    parts[UNIT] = unit_text(Place())
    parts[LAYERS_SOCKET] = socket_text()
    parts[LAYERS_SERVICE] = service_text(Place())
    parts["airside.toml"] = DEFAULT
    for name, text in parts.items():
        path, data = build / name, text.encode()
        if name.startswith("man/") or name == "doc/changelog":
            path = path.with_name(f"{path.name}.gz")
            data = gzip.compress(data, mtime=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for each in (build, *build.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
        os.utime(each, (epoch, epoch))


def _shell_of(place: str) -> str:
    return next(name for name in ("bash", "zsh", "fish") if f"/{name}" in place)


def _pack(kind: str, arch: str, build: Path, frozen: Path, given: argparse.Namespace) -> None:
    tools = wheels.install_locked(native(), LOCK, ROOT / "build/downloads/tools")
    variables = {
        "ARCH": arch,
        "VERSION": given.version,
        "BUILD": str(build),
        "FROZEN": str(frozen),
        "GLIBC": ".".join(map(str, OLDEST_GLIBC)),
        "SOURCE_DATE_EPOCH": str(given.epoch),
    }
    command = [tools / "bin/nfpm", "package", "--config", "packaging/nfpm.yaml"]
    command += ["--packager", kind, "--target", given.output.absolute()]
    subprocess.run(
        list(map(str, command)),
        check=True,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
