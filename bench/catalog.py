"""Measures the catalog with 10,000 images, with 100, and `docker-registry` with the same images.

`docs/scale.md` has the figures of one run.

The images are imported as in production: archives of 100 images (docker-archives and OCI layouts in
turn) are dropped into the watched directory of an agent. Each image shares a base layer with its
archive, and has a small layer, a config and a manifest of its own.
"""

import contextlib
import http.client
import json
import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from peers import AIRSIDE, Agent, agent, docker_registry, head, shell, wait_until

from support.images import TestImage, docker_archive, oci_archive, random_image, random_layer

PER_ARCHIVE = 100
PAGE = 1000
"""Repositories per request: `docker-registry` refuses a larger `n`."""
HOST = "registry.example"
LOOKUPS = 2000
_SECONDS = 600.0
Say = Callable[[str, str], None]
Names = list[tuple[str, str]]


def name_of(archive: int, number: int) -> tuple[str, str]:
    """Returns (repository, tag).

    An archive has 20 repositories of 5 tags; its last image is in a shared repository instead.
    """
    if number == PER_ARCHIVE - 1:
        return "shared/builds", f"build-{archive}"
    return f"team-{archive}/app-{number // 5}", f"1.{number % 5}"


def images_of(archive: int, *, version: str = "") -> dict[str, TestImage]:
    media = "docker" if archive % 2 else "oci"
    base = random_layer(f"base {archive}", layer_bytes=2000, media=media)
    found = {}
    for number in range(PER_ARCHIVE):
        repository, tag = name_of(archive, number)
        seed = f"{archive}/{number}{version}"
        image = random_image(seed, layers=1, layer_bytes=2000, media=media, base=[base])
        found[f"{HOST}/{repository}:{tag}"] = image
    return found


def write_images(path: Path, archive: int, *, version: str = "") -> None:
    write = docker_archive if archive % 2 else oci_archive
    write(path, images_of(archive, version=version))


class CatalogBench:
    """The parts `catalog` and `catalog_peer`."""

    def __init__(self, base: Path, say: Say, archives: int = 100) -> None:
        self.base, self.say, self.archives = base, say, archives
        self._numbers = iter(range(1_000_000))

    def run(self) -> None:
        few, many = self.base / "few", self.base / "many"
        for where, count in ((few, 1), (many, self.archives)):
            with agent(where) as node:
                self.say(f"--- {count * PER_ARCHIVE} images", "")
                self.fill(node, count)
            self.restarted(where, count)
            self.collected(where, count)
            self.rebuilt(where)
        shutil.rmtree(few)
        shutil.rmtree(many)

    def fill(self, node: Agent, count: int) -> None:
        """Drop the archives one after the other, each after the import of the one before."""
        times = []
        for number in range(count):
            waiting = node.data / "waiting.tar"
            write_images(waiting, number)
            started = time.perf_counter()
            waiting.rename(node.images / f"release-{number:03}.tar")
            wait_until(
                lambda n=number: node.get("/v1/status")["archives"].get("imported") == n + 1, 60
            )
            times.append(time.perf_counter() - started)
        tenth = max(1, count // 10)
        first, last = (statistics.median(part) for part in (times[:tenth], times[-tenth:]))
        self.say(
            f"import of an archive of {PER_ARCHIVE} images",
            f"first {first:.3f} s  last {last:.3f} s  last/first {last / first:.2f}",
        )
        self.say("memory after the imports, VmHWM", f"{node.memory_mb('VmHWM'):.0f} MB")

    def restarted(self, where: Path, count: int) -> None:
        """Measure the start of an agent that finds nothing changed, and its answers."""
        with agent(where, fresh=False, seconds=_SECONDS) as node:
            self.say("start, nothing changed", f"{ready(where)}; {read_bytes(node)}")
            self.say("memory after the start, VmRSS", f"{node.memory_mb('VmRSS'):.0f} MB")
            self.lists(node)
            names = sample(count)
            with contextlib.closing(connect(node.registry)) as connection:
                self.registry(connection, names, prefix=f"{HOST}/")
            self.explained(node, count)
            self.one_more(node)
            self.say("memory after all of it, VmHWM", f"{node.memory_mb('VmHWM'):.0f} MB")

    def lists(self, node: Agent) -> None:
        for what in ("images", "images?history=1", "archives", "status"):
            self.timed(f"{what}, control socket", lambda w=what: node.get(f"/v1/{w}"))
        for command in ("images --json", "images"):
            self.timed(f"airside {command}", lambda c=command: cli(node, c))

    def registry(self, connection: http.client.HTTPConnection, names: Names, prefix: str) -> None:
        def ask(path: str) -> bytes:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, answer.status, body)
            return body

        def every_repository() -> None:
            found: list[str] = []
            while page := json.loads(ask(f"/v2/_catalog?n={PAGE}&last={''.join(found[-1:])}")):
                found += page["repositories"] or []
                if len(page["repositories"] or []) < PAGE:
                    break

        self.timed(f"/v2/_catalog, all of it by {PAGE}", every_repository, runs=1)
        self.timed("/v2/_catalog?n=100", lambda: ask("/v2/_catalog?n=100"), runs=1)
        tags = f"/v2/{prefix}shared/builds/tags/list"
        self.timed("/v2/<repository>/tags/list", lambda: ask(tags), runs=1)
        times = []
        for repository, tag in names:
            started = time.perf_counter()
            ask(f"/v2/{prefix}{repository}/manifests/{tag}")
            times.append(1000 * (time.perf_counter() - started))
        p = statistics.quantiles(times, n=100)
        self.say(
            f"manifest by tag, {len(names)} different ones, one client",
            f"p50 {p[49]:.2f} ms  p99 {p[98]:.2f} ms",
        )

    def explained(self, node: Agent, count: int) -> None:
        repository, tag = name_of(count - 1, 7)
        for what, text in (
            ("REF", f"{HOST}/{repository}:{tag}"),
            ("of an absent name", f"{HOST}/team-0/ap-1:9"),
            ("FILE", str(node.images / f"release-{count - 1:03}.tar")),
        ):
            self.timed(
                f"explain {what}, control socket", lambda t=text: node.get(f"/v1/explain?what={t}")
            )

    def one_more(self, node: Agent) -> None:
        """Measure an archive of one image, dropped and imported by hand."""
        self.say("one more image, dropped → served", seconds(self.dropped(node) for _ in range(5)))
        self.say("one more image, import by hand", seconds(self.imported(node) for _ in range(5)))

    def one_image(self, directory: Path) -> tuple[Path, str]:
        number = next(self._numbers)
        path = directory / f"one-{number}.tar"
        oci_archive(path, {f"{HOST}/one/n{number}:1": random_image(f"one {number}", layers=1)})
        return path, f"/v2/{HOST}/one/n{number}/manifests/1"

    def dropped(self, node: Agent) -> float:
        path, manifest = self.one_image(node.data)
        started = time.perf_counter()
        path.rename(node.images / path.name)
        return wait_until(lambda: head(node.registry, manifest) == 200, 60) - started

    def imported(self, node: Agent) -> float:
        path, _ = self.one_image(self.base)
        started = time.perf_counter()
        node.post("/v1/import", {"path": str(path)})
        return time.perf_counter() - started

    def collected(self, where: Path, count: int) -> None:
        """`gc` with nothing to do, then with a tenth of the archives replaced and removed."""
        with agent(where, fresh=False, seconds=_SECONDS) as node:
            for dry_run in (True, False):
                flag = " --dry-run" if dry_run else ""
                took = self.post_gc(node, dry_run=dry_run)[0]
                self.say(f"gc{flag}, nothing to collect", f"{took:.3f} s")
        gone = max(1, count // 10)
        for number in range(gone):
            (where / "images" / f"release-{number:03}.tar").unlink()
        with agent(where, fresh=False, seconds=_SECONDS, unbacked_after_seconds="0.0") as node:
            wait_until(lambda: node.get("/v1/status")["unbacked"] >= gone * PER_ARCHIVE, 60)
            took, report = self.post_gc(node, dry_run=True)
            self.say("gc --dry-run", f"{took:.3f} s, {report['blobs']} blobs would go")
            waits: list[float] = []
            collecting = threading.Thread(target=self.waits, args=(node, waits))
            collecting.start()
            took, report = self.post_gc(node, dry_run=False)
            collecting.join()
            self.say("gc", f"{took:.3f} s, {report['blobs']} blobs went")
            self.say("one import by hand while gc runs", f"{waits[0]:.3f} s")

    def waits(self, node: Agent, into: list[float]) -> None:
        time.sleep(0.02)
        into.append(self.imported(node))

    def post_gc(self, node: Agent, *, dry_run: bool) -> tuple[float, dict[str, int]]:
        started = time.perf_counter()
        report = json.loads(node.post("/v1/gc", {"dry_run": dry_run}))
        return time.perf_counter() - started, report

    def rebuilt(self, where: Path) -> None:
        for path in where.glob("data/catalog.db*"):
            path.unlink()
        with agent(where, fresh=False, seconds=_SECONDS) as node:
            self.say("start, catalog lost: rebuilt from index.json", ready(where))
            started = time.perf_counter()

            def all_read() -> bool:
                items = node.get("/v1/archives")["items"]
                return all(i["imported_at"] for i in items if i["kind"] == "archive")

            wait_until(all_read, _SECONDS, 0.2)
            self.say("  and every archive read again", f"{time.perf_counter() - started:.1f} s")
            self.say("  memory, VmHWM", f"{node.memory_mb('VmHWM'):.0f} MB")

    def peer(self) -> None:
        """Push the same images to `docker-registry` over HTTP, which takes long, and measure it."""
        count, base = self.archives, self.base / "registry"
        with docker_registry(base) as registry, contextlib.closing(connect(registry)) as connection:
            self.say(f"--- docker-registry, {count * PER_ARCHIVE} images", "")
            started = time.perf_counter()
            for archive in range(count):
                for name, image in images_of(archive).items():
                    push(connection, name.removeprefix(f"{HOST}/"), image)
            self.say("pushed", f"{time.perf_counter() - started:.1f} s")
            self.registry(connection, sample(count), prefix="")
        took = shell(f"docker-registry garbage-collect --dry-run {base / 'config.yml'}")
        self.say("docker-registry garbage-collect --dry-run", f"{took:.3f} s")
        shutil.rmtree(base)

    def timed(self, what: str, work: Callable[[], object], runs: int = 5) -> None:
        self.say(what, seconds(_timed(work) for _ in range(runs)))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds(times: Iterator[float]) -> str:
    return f"{statistics.median(times):.3f} s"


def sample(archives: int) -> Names:
    names = [name_of(a, n) for a in range(archives) for n in range(PER_ARCHIVE)]
    random.Random(1).shuffle(names)
    return names[:LOOKUPS]


def ready(where: Path) -> str:
    lines = [json.loads(line)["message"] for line in (where / "log").read_text().splitlines()]
    return next(line for line in reversed(lines) if " ready in " in line)


def read_bytes(node: Agent) -> str:
    """Returns the bytes that the process read.

    The part for its modules is seen by comparison with the start with 100 images.
    """
    lines = Path(f"/proc/{node.process.pid}/io").read_text().splitlines()
    return f"rchar {int(lines[0].split()[1]) / 1e6:.1f} MB"


def cli(node: Agent, command: str) -> None:
    words = [*AIRSIDE, *command.split(), "--data", str(node.data)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def connect(registry: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(registry, timeout=_SECONDS)


def push(connection: http.client.HTTPConnection, name: str, image: TestImage) -> None:
    repository, _, tag = name.rpartition(":")

    def ask(method: str, path: str, body: bytes = b"", kind: str = "") -> http.client.HTTPMessage:
        connection.request(method, path, body, {"Content-Type": kind or "application/octet-stream"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in {201, 202}, (path, answer.status, text)
        return answer.headers

    for blob in (image.config, *image.layers):
        where = ask("POST", f"/v2/{repository}/blobs/uploads/")["Location"]
        path = where[where.index("/v2/") :]
        ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={blob.digest}", blob.raw)
    manifest = image.manifest
    ask("PUT", f"/v2/{repository}/manifests/{tag}", manifest.raw, manifest.media_type)
