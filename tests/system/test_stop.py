"""Stopping and killing in the middle of work; what is refused; what is made again."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from airside.agent.node import open_node
from airside.archive.formats.index_json import IMAGE_NAME
from airside.catalog.model import ImageRow
from airside.core.settings import MIB
from airside.oci.digest import Digest
from support.agent import Agent
from support.images import big_archive, oci_archive, random_image
from support.lean import lean, settings_for
from support.nodes import import_now
from support.size import sized
from support.sound import check_sound, index_of_store, pull_all

pytestmark = pytest.mark.system

BIG_BYTES = sized(400, 600) * MIB


@dataclass(frozen=True)
class Big:
    path: Path
    references: dict[str, Digest]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Big]:
    """One large archive, by its compression; linked into the tests' directories."""
    directory = tmp_path_factory.mktemp("big")
    made = {}
    for compression, name in (("none", "big.tar"), ("zstd", "big.tar.zst")):
        path = directory / name
        made[compression] = Big(path, big_archive(path, BIG_BYTES, compression=compression))
    return made


def _images(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    return images


def _in_the_middle(agent: Agent) -> bool:
    """An import has done a tenth of its work."""
    return any(
        item["done_bytes"] > item["total_bytes"] / 10 > 0 for item in agent.status()["imports"]
    )


@pytest.mark.parametrize(
    ("number", "compression"),
    sized(
        [(signal.SIGTERM, "none"), (signal.SIGINT, "zstd"), (signal.SIGKILL, "none")],
        list(product((signal.SIGTERM, signal.SIGINT, signal.SIGKILL), ("none", "zstd"))),
    ),
)
def test_a_large_import_is_broken_off_and_done_after_the_restart(
    number: signal.Signals, compression: str, big: dict[str, Big], tmp_path: Path
) -> None:
    images, data = _images(tmp_path), tmp_path / "data"
    archive = images / big[compression].path.name
    with Agent(images, data) as agent:
        archive.hardlink_to(big[compression].path)
        agent.wait_for(lambda: _in_the_middle(agent), what="the import is in its middle")
        started_at = time.monotonic()
        os.kill(agent.pid, number)
        code = agent.wait_exit()
        seconds = time.monotonic() - started_at
        print(f"{compression}: {number.name} in the middle of an import: {seconds:.2f} s")
    if number == signal.SIGKILL:
        assert code == -9
    else:
        assert code == 0, agent.log
        assert agent.complaints() == []
        check_sound(data, {})
    with Agent(images, data) as agent:
        assert agent.images() == {}
        assert sum(p.stat().st_size for p in (data / "oci" / "blobs").glob("*/*")) == 0
        agent.wait_imported(archive)
        check_sound(data, big[compression].references, running=True)
    shutil.rmtree(data)


def test_a_stop_between_many_imports_keeps_whole_images_only(tmp_path: Path) -> None:
    images, data = _images(tmp_path), tmp_path / "data"
    expected: dict[str, Digest] = {}
    for number in range(60):
        image = random_image(number, layers=2, layer_bytes=100_000)
        name = f"example.com/queued/{number}:1"
        expected |= oci_archive(images / f"{number:02}.tar", {name: image})
    environ = {"AIRSIDE_PARALLEL_IMPORTS": "2", "AIRSIDE_QUIET_SECONDS": "0"}
    with Agent(images, data, environ=environ) as agent:
        agent.wait_for(lambda: len(agent.images()) > 4, what="a few are imported")
        agent.stop()
    seen = index_of_store(data)
    assert 4 < len(seen) < 60
    check_sound(data, {name: expected[name] for name in seen})
    with Agent(images, data, environ=environ) as agent:
        listed = pull_all(agent.registry)
        assert listed.items() <= expected.items()
        agent.wait_for(lambda: len(agent.images()) == 60, what="all are imported")
        assert pull_all(agent.registry) == expected
    check_sound(data, expected)


# Who may open it


def _refused(agent: Agent) -> tuple[int, str]:
    agent.launch()
    return agent.wait_exit(), agent.log


def test_a_second_agent_is_refused_and_names_the_first(tmp_path: Path) -> None:
    images, data = _images(tmp_path), tmp_path / "data"
    with Agent(images, data) as first:
        code, log = _refused(second := Agent(images, data))
        assert code == 1
        assert f"in use by the process {first.pid}" in log
        assert "Traceback" not in log
        assert first.status()["pid"] == first.pid != second.pid


def _opened_once(tmp_path: Path) -> tuple[Path, Path]:
    images, data = _images(tmp_path), tmp_path / "data"
    oci_archive(images / "a.tar", {"example.com/app:1": random_image("a", layer_bytes=1000)})
    asyncio.run(_scan(images, data))
    return images, data


async def _scan(images: Path, data: Path) -> None:
    async with lean(settings_for(images, data)) as agent:
        await agent.scan()


def _newer_format(data: Path) -> None:
    (data / "format").write_text("2\n")


def _newer_catalog(data: Path) -> None:
    """A newer agent opened it, and took the note of the clean stop."""
    (data / "catalog.clean").unlink()
    with sqlite3.connect(data / "catalog.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _no_catalog(data: Path) -> None:
    with (data / "catalog.db").open("r+b") as file:
        file.write(b"\xa5" * 4096)


def _not_ours(data: Path) -> None:
    (data / "format").write_text("what is this\n")


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (_newer_format, 2, "has format 2, this Airside knows up to 1: install a newer Airside"),
        (_newer_catalog, 1, "catalog.db has version 99"),
        (_not_ours, 2, "format does not hold a version"),
    ],
)
def test_what_it_does_not_understand_is_refused_by_name(
    change: Callable[[Path], None], code: int, text: str, tmp_path: Path
) -> None:
    images, data = _opened_once(tmp_path)
    change(data)
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file() and p.name != "lock"}
    found, log = _refused(Agent(images, data))
    assert (found, "Traceback" in log) == (code, False), log
    assert text in log
    after = {p: p.read_bytes() for p in data.rglob("*") if p.is_file() and p.name != "lock"}
    assert after == before


def test_a_corrupt_catalog_moved_away_is_made_again(tmp_path: Path) -> None:
    images, data = _opened_once(tmp_path)
    before = index_of_store(data)
    _no_catalog(data)
    (data / "catalog.db").rename(tmp_path / "moved-away.db")
    with Agent(images, data) as agent:
        assert {name: item["digest"] for name, item in agent.images().items()} == before


# What is made again


def _rows(data: Path, images: Path) -> dict[str, ImageRow]:
    with open_node(settings_for(images, data)) as node:
        return {row.reference: row for row in node.catalog.images()}


def _told(rows: dict[str, ImageRow]) -> dict[str, tuple[object, ...]]:
    return {
        name: (
            r.digest,
            r.media_type,
            r.platforms,
            r.size_bytes,
            r.archives,
            r.source,
            bool(r.unbacked_since),
        )
        for name, r in rows.items()
    }


def _sequences(data: Path) -> dict[str, int]:
    db = sqlite3.connect(data / "catalog.db")
    try:
        return dict(db.execute("SELECT path, sequence FROM source WHERE state != 'removed'"))
    finally:
        db.close()


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Path]:
    """A data directory with a history: a moved tag, an unbacked image, an unnamed one."""
    images, data = _images(tmp_path), tmp_path / "data"

    def drop(name: str, image: dict[str | tuple[str, ...], object]) -> None:
        oci_archive(images / name, image)  # type: ignore[arg-type]
        asyncio.run(_scan(images, data))

    drop("overruled.tar", {"example.com/app:1": random_image("old")})
    own = {"example.com/app:1": random_image("older"), "example.com/own:1": random_image("own")}
    drop("z-old.tar", own)
    drop("a-new.tar", {"example.com/app:1": random_image("new")})
    drop("unnamed.tar", {(): random_image("unnamed")})
    by_hand = images.parent / "by-hand.tar"
    oci_archive(by_hand, {"by-hand:1": random_image("by hand")})
    with open_node(settings_for(images, data)) as node:
        import_now(node, by_hand)
    by_hand.unlink()
    drop("gone.tar", {"gone:1": random_image("gone")})
    (images / "gone.tar").unlink()
    asyncio.run(_scan(images, data))
    return images, data


@pytest.mark.parametrize("loss", ["deleted", "deleted but for the wal", "emptied", "half rebuilt"])
def test_a_lost_catalog_is_made_again_from_the_index(loss: str, grown: tuple[Path, Path]) -> None:
    images, data = grown
    before, sequences = _told(_rows(data, images)), _sequences(data)
    index = index_of_store(data)
    assert before["docker.io/library/gone:1"][-1] is True
    if loss == "emptied":
        (data / "catalog.db").write_bytes(b"")
    else:
        if loss == "deleted but for the wal":
            (data / "catalog.db-wal").write_bytes((data / "catalog.db").read_bytes())
        (data / "catalog.db").unlink()
    if loss == "half rebuilt":
        _rebuild_in_part(images, data)
    assert _told(_rows(data, images)) == before
    assert index_of_store(data) == index
    asyncio.run(_scan(images, data))
    assert _told(_rows(data, images)) == before, "reading the archives again changes nothing"
    assert _sequences(data) == sequences
    if loss in {"deleted but for the wal", "emptied"}:
        shutil.rmtree(data / "damaged")  # it holds what was left of the catalog
    check_sound(data, {name: Digest(*text.split(":")) for name, text in index.items()})


def _rebuild_in_part(images: Path, data: Path) -> None:
    """Open the node and die after the first archive was restored."""
    program = (
        "import os, sys\n"
        "from airside.catalog.recovery import Recovery\n"
        "from airside.agent.node import open_node\n"
        "from support.lean import settings_for\n"
        "from pathlib import Path\n"
        "restore = Recovery.restore_sources\n"
        "def once(*values, **named):\n"
        "    restore(*values, **named)\n"
        "    os._exit(9)\n"
        "Recovery.restore_sources = once\n"
        "open_node(settings_for(Path(sys.argv[1]), Path(sys.argv[2]))).__enter__()\n"
    )
    tests = Path(__file__).parents[1]
    words = [sys.executable, "-c", program, str(images), str(data)]
    assert subprocess.run(words, cwd=tests, check=False).returncode == 9


def _cut_index(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _older_index(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(IMAGE_NAME.encode(), b"another.annotation"))


@pytest.mark.parametrize("change", [Path.unlink, _cut_index, _older_index])
def test_a_lost_or_wrong_index_is_written_again(
    change: Callable[[Path], None], grown: tuple[Path, Path]
) -> None:
    images, data = grown
    index = data / "oci" / "index.json"
    before = index.read_bytes()
    change(index)
    with open_node(settings_for(images, data)):
        assert index.read_bytes() == before
