"""From dropped to named, and to unpacked: Airside, `ctr images import --local`, the physical limit.

Every side of a round begins with a fresh ext4, an empty containerd and its archive in the page
cache, and takes turns with the others. Ours begins with the rename into the watched directory and
ends when containerd has the last name; the peer's ends with `ctr`. Ours is durable then, except for
snapshots, and so is the peer's; both figures until all is on disk are kept too (`durable_seconds`).
The limits are done by C programs on the same file system:

- not unpacked: `cp` and `sync`; of a compressed archive its decompressor's output and `sync`;
- unpacked: `cp` and `sync` of the archive, then `tar -x` of each layer once, on all cores; of gzip
  layers with `igzip -dc` before `tar`.
"""

import contextlib
import os
import shlex
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import file_system
from machine import touch_memory
from pairs import LIMIT, OURS, PEER, Measure, Sample
from peers import AIRSIDE, Agent, agent, shell, wait_until
from processors import used_by, used_by_ended_children
from real_set import RealSet

from airside.containerd.client import Client
from support import debian, erofs
from support.containerd import Containerd
from support.containerd_config import Options

SECONDS = 600.0
_POLL_SECONDS = 0.01
_PIPES = {".gz": "gzip -dc", ".zst": "zstd -dcq"}
"""How a person feeds a compressed archive to `ctr`, which reads none."""
_COPIES = {".tar": "cp {} {}", ".gz": "{igzip} -dc {} > {}", ".zst": "zstd -dcq {} > {}"}


def measures(snapshotter: str = "overlayfs") -> list[Measure]:
    """Returns the measures, without samples. Targets: what is asked of two cores.

    With the snapshotter erofs an unpack is one sequential write: its limit is that of copying.
    """
    copy, unpacked = "`cp` + `sync`", "`cp` + `sync` + `tar -x` on all cores"
    to_file = "to a file + `sync`"
    if snapshotter == "erofs":
        return [Measure("erofs plain", "dropped → unpacked, plain tar, erofs", 2.5, 1.2, copy)]
    return [
        Measure("unpacked plain", "dropped → unpacked, plain tar", 2.5, 1.3, unpacked),
        Measure("named plain", "dropped → named, plain tar", 3.0, 1.5, copy),
        Measure("named zst", "dropped → named, tar.zst", 3.0, 1.3, f"`zstd -dc` {to_file}"),
        Measure("named gz", "dropped → named, tar.gz", 4.0, 1.3, f"`igzip -dc` {to_file}"),
        Measure(
            "unpacked oci",
            "dropped → unpacked, OCI with gzip layers",
            2.5,
            1.5,
            f"{unpacked}, through `igzip -dc`",
        ),
    ]


ARCHIVES = {
    "named plain": "tar",
    "named zst": "tar.zst",
    "named gz": "tar.gz",
    "unpacked plain": "tar",
    "unpacked oci": "oci",
    "erofs plain": "tar",
}


@dataclass
class Importing:
    """Runs rounds of the measures. `base`: where the loop file lies. `ways`: how blobs came."""

    base: Path
    images: RealSet
    containerd: str
    snapshotter: Literal["overlayfs", "native", "erofs"]
    ways: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.snapshotter == "erofs":
            os.environ.update(erofs.environ())  # containerd and the agent find mkfs.erofs

    def round(self, measure: Measure) -> None:
        """Run each side once."""
        archive = self.images.archives[ARCHIVES[measure.name]]
        unpack = not measure.name.startswith("named")
        ours = self._ours(archive, unpack=unpack)
        theirs = self._theirs(archive, unpack=unpack)
        extract = measure.name.startswith("unpacked")
        measure.add({OURS: ours, PEER: theirs, LIMIT: self._limit(archive, extract=extract)})

    @contextlib.contextmanager
    def empty(self, *archives: Path) -> Iterator[tuple[Path, Containerd]]:
        """A fresh file system with copies of archives in `dropped/`, and an empty containerd."""
        options = Options(snapshotter=self.snapshotter)
        with file_system.fresh(self.base) as disk:
            (disk / "dropped").mkdir()
            for archive in archives:
                shutil.copyfile(archive, disk / "dropped" / archive.name)
            with Containerd(self.containerd, disk / "containerd", options=options) as made:
                file_system.sync(disk)
                yield disk, made

    @contextlib.contextmanager
    def connected(
        self,
        disk: Path,
        containerd: Containerd,
        *,
        unpack: bool,
        program: tuple[str, ...] = AIRSIDE,
        **settings: str,
    ) -> Iterator[Agent]:
        """An agent on that file system, connected to the containerd."""
        settings["unpack"] = "node-platform" if unpack else "never"
        settings["runtime"] = str(containerd.socket)
        with agent(disk / "agent", seconds=60, program=program, **settings) as node:
            wait_until(lambda: _is_connected(node.get("/v1/status")), SECONDS)
            yield node

    def _ours(self, archive: Path, *, unpack: bool) -> Sample:
        with (
            self.empty(archive) as (disk, containerd),
            self.connected(disk, containerd, unpack=unpack) as node,
        ):
            pids = (containerd.pid, node.process.pid)
            file_system.sync(disk)
            touch_memory()
            load, before = os.getloadavg()[0], used_by(pids)
            started = time.perf_counter()
            (disk / "dropped" / archive.name).rename(node.images / archive.name)
            there = until_named(containerd, self.images.names)
            durable = wait_until(
                lambda: is_recorded(node, self.images.names, unpacked=unpack), SECONDS, 0.1
            )
            used = used_by(pids) - before
            [runtime] = node.get("/v1/status")["runtimes"]
            self.ways.update(runtime["blobs"])
        return Sample(there - started, used.total, load, durable - started)

    def _theirs(self, archive: Path, *, unpack: bool) -> Sample:
        with self.empty(archive) as (disk, containerd):
            flags = [*containerd.local, "--snapshotter", str(containerd.options.snapshotter)]
            flags += [] if unpack else ["--no-unpack"]
            ctr = [str(containerd.programs / "ctr"), "-a", str(containerd.socket), "-n", "k8s.io"]
            command = shlex.join([*ctr, "images", "import", *flags])
            pipe = _PIPES.get(archive.suffix)
            source = shlex.quote(str(disk / "dropped" / archive.name))
            line = f"{pipe} {source} | {command} -" if pipe else f"{command} {source}"
            touch_memory()
            load = os.getloadavg()[0]
            before = used_by([containerd.pid]) + used_by_ended_children()
            started = time.perf_counter()
            shell(line)
            there = time.perf_counter() - started
            used = used_by([containerd.pid]) + used_by_ended_children() - before
            file_system.sync(disk)
            durable = time.perf_counter() - started
        return Sample(there, used.total, load, durable)

    def _limit(self, archive: Path, *, extract: bool) -> Sample:
        with file_system.fresh(self.base) as disk:
            source = disk / archive.name
            shutil.copyfile(archive, source)
            layers = self._layers(archive, disk) if extract else []
            file_system.sync(disk)
            touch_memory()
            load, before = os.getloadavg()[0], used_by_ended_children()
            copied = f"{disk}/copy"
            copy = _COPIES[archive.suffix].format(source, copied, igzip=igzip())
            seconds = shell(f"{copy} && sync {copied}")
            if extract:
                seconds += _extract(layers, disk)
            used = used_by_ended_children() - before
            started = time.perf_counter()
            file_system.sync(disk)
            durable = seconds + time.perf_counter() - started
        return Sample(seconds, used.total, load, durable)

    def _layers(self, archive: Path, disk: Path) -> list[Path]:
        """Returns the layers as the archive has them, the largest first."""
        if archive != self.images.archives["oci"]:
            return self.images.layers
        target = disk / "layers"
        target.mkdir()
        with tarfile.open(archive) as tar:
            for member in tar:
                blob = tar.extractfile(member)
                if blob is not None and blob.read(2) == b"\x1f\x8b":
                    blob.seek(0)
                    with (target / f"{Path(member.name).name}.gz").open("wb") as out:
                        shutil.copyfileobj(blob, out, 1 << 20)
        return sorted(target.iterdir(), key=lambda path: -path.stat().st_size)


def _extract(layers: Sequence[Path], disk: Path) -> float:
    """Extract each layer into a directory of its own, on all cores; returns the seconds."""
    for layer in layers:
        (disk / "out" / layer.name).mkdir(parents=True)
    source = f"{igzip()} -dc {{}} | tar -x" if layers[0].suffix == ".gz" else "tar -xf {}"
    each = f"{source} -C {disk}/out/$(basename {{}})"
    names = "\\n".join(map(str, layers))
    return shell(f"printf '{names}' | xargs -P {os.cpu_count()} -I{{}} sh -c '{each}'")


def igzip() -> str:
    """Returns the command of the fastest gzip decompressor: ISA-L's, of Debian's package."""
    if found := shutil.which("igzip"):
        return found
    program = debian.unpacked("bookworm", "isal") / "usr/bin/igzip"
    library = next((debian.unpacked("bookworm", "libisal2") / "usr/lib").glob("*/libisal.so.2"))
    return f"env LD_LIBRARY_PATH={library.parent} {program}"


def until_named(containerd: Containerd, names: Sequence[str]) -> float:
    """Wait until containerd has all names; returns the time (`perf_counter`)."""
    due = list(names)
    with Client.open(str(containerd.socket)) as client:

        def there() -> bool:
            while due and client.images.get(due[-1]) is not None:
                due.pop()
            return not due

        return wait_until(there, SECONDS, _POLL_SECONDS)


def is_recorded(node: Agent, names: Sequence[str], *, unpacked: bool) -> bool:
    """Returns True if the agent reports all names as published, which it does once durable."""
    found = {
        image["reference"]
        for image in node.get("/v1/images")["items"]
        if any(r["present"] and (r["unpacked"] or not unpacked) for r in image["runtimes"])
    }
    return set(names) <= found


def _is_connected(status: dict[str, list[dict[str, bool]]]) -> bool:
    return any(runtime["connected"] for runtime in status["runtimes"])
