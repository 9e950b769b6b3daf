"""What an import does to those beside it, and what eight at once need of memory.

Good neighbour: four clients pull the blobs of an image that the registry has, as fast as curl can,
over and over, while the whole set is imported and unpacked. Meanwhile one more client asks for a
manifest and for the agent's status on its control socket, by turns. The same is measured without an
import, which says what the four pullers cost alone.

Eight at once: eight archives of one image each, plain, gz and zst, dropped in the same moment.
"""

import contextlib
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import file_system
from importing import SECONDS, Importing, is_recorded, until_named
from pairs import percentile
from peers import Agent, head, wait_until
from processors import PeakMemory, used_by

PULLERS = 4
_PAUSE_SECONDS = 0.005
_ALONE_SECONDS = 5.0


@dataclass
class Latencies:
    """Seconds that each answer took."""

    manifest: list[float] = field(default_factory=list)
    control: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns percentiles and the largest, in milliseconds."""
        found: dict[str, Any] = {}
        for what, values in (("manifest", self.manifest), ("control", self.control)):
            found[what] = {
                "answers": len(values),
                "p50_ms": 1000 * percentile(values, 50),
                "p99_ms": 1000 * percentile(values, 99),
                "most_ms": 1000 * max(values),
            }
        return found


def neighbour(importing: Importing) -> dict[str, Any]:
    """Import the plain set beside four pulling clients; returns what the fifth one saw."""
    held, *_ = importing.images.singles()
    archive = importing.images.archives["tar"]
    name = importing.images.names[0]
    others = importing.images.names[1:]
    with (
        importing.empty(archive, held) as (disk, containerd),
        importing.connected(disk, containerd, unpack=True) as node,
    ):
        shutil.move(disk / "dropped" / held.name, node.images / held.name)
        wait_until(lambda: is_recorded(node, [name], unpacked=True), SECONDS, 0.1)
        path = f"/v2/{name.removesuffix(':1')}/manifests/1"
        assert head(node.registry, path) == 200
        with _pulling(node.registry, name):
            end = time.perf_counter() + _ALONE_SECONDS
            alone = _asked(node, path, lambda: time.perf_counter() > end)
            file_system.sync(disk)
            pids = (containerd.pid, node.process.pid)
            before, started = used_by(pids), time.perf_counter()
            shutil.move(disk / "dropped" / archive.name, node.images / archive.name)
            during = _asked(node, path, lambda: is_recorded(node, others, unpacked=True))
            seconds = time.perf_counter() - started
            used = used_by(pids) - before
    return {
        "seconds": seconds,
        "processor_seconds": used.total,
        "alone": alone.as_json(),
        "during": during.as_json(),
    }


def _asked(node: Agent, path: str, is_over: Callable[[], bool]) -> Latencies:
    """Ask for the manifest and the status by turns until it is over, which is asked rarely."""
    found, due = Latencies(), time.perf_counter() + 1
    with contextlib.closing(http.client.HTTPConnection(node.registry, timeout=60)) as registry:
        while True:
            started = time.perf_counter()
            registry.request("GET", path)
            answer = registry.getresponse()
            answer.read()
            assert answer.status == 200
            between = time.perf_counter()
            node.get("/v1/status")
            found.control.append(time.perf_counter() - between)
            found.manifest.append(between - started)
            if time.perf_counter() > due:
                if is_over():
                    return found
                due = time.perf_counter() + 0.25
            time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def _pulling(registry: str, name: str) -> Iterator[None]:
    """Let four curls pull the image's layers over and over until the block ends."""
    repository = name.removesuffix(":1")
    connection = http.client.HTTPConnection(registry, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", f"/v2/{repository}/manifests/1")
        layers = json.loads(connection.getresponse().read())["layers"]
    urls = " ".join(f"http://{registry}/v2/{repository}/blobs/{each['digest']}" for each in layers)
    quiet = " ".join("-o /dev/null" for _ in layers)
    loop = f"while curl -sf {quiet} {urls}; do :; done"
    clients = [subprocess.Popen(["bash", "-c", loop], process_group=0) for _ in range(PULLERS)]
    try:
        yield
        assert all(client.poll() is None for client in clients), "a pull failed"
    finally:
        for client in clients:
            subprocess.run(["kill", "-9", "--", f"-{client.pid}"], check=False)
            client.wait()


def eight_at_once(importing: Importing) -> dict[str, Any]:
    """Drop eight archives in the same moment; returns seconds and the peak of memory."""
    archives = importing.images.singles()
    names = importing.images.names[: len(archives)]
    with (
        importing.empty(*archives) as (disk, containerd),
        importing.connected(disk, containerd, unpack=True) as node,
    ):
        file_system.sync(disk)
        before, started = used_by([node.process.pid, containerd.pid]), time.perf_counter()
        with PeakMemory([node.process.pid]).sampled() as peak:
            for archive in archives:
                (disk / "dropped" / archive.name).rename(node.images / archive.name)
            there = until_named(containerd, names)
            wait_until(lambda: is_recorded(node, names, unpacked=True), SECONDS, 0.1)
        used = used_by([node.process.pid, containerd.pid]) - before
        return {
            "archives": len(archives),
            "megabytes": sum(archive.stat().st_size for archive in archives) / 1e6,
            "seconds": there - started,
            "processor_seconds": used.total,
            "resident_mb": peak.resident_mb,
            "anonymous_mb": peak.anonymous_mb,
            "agent_peak_mb": node.memory_mb("VmHWM"),
            "processes": peak.processes,
        }
