"""The parts of the benchmark that need no containerd: serving, memory, idle, restart, and others.

Each returns rows of (what, figure), and prints them as it gets them.
"""

import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import file_system
from catalog import CatalogBench
from pairs import ratio
from peers import agent, docker_registry, head, shell, wait_until
from processors import used_by
from real_set import RealSet
from traffic import Traffic

from support.images import big_archive, docker_archive, random_image

MIB = 1024 * 1024


@dataclass
class OtherParts:
    """The parts, by the names of their methods. `base`: a directory for all files."""

    base: Path
    images: RealSet
    runs: int
    memory_mb: int
    rows: list[tuple[str, str]] = field(default_factory=list)

    def say(self, what: str, figure: str) -> None:
        self.rows.append((what, figure))
        print(f"{what:72} {figure}", flush=True)

    def serving(self) -> None:
        """Compare dropping the set with `skopeo copy` of it into docker-registry."""
        for kind, transport in (("oci", "oci-archive"), ("tar", "docker-archive")):
            archive = self.images.archives[kind]
            pairs = [
                (self._drop(archive), self._skopeo(f"{transport}:{archive}"))
                for _ in range(self.runs)
            ]
            ours, theirs = zip(*pairs, strict=True)
            found = ratio(theirs, ours, more_is_better=True)
            mine, peer = statistics.median(ours), statistics.median(theirs)
            self.say(
                f"{transport}: dropped → served / `skopeo copy` into docker-registry",
                f"{mine:.2f} s, peer {peer:.2f} s, peer/ours {found}",
            )

    def _drop(self, archive: Path) -> float:
        """Returns the seconds from a rename into place until every image is served."""
        with file_system.fresh(self.base) as disk, agent(disk / "agent", seconds=60) as node:
            waiting = disk / archive.name
            shutil.copyfile(archive, waiting)
            file_system.sync(disk)
            started = time.perf_counter()
            waiting.rename(node.images / archive.name)
            paths = [f"/v2/{n.removesuffix(':1')}/manifests/1" for n in self.images.names]
            end = wait_until(lambda: head(node.registry, paths[-1]) == 200, 600)
            assert all(head(node.registry, path) == 200 for path in paths)
            return end - started

    def _skopeo(self, source: str) -> float:
        """Returns the seconds to copy every image of an archive into an empty docker-registry."""
        copy = "skopeo --insecure-policy copy -q --dest-tls-verify=false"
        with file_system.fresh(self.base) as disk, docker_registry(disk / "registry") as registry:
            started = time.perf_counter()
            for name in self.images.names:
                target = f"docker://{registry}/{name.split('/', 1)[1]}"
                shell(f"{copy} {source}:{name} {target}")
            return time.perf_counter() - started

    def memory(self) -> None:
        """The agent's peak while one large archive is imported."""
        for suffix, compression in (("tar", "none"), ("tar.gz", "gzip"), ("tar.zst", "zstd")):
            archive = self.base / f"big.{suffix}"
            big_archive(archive, self.memory_mb * MIB, compression=compression)
            with agent(self.base / "agent", seconds=60) as node:
                idle = node.memory_mb("VmRSS")
                archive.rename(node.images / archive.name)
                path = "/v2/docker.io/airside/big/manifests/1"
                wait_until(lambda r=node.registry, p=path: head(r, p) == 200, 600, 0.05)
                peak = node.memory_mb("VmHWM")
            self.say(
                f"memory, one archive of {self.memory_mb} MB as {suffix}",
                f"idle {idle:.0f} MB, peak {peak:.0f} MB",
            )
            shutil.rmtree(self.base / "agent")

    def idle(self, seconds: float = 30.0) -> None:
        """Memory and processor time of an agent without work."""
        with agent(self.base / "agent", seconds=60) as node:
            docker_archive(node.images / "a.tar", {"bench/a:1": random_image(1)})
            time.sleep(3)
            before = used_by([node.process.pid]).total
            time.sleep(seconds)
            used = used_by([node.process.pid]).total - before
            memory = node.memory_mb("VmRSS")
        self.say("idle", f"{memory:.0f} MB RSS, {100 * used / seconds:.2f} % of a core")

    def restart(self, count: int = 200) -> None:
        """A start of the agent with archives that did not change."""
        base = self.base / "agent"
        with agent(base, seconds=60) as node:
            for n in range(count):
                docker_archive(
                    node.images / f"a{n}.tar", {f"bench/a{n}:1": random_image(n, layer_bytes=2000)}
                )
            wait_until(
                lambda: node.get("/v1/status")["archives"].get("imported") == count, 300, 0.2
            )
        with agent(base, fresh=False, seconds=60) as node:
            log = (base / "log").read_text().splitlines()
            ready = [json.loads(line)["message"] for line in log if " ready in " in line][-1]
            reads = Path(f"/proc/{node.process.pid}/io").read_text().splitlines()[0]
        self.say(f"restart, {count} unchanged archives", f"{ready}; {reads}")

    def traffic(self, size_mb: int = 128, manifests: int = 300) -> None:
        """Compare pulls and pushes with docker-registry, on disk and in memory."""
        with tempfile.TemporaryDirectory(prefix="airside-bench-", dir="/var/tmp") as directory:
            Traffic(Path(directory), self.say, self.runs, size_mb, manifests).run()

    def catalog(self) -> None:
        """Many images."""
        CatalogBench(self.base, self.say).run()

    def catalog_peer(self) -> None:
        """Many images in docker-registry."""
        CatalogBench(self.base, self.say).peer()


PARTS = ("serving", "traffic", "restart", "idle", "memory", "catalog", "catalog_peer")
