"""A restart costs nothing where nothing changed, and notices all that did."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airside.oci.digest import Digest
from support.agent import Agent
from support.images import TestImage, oci_archive, random_image
from support.lean import lean, settings_for
from support.sound import check_sound, pull_all, state_of

pytestmark = pytest.mark.system

ARCHIVES = 200
READ_BYTES = 5_000_000
"""More than an agent without any archive; what is read is the catalog."""
QUICK = {"AIRSIDE_REMOVAL_SECONDS": "0.2"}


@dataclass(frozen=True)
class Stocked:
    """A directory of imported archives, and its data directory after a clean stop."""

    images: Path
    data: Path
    expected: dict[str, Digest]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    root = tmp_path_factory.mktemp("stocked")
    stocked = Stocked(root / "images", root / "data", {})
    stocked.images.mkdir()
    for number in range(ARCHIVES):
        image = random_image(number, layers=2, layer_bytes=40_000)
        name = f"example.com/stock/{number}:1"
        stocked.expected.update(oci_archive(stocked.images / f"{number:03}.tar", {name: image}))
    time.sleep(2.1)  # a file changed so recently is checked once more
    asyncio.run(_scan(stocked.images, stocked.data))
    return stocked


async def _scan(images: Path, data: Path) -> None:
    async with lean(settings_for(images, data)) as agent:
        await agent.scan()


# Nothing changed


def test_an_unchanged_stock_is_not_read_again(stocked: Stocked, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data") as agent:
        agent.wait_idle()
        program_bytes = _read_bytes(agent.pid)
    before = state_of(stocked.data)
    with Agent(stocked.images, stocked.data) as agent:
        ready = next(line for line in agent.logged("info") if " ready in " in line)
        agent.wait_idle()
        stock_bytes = _read_bytes(agent.pid) - program_bytes
        assert len(agent.images()) == ARCHIVES
        assert agent.status()["archives"] == {"imported": ARCHIVES}
        assert agent.complaints() == []
    print(
        f"restart with {ARCHIVES} archives: {ready!r}, its socket answers after"
        f" {agent.ready_seconds:.2f} s; read a second later: {stock_bytes:,} bytes more than the"
        f" {program_bytes:,} of an agent without any"
    )
    assert stock_bytes < READ_BYTES
    assert state_of(stocked.data) == before


def test_a_kill_of_an_idle_agent_changes_nothing(stocked: Stocked) -> None:
    before = state_of(stocked.data)
    with Agent(stocked.images, stocked.data) as agent:
        agent.kill()
    with Agent(stocked.images, stocked.data) as agent:
        agent.wait_idle()
        assert agent.complaints() == []
    assert state_of(stocked.data) == before


def _read_bytes(pid: int) -> int:
    """Bytes that the process asked of read(2) and its like, from the page cache or not."""
    text = Path(f"/proc/{pid}/io").read_text()
    return int(re.search(r"^rchar: (\d+)$", text, re.MULTILINE)[1])  # type: ignore[index]


@pytest.mark.needs("strace")
def test_no_archive_is_opened_again(stocked: Stocked, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace)]
    agent = Agent(stocked.images, stocked.data, before=strace)
    agent.start()
    try:
        pid = agent.status()["pid"]
        agent.wait_for(lambda: agent.status()["directories"][0]["files"] == ARCHIVES)
        agent.wait_idle()
    finally:
        os.kill(pid, 15)
    assert agent.wait_exit() == 0
    opened = re.findall(r'open\w*\(\w+, "([^"]+)"', trace.read_text())
    assert any(path.endswith("catalog.db") for path in opened)
    assert [path for path in opened if path.startswith(f"{stocked.images}/")] == []
    assert [path for path in opened if "/blobs/sha256/" in path] == []


# Something changed


@dataclass
class Small:
    """Three archives of one size each, and what is to be seen."""

    images: Path
    data: Path
    expected: dict[str, Digest]
    made: dict[str, TestImage]

    def path(self, name: str) -> Path:
        return self.images / f"{name}.tar"

    def put(self, name: str, version: str) -> None:
        """Replace an archive by one of the same size, by renaming it into place."""
        self.made[name] = random_image(f"{name}/{version}", layers=1, layer_bytes=9000)
        new = self.images.parent / "new.tar"
        self.expected |= oci_archive(new, {f"example.com/{name}:1": self.made[name]})
        new.replace(self.path(name))

    def agent(self) -> Agent:
        return Agent(self.images, self.data, environ=QUICK)

    def is_seen(self, agent: Agent) -> bool:
        found = {name: item["digest"] for name, item in agent.images().items()}
        return found == {name: str(digest) for name, digest in self.expected.items()}

    def comes_right(self, agent: Agent) -> None:
        agent.wait_for(lambda: self.is_seen(agent), what="the tags are as the directory says")
        agent.wait_for(lambda: set(agent.status()["archives"]) <= {"imported", "removed"})
        assert pull_all(agent.registry) == self.expected


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    (tmp_path / "images").mkdir()
    made = Small(tmp_path / "images", tmp_path / "data", {}, {})
    for name in ("a", "b", "c"):
        made.put(name, "1")
    asyncio.run(_scan(made.images, made.data))
    yield made
    check_sound(made.data, made.expected)


def _same_size(small: Small) -> None:
    before = small.path("b").stat()
    small.put("b", "2")
    assert small.path("b").stat().st_size == before.st_size


def _rolled_back(small: Small) -> None:
    before = small.path("b").stat()
    small.put("b", "0")
    os.utime(small.path("b"), ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))


def _same_times(small: Small) -> None:
    before = small.path("b").stat()
    small.put("b", "2")
    os.utime(small.path("b"), ns=(before.st_atime_ns, before.st_mtime_ns))


def _written_in_place(small: Small) -> None:
    before = small.path("b").stat()
    small.path("b").rename(small.images.parent / "b.old")
    small.put("b", "2")
    data = small.path("b").read_bytes()
    (small.images.parent / "b.old").replace(small.path("b"))
    small.path("b").write_bytes(data)
    os.utime(small.path("b"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert small.path("b").stat().st_ino == before.st_ino


CHANGES = [_same_size, _rolled_back, _same_times, _written_in_place]


@pytest.mark.parametrize("change", CHANGES)
def test_a_replacement_is_noticed_at_the_restart(
    change: Callable[[Small], None], small: Small
) -> None:
    change(small)
    with small.agent() as agent:
        small.comes_right(agent)
        assert [Path(e["path"]).name for e in agent.events("settled")][3:] == ["b.tar"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_replacement_is_noticed_while_running(
    change: Callable[[Small], None], small: Small
) -> None:
    with small.agent() as agent:
        change(small)
        small.comes_right(agent)


def test_a_removal_while_stopped_is_noticed(small: Small) -> None:
    small.path("b").unlink()
    with small.agent() as agent:
        agent.wait_state(small.path("b"), "removed")
        assert agent.images()["example.com/b:1"]["unbacked_since"] is not None
        assert agent.images()["example.com/a:1"]["unbacked_since"] is None
        small.comes_right(agent)


# The store was damaged


def _zeroed(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


def _truncated(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def _emptied(path: Path) -> None:
    path.unlink()
    path.touch()


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def _blob_path(data: Path, digest: Digest) -> Path:
    return data / "oci" / "blobs" / digest.algorithm / digest.hex


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", [_zeroed, _truncated, _emptied, _flipped])
def test_a_blob_damaged_by_a_power_cut_is_read_again(
    damage: Callable[[Path], None], which: str, small: Small
) -> None:
    image = small.made["b"]
    digest = {"manifest": image.manifest, "config": image.config, "layer": image.layers[0]}[
        which
    ].digest
    with small.agent() as agent:
        agent.kill()
    damage(_blob_path(small.data, digest))
    with small.agent() as agent:
        small.comes_right(agent)
        events = {(e["kind"], e["digest"]) for e in agent.events("quarantined", "lost")}
        kind = "lost" if damage in {_truncated, _emptied} else "quarantined"
        assert events == {(kind, str(digest))}
        assert [Path(e["path"]).name for e in agent.events("settled")][3:] == ["b.tar"]
    if kind == "quarantined":
        assert len(list((small.data / "quarantine").iterdir())) == 1


def test_a_blob_deleted_while_stopped_is_brought_back(small: Small) -> None:
    _blob_path(small.data, small.made["c"].layers[0].digest).unlink()
    with small.agent() as agent:
        small.comes_right(agent)


def test_a_blob_deleted_while_running_is_brought_back(small: Small) -> None:
    agent = Agent(small.images, small.data, environ=QUICK | {"AIRSIDE_RECONCILE_SECONDS": "0.3"})
    with agent:
        blob = _blob_path(small.data, small.made["c"].layers[0].digest)
        blob.unlink()
        agent.wait_for(blob.exists, what="the blob is back")
        small.comes_right(agent)


def test_an_older_archive_that_is_read_again_does_not_win_its_tag_back(small: Small) -> None:
    old = random_image("old", layers=1, layer_bytes=9000)
    new = random_image("new", layers=1, layer_bytes=9000)
    oci_archive(small.path("old"), {"example.com/both:1": old})
    asyncio.run(_scan(small.images, small.data))
    small.expected |= oci_archive(small.path("new"), {"example.com/both:1": new})
    asyncio.run(_scan(small.images, small.data))
    _blob_path(small.data, old.layers[0].digest).unlink()
    with small.agent() as agent:
        agent.wait_for(lambda: _blob_path(small.data, old.layers[0].digest).exists())
        small.comes_right(agent)
