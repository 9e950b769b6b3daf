"""Compares pulls and pushes with Debian's docker-registry: same client, same run.

Both sides serve and receive the same bytes. Pulls are from the page cache. docker-registry
acknowledges a push before it is synced; Airside answers when blob and record are durable. So pushes
are also measured in memory (/dev/shm), where syncing is free for both.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peers import agent, docker_registry, shell

MIB = 1024 * 1024
REPOSITORY = "bench/traffic"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
AT_ONCE = 16
Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Sides:
    """HOST:PORT of Airside's registry and of docker-registry."""

    ours: str
    peer: str


class Traffic:
    def __init__(self, base: Path, say: Say, runs: int, size_mb: int, manifests: int) -> None:
        self.base, self.say, self.runs = base, say, runs
        self.size_mb, self.manifests = size_mb, manifests
        self._seeds = random.Random(1)

    def run(self) -> None:
        with self._sides(self.base) as sides:
            self._pulls(sides)
            self._pushes(sides, "disk")
        with (
            tempfile.TemporaryDirectory(prefix="airside-bench-", dir="/dev/shm") as directory,
            self._sides(Path(directory)) as sides,
        ):
            self._pushes(sides, "memory")

    @contextlib.contextmanager
    def _sides(self, base: Path) -> Iterator[Sides]:
        settings = {"min_free_bytes": "0"}
        with (
            agent(base / "agent", **settings) as node,
            docker_registry(base / "registry") as peer,
        ):
            yield Sides(node.registry, peer)

    # comparisons

    def _pulls(self, sides: Sides) -> None:
        files = self._files(AT_ONCE, self.size_mb // AT_ONCE) | self._files(1, self.size_mb)
        for side in (sides.ours, sides.peer):
            push_blobs(side, files)
        *many, large = files
        self._bytes(f"pull of one blob of {self.size_mb} MiB", sides, pull_blobs, [large])
        self._bytes(f"pull of {AT_ONCE} blobs at once", sides, pull_blobs, many)
        for file in files.values():
            file.unlink()
        made = self._manifests(sides, 1)
        self._rates("pull of a manifest", sides, lambda side, _run: pull_manifest(side, made[0]))

    def _pushes(self, sides: Sides, where: str) -> None:
        for count, what in ((1, f"one blob of {self.size_mb} MiB"), (AT_ONCE, "16 blobs at once")):
            self._push(f"push of {what}, {where}", sides, count)
        self._skopeo(f"skopeo copy, {where}", sides)

        made = [self._manifests(sides, self.manifests) for _ in range(self.runs)]
        self._rates(
            f"push of manifests, {where}", sides, lambda side, run: push_manifests(side, made[run])
        )

    def _bytes(
        self, what: str, sides: Sides, work: Callable[[str, list[str]], float], blobs: list[str]
    ) -> None:
        """Run both sides in turn, several times, and print their MB/s."""
        pairs = [
            tuple(self.size_mb * MIB / 1e6 / work(side, blobs) for side in (sides.ours, sides.peer))
            for _ in range(self.runs)
        ]
        self._print_rates(what, pairs, "MB/s")

    def _push(self, what: str, sides: Sides, count: int) -> None:
        pairs = []
        for _ in range(self.runs):
            files = self._files(count, self.size_mb // count)
            pairs.append(
                tuple(
                    self.size_mb * MIB / 1e6 / push_blobs(side, files)
                    for side in (sides.ours, sides.peer)
                )
            )
            for file in files.values():
                file.unlink()
        self._print_rates(what, pairs, "MB/s")

    def _rates(self, what: str, sides: Sides, work: Callable[[str, int], Awaitable[int]]) -> None:
        pairs = []
        for run in range(self.runs):
            rates = []
            for side in (sides.ours, sides.peer):
                started = time.perf_counter()
                count = asyncio.run(_awaited(work(side, run)))
                rates.append(count / (time.perf_counter() - started))
            pairs.append(tuple(rates))
        self._print_rates(what, pairs, "per second")

    def _skopeo(self, what: str, sides: Sides) -> None:
        pairs = []
        for number in range(self.runs):
            layout = self._layout(8, self.size_mb // 8)
            seconds = []
            for side in (sides.ours, sides.peer):
                copy = "skopeo --insecure-policy copy -q --dest-tls-verify=false"
                seconds.append(shell(f"{copy} oci:{layout} docker://{side}/{REPOSITORY}:{number}"))
            pairs.append(tuple(self.size_mb * MIB / 1e6 / each for each in seconds))
            shutil.rmtree(layout)
        self._print_rates(what, pairs, "MB/s")

    def _print_rates(self, what: str, pairs: list[tuple[float, ...]], unit: str) -> None:
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        self.say(what, f"{mine:.0f} {unit}  peer {other:.0f}  ours/peer {ratio:.2f}")

    # payloads

    def _files(self, count: int, size_mb: int) -> dict[str, Path]:
        """Write new files of random bytes; returns their paths by digest."""
        found = {}
        for _ in range(count):
            path = self.base / f"blob-{self._seeds.getrandbits(64):x}"
            found[_write_random(path, size_mb, self._seeds)] = path
        return found

    def _layout(self, layers: int, size_mb: int) -> Path:
        """Write an OCI layout of one new image; returns its directory."""
        layout = self.base / f"layout-{self._seeds.getrandbits(64):x}"
        blobs = layout / "blobs/sha256"
        blobs.mkdir(parents=True)
        found = []
        for digest, path in self._files(layers, size_mb).items():
            path.rename(blobs / digest.partition(":")[2])
            found.append(digest)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": found},
        }
        described = [_put(blobs, json.dumps(config).encode(), CONFIG_TYPE)]
        described += [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest,
                "size": size_mb * MIB,
            }
            for digest in found
        ]
        raw = json.dumps(_manifest(described)).encode()
        index = {"schemaVersion": 2, "manifests": [_put(blobs, raw, MANIFEST_TYPE)]}
        (layout / "index.json").write_text(json.dumps(index))
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return layout

    def _manifests(self, sides: Sides, count: int) -> list[bytes]:
        """Returns new manifests of one small image, and pushes its blobs to both sides."""
        path = self.base / "config"
        path.write_bytes(b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}')
        digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        for side in (sides.ours, sides.peer):
            push_blobs(side, {digest: path})
        config = {"mediaType": CONFIG_TYPE, "digest": digest, "size": path.stat().st_size}
        layer = config | {"mediaType": "application/vnd.oci.image.layer.v1.tar"}
        made = _manifest([config, layer])
        batch = self._seeds.getrandbits(64)
        return [
            json.dumps(made | {"annotations": {"number": f"{batch:x}-{n}"}}).encode()
            for n in range(count)
        ]


def _write_random(path: Path, size_mb: int, seeds: random.Random) -> str:
    """Write a file of random bytes; returns its digest."""
    hasher, piece = hashlib.sha256(), bytearray(seeds.randbytes(MIB))
    with path.open("wb") as file:
        for n in range(size_mb):  # a gzip magic first, so that skopeo does not compress it
            piece[:8] = n.to_bytes(8, "big") if n else b"\x1f\x8b\x08" + bytes(5)
            file.write(piece)
            hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def _put(blobs: Path, raw: bytes, media_type: str) -> dict[str, object]:
    name = hashlib.sha256(raw).hexdigest()
    (blobs / name).write_bytes(raw)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(raw)}


def _manifest(described: list[dict[str, object]]) -> dict[str, object]:
    config, *layers = described
    kinds = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE}
    return {**kinds, "config": config, "layers": layers}


async def _awaited(work: Awaitable[int]) -> int:
    return await work


# client


def pull_blobs(side: str, digests: list[str]) -> float:
    """Returns the seconds of one curl for each blob, all at once."""
    url = f"http://{side}/v2/{REPOSITORY}/blobs"
    return _at_once([["-o", "/dev/null", f"{url}/{digest}"] for digest in digests])


def push_blobs(side: str, files: dict[str, Path]) -> float:
    """Returns the seconds of one curl for each blob, all at once.

    A push is a POST, then a PUT with the whole body.
    """
    started = time.perf_counter()
    url = f"http://{side}/v2/{REPOSITORY}/blobs/uploads/"
    puts = []
    for digest, path in files.items():
        headers = subprocess.run(
            ["curl", "-sf", "-X", "POST", "-D", "-", "-o", "/dev/null", url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        [location] = [
            line.partition(":")[2].strip()
            for line in headers.splitlines()
            if line.lower().startswith("location:")
        ]
        where = location if location.startswith("http") else f"http://{side}{location}"
        join = "&" if "?" in where else "?"
        octets = ["-H", "Content-Type: application/octet-stream", "-H", "Expect:"]
        puts.append([*octets, "-T", str(path), f"{where}{join}digest={digest}"])
    begun = time.perf_counter() - started
    return begun + _at_once(puts)


def _at_once(words: list[list[str]]) -> float:
    started = time.perf_counter()
    running = [subprocess.Popen(["curl", "-sf", *each]) for each in words]
    codes = [process.wait() for process in running]
    assert not any(codes), codes
    return time.perf_counter() - started


async def pull_manifest(side: str, raw: bytes, count: int = 6000, clients: int = 16) -> int:
    """Request one manifest repeatedly over persistent connections; returns the number."""
    put = _request("PUT", side, "manifests/pulled", raw)
    await _client(side, [put], 201)
    get = _request("GET", side, "manifests/pulled")
    share = [get] * (count // clients)
    await asyncio.gather(*(_client(side, share, 200) for _ in range(clients)))
    return len(share) * clients


async def push_manifests(side: str, made: list[bytes], clients: int = 16) -> int:
    """Push each manifest under its own tag, over persistent connections; returns the number."""
    puts = [
        _request("PUT", side, f"manifests/t{hashlib.sha256(raw).hexdigest()[:16]}", raw)
        for raw in made
    ]
    await asyncio.gather(*(_client(side, puts[n::clients], 201) for n in range(clients)))
    return len(made)


def _request(method: str, side: str, what: str, body: bytes = b"") -> bytes:
    head = f"{method} /v2/{REPOSITORY}/{what} HTTP/1.1\r\nHost: {side}\r\n"
    if method == "GET":
        head += f"Accept: {MANIFEST_TYPE}\r\n"
    if body:
        head += f"Content-Type: {MANIFEST_TYPE}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _client(side: str, requests: list[bytes], status: int) -> None:
    """Send the requests in turn; reads only the status and length of each answer."""
    host, _, port = side.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for request in requests:
        writer.write(request)
        header = await reader.readuntil(b"\r\n\r\n")
        assert header.split()[1] == str(status).encode(), header
        fields = dict(line.lower().split(b": ", 1) for line in header.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(fields[b"content-length"]))
    writer.close()
    await writer.wait_closed()
