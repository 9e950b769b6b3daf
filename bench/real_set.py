"""The set of images that the benchmark measures with: twelve images made of Debian packages.

`python bench/real_set.py` builds the set, or finds it in the cache, and prints its files. The
packages and their versions are pinned in `real_set.lock`; apt fetches them as the tests fetch
theirs, and nothing is installed. Files keep the owners, modes and times of their packages, so that
the same packages always make the same layers. A version that the mirror no longer has is replaced
by the suite's present one, and `set.json` says `"pinned": false`.

Every image has the same base layer of some thousand small files; some share a second layer; one
deletes files of a layer below. Below `~/.cache/airside-bench/<recipe>/`:

- `set.tar`, `set.tar.gz`, `set.tar.zst`: one docker-archive with all images;
- `set-oci.tar`: an OCI archive with gzip layers;
- `layers/NUMBER-NAME.tar`: each layer, uncompressed, once;
- `set.json`: names, sizes, entries and digests.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from airside.archive.writer.docker_archive import write_docker_archive
from airside.archive.writer.image_spec import OCI_LAYER_GZIP, ImageSpec, Layer
from airside.archive.writer.member import Blob
from airside.archive.writer.oci_archive import write_oci_archive
from airside.oci.digest import Digest
from support import debian

LOCK = Path(__file__).with_name("real_set.lock")
SUITE = "bookworm"
RECIPE = "2"
"""Changes whenever the same packages would make other archives."""

LAYERS: dict[str, str] = {
    "base": """
        base-files base-passwd bash bsdutils coreutils dash debianutils diffutils dpkg findutils
        grep gzip hostname init-system-helpers libacl1 libattr1 libaudit1 libblkid1 libbz2-1.0
        libc-bin libc-l10n libc6 libcap2 libcap-ng0 libcrypt1 libcurl4 libdb5.3 libgcc-s1
        libgcrypt20 libgmp10 libgnutls30 libgpg-error0 libhogweed6 libidn2-0 liblz4-1
        liblzma5 libmount1 libnettle8 libp11-kit0 libpam-modules libpam-runtime libpam0g
        libpcre2-8-0 libseccomp2 libselinux1 libsmartcols1 libssl3 libstdc++6 libsystemd0 libtasn1-6
        libtinfo6 libudev1 libunistring2 libuuid1 libxxhash0 libzstd1 login mawk mount ncurses-base
        ncurses-bin openssl passwd perl-base sed sysvinit-utils tar tzdata util-linux
        zlib1g apt ca-certificates curl gpg locales""",
    "python": "libpython3.11-minimal libpython3.11-stdlib python3.11-minimal python3.11",
    "perl": "libperl5.36 perl-modules-5.36",
    "pip": "python3-pip",
    "numpy": "python3-numpy",
    "postgresql": "postgresql-15 postgresql-client-15 libpq5",
    "node": "libnode108",
    "mariadb": "mariadb-server-core mariadb-client-core",
    "podman": "podman",
    "git": "git git-man",
    "prometheus": "prometheus",
    "alertmanager": "prometheus-alertmanager",
    "containerd": "containerd",
    "restic": "restic",
}
"""The packages of each layer."""

SLIM = "slim"
"""The layer that only deletes: documentation of the layers below."""

IMAGES: dict[str, tuple[str, ...]] = {
    "pip": ("python", "pip"),
    "numpy": ("python", "numpy"),
    "postgresql": ("postgresql", SLIM),
    "node": ("node",),
    "mariadb": ("mariadb",),
    "podman": ("podman",),
    "git": ("perl", "git"),
    "perl": ("perl",),
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager",),
    "containerd": ("containerd",),
    "restic": ("restic",),
}
"""The layers of each image above the base."""

_CREATED = "2026-01-01T00:00:00Z"
_COMPRESSORS = {
    "gz": ("pigz -n -6 -c" if shutil.which("pigz") else "gzip -n -6 -c"),
    "zst": "zstd -q -T0 -3 -c",
    "bz2": "bzip2 -1 -c",
}


@dataclass(frozen=True)
class RealSet:
    """The built set. `described` is what `set.json` says."""

    directory: Path
    described: dict[str, Any]

    @property
    def archives(self) -> dict[str, Path]:
        """The archives by kind: `tar`, `tar.gz`, `tar.zst` and `oci`."""
        return {kind: self.directory / name for kind, name in self.described["archives"].items()}

    @property
    def names(self) -> list[str]:
        return list(self.described["images"])

    @property
    def layers(self) -> list[Path]:
        """The uncompressed layers, each once, the largest first."""
        paths = [self.directory / "layers" / each["file"] for each in self.described["layers"]]
        return sorted(paths, key=lambda path: -path.stat().st_size)

    @property
    def total_bytes(self) -> int:
        return sum(layer["bytes"] for layer in self.described["layers"])

    @property
    def entries(self) -> int:
        return sum(layer["entries"] for layer in self.described["layers"])

    def singles(self) -> list[Path]:
        """Returns eight docker-archives of one image each: four plain, two gz, two zst."""
        made = self.directory / "singles"
        kinds = ("", "", "", "", ".gz", ".gz", ".zst", ".zst")
        paths = [
            made / f"{name.rpartition('/')[2].partition(':')[0]}.tar{f'{kind}'}"
            for name, kind in zip(self.names, kinds, strict=False)
        ]
        made.mkdir(exist_ok=True)
        for path, (name, image) in zip(paths, self.described["images"].items(), strict=False):
            if not path.exists():
                _write(path, [self.spec(name, image)])
        return paths

    def slow(self) -> tuple[Path, str]:
        """Returns a tar.bz2 of the four largest images, and the last name in it.

        No other archive of this size takes an agent ten seconds.
        """
        path = self.directory / "slow.tar.bz2"
        sizes = {each["diff_id"]: each["bytes"] for each in self.described["layers"]}
        images = self.described["images"]
        largest = sorted(images, key=lambda n: -sum(sizes[d] for d in images[n]["diff_ids"]))[:4]
        if not path.exists():
            _write(path, [self.spec(name, images[name]) for name in largest])
        return path, largest[-1]

    def spec(self, name: str, image: dict[str, Any]) -> ImageSpec:
        files = {each["diff_id"]: each for each in self.described["layers"]}
        layers = [
            Layer(_blob(self.directory / "layers" / files[diff_id]["file"], diff_id))
            for diff_id in image["diff_ids"]
        ]
        return ImageSpec(_config(name, image["diff_ids"]), layers, (name,))


def real_set() -> RealSet:
    """Returns the set; builds it first unless it is cached. Raises UnreachableError."""
    home = cache() / _recipe()
    described = home / "set.json"
    if not described.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with (home.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not described.exists():
                _build(home)
    return RealSet(home, json.loads(described.read_text()))


def cache() -> Path:
    return debian.cache().with_name("airside-bench")


def pinned() -> dict[str, tuple[str, str]]:
    """Returns the version and SHA-256 of each package in the lock file."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line[:1] not in ("", "#")]
    return {name: (version, digest) for name, version, digest in lines}


def _recipe() -> str:
    told = json.dumps([RECIPE, LAYERS, IMAGES, sorted(pinned().items())])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


# packages


def fetch(directory: Path) -> dict[str, Path]:
    """Download every package into `directory`; returns the .deb of each.

    A pinned version that the suite no longer has is replaced by the suite's.
    """
    config = debian.updated(SUITE)
    names = sorted({name for text in LAYERS.values() for name in text.split()})
    versions = pinned() if LOCK.exists() else {}
    download = ("apt-get", "-q", "-c", config, "download")
    asked = [f"{name}={versions[name][0]}" if name in versions else name for name in names]
    try:
        debian.run(*download, *asked, cwd=directory)
    except debian.UnreachableError:
        debian.run(*download, *(f"{name}/{SUITE}" for name in names), cwd=directory)
    found = {path.name.partition("_")[0]: path for path in directory.glob("*.deb")}
    return {name: found[name] for name in names}


# layers


def _build(home: Path) -> None:
    scratch = home.with_name(f".{home.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    for name in ("debs", "layers", "gzip"):
        (scratch / name).mkdir(parents=True)
    packages = fetch(scratch / "debs")
    is_pinned = {n: _sha256(p) for n, p in packages.items()} == {
        n: d for n, (_, d) in pinned().items()
    }
    layers = [_layer(scratch, n, name, packages) for n, name in enumerate([*LAYERS, SLIM])]
    shutil.rmtree(scratch / "debs")
    described = {
        "pinned": is_pinned,
        "layers": layers,
        "images": dict(_images({each["name"]: each["diff_id"] for each in layers})),
        "archives": {
            "tar": "set.tar",
            "tar.gz": "set.tar.gz",
            "tar.zst": "set.tar.zst",
            "oci": "set-oci.tar",
        },
    }
    _archives(scratch, RealSet(scratch, described))
    shutil.rmtree(scratch / "gzip")
    for kind, name in described["archives"].items():
        described.setdefault("bytes", {})[kind] = (scratch / name).stat().st_size
    (scratch / "set.json").write_text(json.dumps(described, indent=1))
    scratch.rename(home)


def _layer(scratch: Path, number: int, name: str, packages: dict[str, Path]) -> dict[str, Any]:
    """Write one layer; returns its description."""
    path = scratch / "layers" / f"{number:02}-{name}.tar"
    with (
        path.open("wb") as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        if name == SLIM:
            entries = _write_deletions(tar)
        else:
            entries = _write_packages(tar, [packages[each] for each in LAYERS[name].split()])
    return {
        "name": name,
        "file": path.name,
        "bytes": path.stat().st_size,
        "entries": entries,
        "diff_id": f"sha256:{_sha256(path)}",
    }


def _write_packages(out: tarfile.TarFile, packages: Sequence[Path]) -> int:
    """Write the files of some packages in the order of their paths; returns how many."""
    found: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
    opened = []
    for package in packages:
        unpacked = package.with_suffix(".tar")
        with unpacked.open("wb") as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=file, check=True)
        opened.append(tarfile.open(unpacked, mode="r:"))  # noqa: SIM115 - closed below
        for member in opened[-1]:
            name = member.name.removeprefix(".").strip("/")
            if name and not (member.isdir() and name in found):
                found[name] = (opened[-1], member)
    for name in sorted(found, key=lambda each: (found[each][1].islnk(), each)):
        tar, member = found[name]
        member.name, member.pax_headers = name, {}
        member.uname = member.gname = ""
        if member.islnk():
            member.linkname = member.linkname.removeprefix("./")
        out.addfile(member, tar.extractfile(member) if member.isreg() else None)
    for tar in opened:
        tar.close()
    return len(found)


def _write_deletions(out: tarfile.TarFile) -> int:
    """Write whiteouts, as `rm -r` in a container leaves them, and one new file."""
    for path in ("usr/", "usr/share/"):
        made = tarfile.TarInfo(path)
        made.type, made.mode, made.mtime = tarfile.DIRTYPE, 0o755, 1767225600
        out.addfile(made)
    names = ("usr/share/.wh.doc", "usr/share/.wh.man", "usr/share/slimmed")
    for path in names:
        made = tarfile.TarInfo(path)
        made.mtime = 1767225600
        out.addfile(made, io.BytesIO())
    return 2 + len(names)


# images and archives


def _images(diff_ids: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, layers in IMAGES.items():
        every = [diff_ids[each] for each in ("base", *layers)]
        yield f"registry.example/bench/{name}:1", {"diff_ids": every}


def _config(name: str, diff_ids: Sequence[str]) -> bytes:
    document = {
        "created": _CREATED,
        "architecture": debian.run("dpkg", "--print-architecture").strip(),
        "os": "linux",
        "config": {"Cmd": ["/bin/bash"], "Labels": {"image": name}},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": _CREATED, "created_by": "real_set"} for _ in diff_ids],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _archives(scratch: Path, built: RealSet) -> None:
    described = built.described
    specs = [built.spec(name, image) for name, image in described["images"].items()]
    with built.archives["tar"].open("wb") as out:
        write_docker_archive(out, specs)
    packed = {each["diff_id"]: _packed(scratch, each) for each in described["layers"]}
    oci = [
        ImageSpec(_config(name, image["diff_ids"]), [packed[d] for d in image["diff_ids"]], (name,))
        for name, image in described["images"].items()
    ]
    with built.archives["oci"].open("wb") as out:
        write_oci_archive(out, oci)
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(_compressed, built.archives["tar"], kind) for kind in ("gz", "zst")]
        for each in work:
            each.result()


def _packed(scratch: Path, layer: dict[str, Any]) -> Layer:
    """Returns a layer of the OCI archive, compressed with gzip."""
    source = scratch / "layers" / layer["file"]
    path = _compressed(source, "gz").rename(scratch / "gzip" / layer["file"])
    return Layer(_blob(path, f"sha256:{_sha256(path)}"), OCI_LAYER_GZIP)


def _compressed(source: Path, kind: str) -> Path:
    path = source.with_name(f"{source.name}.{kind}")
    with source.open("rb") as file, path.open("wb") as out:
        subprocess.run(_COMPRESSORS[kind].split(), stdin=file, stdout=out, check=True)
    return path


def _write(path: Path, specs: Sequence[ImageSpec]) -> None:
    """Write a docker-archive, compressed as its name says."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    kind = path.suffix.removeprefix(".")
    with part.open("wb") as out:
        write_docker_archive(out, specs)
    if kind in _COMPRESSORS:
        packed = _compressed(part, kind)
        part.unlink()
        part = packed
    part.rename(path)


def _blob(path: Path, digest: str) -> Blob:
    return Blob(
        Digest("sha256", digest.partition(":")[2]), path.stat().st_size, partial(path.open, "rb")
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(built: RealSet) -> Iterable[str]:
    size = f"{built.entries} entries, {built.total_bytes / 1e6:.0f} MB"
    yield f"{len(built.names)} images, {len(built.layers)} layers, {size}"
    for kind, path in built.archives.items():
        yield f"{kind:8} {path} ({path.stat().st_size / 1e6:.0f} MB)"
    yield f"layers   {built.directory / 'layers'}"


if __name__ == "__main__":
    print("\n".join(_lines(real_set())))
