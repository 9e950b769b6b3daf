"""`make bench`: compares Airside with its peers in one run, as ratios.

Each figure is the median of `--runs` pairs. A pair runs both sides one after the other on the same
files in the page cache. Absolute times depend on the machine, the ratios much less.
"""

import argparse
import io
import json
import math
import random
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from catalog import CatalogBench
from observing import Observing
from peers import Agent, agent, docker_registry, head, shell, wait_until
from traffic import Traffic
from unpacking import ContainerdBench

from support.images import (
    TestImage,
    big_archive,
    docker_archive,
    image_of,
    layer_of,
    oci_archive,
    random_image,
)

MIB = 1024 * 1024
_FILE_KB = 40
"""Mean size of a file in the trees that are unpacked."""


def image_set(size_mb: int, compression: str, *, file_kb: int = 0) -> dict[str, TestImage]:
    """Returns twelve images, by name, on one base layer with 40 % of the bytes.

    Each layer is one file, or with `file_kb` a tree of files of that mean size.
    """
    base = layer_of(_layer_tar(0, size_mb * 4 // 10, file_kb), compression=compression)
    rest = size_mb * 6 // 10 // 12
    return {
        f"registry.example/bench/app-{n}:1": image_of(
            [base, layer_of(_layer_tar(n, rest, file_kb), compression=compression)], label=str(n)
        )
        for n in range(1, 13)
    }


def _layer_tar(seed: int, size_mb: int, file_kb: int = 0) -> bytes:
    """Returns a tar of one file or of many, about half compressible."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(3, 9)).hex().encode() for _ in range(2000)]
    text = b" ".join(rng.choices(words, k=40_000))
    data = b"".join(
        rng.randbytes(MIB // 2) + _rotated(text, rng)[: MIB // 2] for _ in range(max(1, size_mb))
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, (start, count) in enumerate(_cuts(len(data), file_kb * 1024, rng)):
            place = f"{number // 500}/{number // 25}/" if file_kb else ""
            info = tarfile.TarInfo(f"usr/lib/{place}file-{seed}-{number}")
            info.size = count
            tar.addfile(info, io.BytesIO(data[start : start + count]))
    return out.getvalue()


def _cuts(total: int, mean: int, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Yields (start, size) of files as unequal as those of real images: most are small."""
    start = 0
    while start < total:
        size = int(rng.lognormvariate(math.log(mean) - _SPREAD**2 / 2, _SPREAD)) if mean else total
        size = min(max(size, 1), total - start)
        yield start, size
        start += size


_SPREAD = 1.8


def _rotated(text: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(text))
    return (text[at:] + text[:at]) * (1 + MIB // 2 // len(text))


class Bench:
    """The parts of the benchmark, by the names of its methods."""

    def __init__(self, base: Path, runs: int, size_mb: int, containerd: str | None) -> None:
        self.base, self.runs, self.size_mb = base, runs, size_mb
        self.containerd = containerd
        self.rows: list[tuple[str, str]] = []

    def say(self, what: str, figure: str) -> None:
        self.rows.append((what, figure))
        print(f"{what:72} {figure}", flush=True)

    def archives(self, *, file_kb: int = 0) -> tuple[dict[str, Path], list[str]]:
        """Write the set as docker-archives, and as an OCI archive with gzip layers.

        Returns the paths by suffix, and the images' names.
        """
        plain = image_set(self.size_mb, "none", file_kb=file_kb)
        found = {}
        for suffix, compression in (("tar", "none"), ("tar.gz", "gzip"), ("tar.zst", "zstd")):
            found[suffix] = self.base / f"set.{suffix}"
            docker_archive(found[suffix], plain, compression=compression)
        found["oci"] = self.base / "set-oci.tar"
        oci_archive(found["oci"], image_set(self.size_mb, "gzip", file_kb=file_kb))
        return found, list(plain)

    def drop(self, archive: Path, names: list[str]) -> tuple[float, Agent]:
        """Returns the seconds from a rename into place until every image is served."""
        with agent(self.base / "agent") as node:
            waiting = self.base / "agent" / archive.name
            shutil.copyfile(archive, waiting)
            shell("sync")
            started = time.perf_counter()
            waiting.rename(node.images / archive.name)
            paths = [f"/v2/{n.replace(':1', '')}/manifests/1" for n in names]
            end = wait_until(lambda: all(head(node.registry, p) == 200 for p in paths[-1:]), 300)
            assert all(head(node.registry, p) == 200 for p in paths)
            return end - started, node

    def compare(self, what: str, ours: Callable[[], float], theirs: Callable[[], float]) -> None:
        pairs = [(ours(), theirs()) for _ in range(self.runs)]
        ratios = [b / a for a, b in pairs]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        self.say(
            what, f"{mine:7.3f} s  peer {other:7.3f} s  peer/ours {statistics.median(ratios):.2f}"
        )

    def imports(self) -> None:
        archives, names = self.archives()
        sizes = ", ".join(f"{k} {p.stat().st_size / 1e6:.0f} MB" for k, p in archives.items())
        self.say("set of 12 images", sizes)
        out = self.base / "out"
        pipes = {
            "tar": "cat {}",
            "tar.gz": f"{'pigz' if shutil.which('pigz') else 'gzip'} -dc {{}}",
            "tar.zst": "zstd -dc {}",
        }
        for suffix, command in pipes.items():
            source = archives[suffix]
            hashed = f"{command.format(source)} | tee {out} | openssl dgst -sha256"
            pipe = f"{hashed}; sync {out}; rm {out}"
            self.compare(
                f"{suffix}: dropped → served / C tools: decompress | write | sha256",
                lambda s=source: self.drop(s, names)[0],
                lambda p=pipe: shell(p),
            )
        copies = {
            "tar": f"cp {{}} {out}",
            "tar.gz": f"{pipes['tar.gz']} > {out}",
            "tar.zst": f"zstd -dcf {{}} > {out}",
        }
        for suffix, command in copies.items():
            source = archives[suffix]
            copy = f"{command.format(source)}; sync {out}; rm {out}"
            self.compare(
                f"{suffix}: dropped → served / decompress or copy to a file, sync",
                lambda s=source: self.drop(s, names)[0],
                lambda c=copy: shell(c),
            )
        self.compare(
            "OCI, gzip layers: dropped → served / skopeo → docker-registry",
            lambda: self.drop(archives["oci"], names)[0],
            lambda: self.skopeo(f"oci-archive:{archives['oci']}", names),
        )
        self.compare(
            "docker-archive tar: dropped → served / skopeo → docker-registry",
            lambda: self.drop(archives["tar"], names)[0],
            lambda: self.skopeo(f"docker-archive:{archives['tar']}", names),
        )
        _remove(archives.values())

    def skopeo(self, source: str, names: list[str]) -> float:
        """Returns the seconds to copy every image of an archive into an empty docker-registry."""
        with docker_registry(self.base / "registry") as registry:
            started = time.perf_counter()
            for name in names:
                target = f"docker://{registry}/{name.split('/', 1)[1]}"
                copy = "skopeo --insecure-policy copy -q --dest-tls-verify=false"
                shell(f"{copy} {source}:{name} {target}")
            return time.perf_counter() - started

    def memory(self, total_mb: int) -> None:
        for suffix, compression in (("tar", "none"), ("tar.gz", "gzip"), ("tar.zst", "zstd")):
            archive = self.base / f"big.{suffix}"
            big_archive(archive, total_mb * MIB, compression=compression)
            with agent(self.base / "agent") as node:
                idle = node.memory_mb("VmRSS")
                archive.rename(node.images / archive.name)
                path = "/v2/docker.io/airside/big/manifests/1"
                wait_until(lambda r=node.registry, p=path: head(r, p) == 200, 600, 0.05)
                peak = node.memory_mb("VmHWM")
            self.say(
                f"memory, {total_mb} MB as {suffix}", f"idle {idle:.0f} MB, peak {peak:.0f} MB"
            )

    def idle(self, seconds: float = 30.0) -> None:
        with agent(self.base / "agent") as node:
            archive = node.images / "a.tar"
            docker_archive(archive, {"bench/a:1": random_image(1)})
            time.sleep(3)
            before = node.cpu_seconds()
            time.sleep(seconds)
            used = node.cpu_seconds() - before
            memory = node.memory_mb("VmRSS")
        self.say("idle", f"{memory:.0f} MB RSS, {100 * used / seconds:.2f} % of a core")

    def restart(self, count: int = 200) -> None:
        base = self.base / "agent"
        with agent(base) as node:
            for n in range(count):
                docker_archive(
                    node.images / f"a{n}.tar", {f"bench/a{n}:1": random_image(n, layer_bytes=2000)}
                )
            wait_until(
                lambda: node.get("/v1/status")["archives"].get("imported") == count, 120, 0.2
            )
        with agent(base, fresh=False) as node:
            log = (base / "log").read_text().splitlines()
            ready = [json.loads(line)["message"] for line in log if " ready in " in line][-1]
            reads = Path(f"/proc/{node.process.pid}/io").read_text().splitlines()[0]
        self.say(f"restart, {count} unchanged archives", f"{ready}; {reads}")

    def publishing(self) -> None:
        """Publish to containerd, not unpacked."""
        archives, names = self.archives(file_kb=_FILE_KB)
        used = {kind: archives[kind] for kind in ("tar", "tar.zst", "tar.gz")}
        self._containerd().publishing(used, names)
        _remove(archives.values())

    def unpacking(self) -> None:
        """Publish to containerd and unpack: layers of many files, then of one file each."""
        for file_kb in (_FILE_KB, 0):
            what = f"files of {file_kb} KiB" if file_kb else "a file in each layer"
            kinds = {f"docker-archive tar, {what}": "none", f"OCI, gzip layers, {what}": "gzip"}
            for kind, compression in kinds.items():
                images = image_set(self.size_mb, compression, file_kb=file_kb)
                archive = self.base / "set.tar"
                (oci_archive if compression == "gzip" else docker_archive)(archive, images)
                layers = self._layers(images)
                names = list(images)
                del images
                self._containerd().unpacking({kind: archive}, names, {kind: layers})
                _remove([archive, *layers])

    def _layers(self, images: dict[str, TestImage]) -> list[Path]:
        """Write each layer of the set to a file; returns the paths, the largest first."""
        every = {layer.digest.hex: layer.raw for image in images.values() for layer in image.layers}
        paths = []
        for name, raw in sorted(every.items(), key=lambda item: -len(item[1])):
            paths.append(self.base / name)
            paths[-1].write_bytes(raw)
        return paths

    def _containerd(self) -> ContainerdBench:
        return ContainerdBench(self.base, self.say, self.runs, self.containerd)

    def catalog(self) -> None:
        CatalogBench(self.base, self.say).run()

    def catalog_peer(self) -> None:
        CatalogBench(self.base, self.say).peer()

    def traffic(self, size_mb: int = 128, manifests: int = 300) -> None:
        Traffic(self.base, self.say, self.runs, size_mb, manifests).run()

    def observing(self) -> None:
        archives, names = self.archives()
        Observing(self.base, self.say, self.runs).run(archives["tar.zst"], names[-1])


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=750)
    parser.add_argument("--directory", default="/var/tmp", help="directory for all files")
    parser.add_argument("--containerd", help="1.6, 1.7 or 2.1; default: the installed version")
    parser.add_argument("--memory-mb", type=int, default=2048)
    parser.add_argument(
        "parts",
        nargs="*",
        default=[
            "imports",
            "publishing",
            "unpacking",
            "traffic",
            "restart",
            "catalog",
            "catalog_peer",
            "idle",
            "memory",
            "observing",
        ],
    )
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="airside-bench-", dir=options.directory))
    try:
        bench = Bench(directory, options.runs, options.size_mb, options.containerd)
        for part in options.parts:
            getattr(bench, part)(*([options.memory_mb] if part == "memory" else []))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
