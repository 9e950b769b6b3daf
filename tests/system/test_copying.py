"""Half a file is never imported, a whole one at once, whatever writes it."""

import functools
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from support.agent import Agent
from support.images import docker_archive, oci_archive, random_image, truncate
from support.skopeo import pull, run, skopeo

pytestmark = pytest.mark.system

PARTS = 6
BETWEEN_SECONDS = 0.25  # more than the settle time
PACKED = {"none": "tar", "gzip": "tar.gz", "zstd": "tar.zst"}


def parts_of(path):
    data = path.read_bytes()
    size = -(-len(data) // PARTS)
    return [data[start : start + size] for start in range(0, len(data), size)]


def make(directory, name, packed="none"):
    """An archive of one image, outside the watched directory."""
    path = directory / f"{name}.{PACKED[packed]}"
    image = random_image(name, media="docker")
    docker_archive(path, {f"copied/{name}:1": image}, compression=packed)
    return path


def write_slowly(target, parts, at_last):
    """One writer that keeps the file open, with a pause longer than the quiet time."""
    with target.open("wb", buffering=0) as out:
        for number, part in enumerate(parts, start=1):
            if number == len(parts):
                at_last()
            out.write(part)
            time.sleep(0.9 if number == 2 else BETWEEN_SECONDS)


def append_slowly(target, parts, at_last):
    """As some transfer tools: each part is appended by a new writer."""
    for number, part in enumerate(parts, start=1):
        if number == len(parts):
            at_last()
        with target.open("ab", buffering=0) as out:  # a tail that comes late is another change
            out.write(part)
        time.sleep(BETWEEN_SECONDS)


@pytest.mark.parametrize("write", [write_slowly, append_slowly])
@pytest.mark.parametrize("rescan_seconds", ["60", "0.3"])
def test_slow_copies_are_imported_once_and_after_their_end(tmp_path, write, rescan_seconds):
    """Three at a time; frequent scans make the agent look more often than events do."""
    images = tmp_path / "images"
    images.mkdir()
    made = {f"docker.io/copied/slow-{p}:1": make(tmp_path, f"slow-{p}", p) for p in PACKED}
    paths = [images / path.name for path in made.values()]
    with Agent(images, tmp_path / "data", environ={"AIRSIDE_RESCAN_SECONDS": rescan_seconds}) as a:
        at_last: set[str] = set()
        threads = [
            threading.Thread(
                target=write,
                args=(images / path.name, parts_of(path), functools.partial(at_last.add, name)),
            )
            for name, path in made.items()
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert a.images().keys() <= at_last
            time.sleep(0.05)
        a.wait_imported(*paths)
        a.wait_idle()
        for path in paths:
            # an import of an earlier part may find the whole file; once it has settled, it is
            # imported again, for its place in the order of archives
            imports = len(a.events("imported", path=path))
            assert imports == 1 or (imports == 2 and write is append_slowly)
            assert not a.events("rejected", "failed", "partial", path=path)
        assert len(a.events("tag-added")) == len(paths)
        assert a.events("tag-moved") == []
        assert a.complaints() == []


def test_a_file_that_ends_early_waits_for_the_rest_and_says_so(agent, tmp_path):
    for packed, extension in PACKED.items():
        made = make(tmp_path, f"cut-{packed}", packed)
        path = agent.watched / f"cut-{packed}.{extension}"
        data = made.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        found = agent.wait_state(path, "incomplete", "rejected", "imported")
        assert found["state"] == "incomplete", found
        assert "end" in found["reason"], found["reason"]
        assert found["images"] == []
        with path.open("ab") as out:
            out.write(data[len(data) // 2 :])
        agent.wait_imported(path)
        assert f"docker.io/copied/cut-{packed}:1" in agent.images()
        assert agent.archives()[path]["reason"] == ""
    assert agent.complaints() == []
    agent.wait_idle()
    assert all(len(agent.events("imported", path=path)) == 1 for path in agent.archives())


def test_an_incomplete_file_is_replaced_by_a_whole_one(agent, tmp_path):
    made = make(tmp_path, "whole")
    path = agent.watched / "whole.tar"
    shutil.copy(made, path)
    truncate(path, -15_000)
    agent.wait_state(path, "incomplete")
    shutil.copy(made, path)
    agent.wait_imported(path)
    assert agent.complaints() == []


def test_an_archive_that_stays_incomplete_fails_and_comes_back_when_it_grows(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    made = make(tmp_path, "late")
    data = made.read_bytes()
    path = images / "late.tar"
    with Agent(images, tmp_path / "data", environ={"AIRSIDE_INCOMPLETE_SECONDS": "1"}) as agent:
        path.write_bytes(data[:20_000])
        agent.wait_state(path, "incomplete")
        found = agent.wait_state(path, "failed")
        assert "copy it again" in found["reason"]
        agent.wait_for(lambda: [line for line in agent.logged("error") if str(path) in line])
        with path.open("ab") as out:
            out.write(data[20_000:])
        agent.wait_imported(path)


def test_a_name_used_while_writing_is_left_alone_until_its_rename(agent, tmp_path):
    endings = (".part", ".tmp", ".filepart", ".crdownload", "~")
    for number, ending in enumerate(endings):
        made = make(tmp_path, f"part-{number}")
        shutil.copy(made, agent.watched / f"{made.name}{ending}")
    hidden = make(tmp_path, "hidden")
    shutil.copy(hidden, agent.watched / f".{hidden.name}.Xy12ab")  # as rsync does
    agent.wait_idle()
    assert agent.archives() == {}
    for number, ending in enumerate(endings):
        path = agent.watched / f"part-{number}.tar"
        path.with_name(path.name + ending).rename(path)
    (agent.watched / f".{hidden.name}.Xy12ab").rename(agent.watched / hidden.name)
    agent.wait_imported(*(agent.watched / f"part-{n}.tar" for n in range(len(endings))))
    agent.wait_imported(agent.watched / hidden.name)
    assert agent.complaints() == []


def commands(made, target):
    """Name → shell command that brings `made` to `target`."""
    return {
        "cp": f"cp {made} {target}",
        "cp -a": f"cp -a {made} {target}",
        "mv": f"mv {made} {target}",
        "ln": f"ln {made} {target}",
        "ln -s": f"ln -s {made} {target}",
        "cat": f"cat {made} > {target}",
        "dd": f"dd if={made} of={target} bs=7000 status=none",
        "install": f"install -m 600 {made} {target}",
        "tee": f"tee {target} < {made} > /dev/null",
        "rsync": f"rsync {made} {target}",
        "rsync -a --inplace": f"rsync -a --inplace {made} {target}",
    }


def test_every_way_of_bringing_a_file_is_imported_once(agent, tmp_path):
    paths = []
    for number, name in enumerate(commands("", "")):
        made = make(tmp_path, f"way-{number}")
        os.utime(made, (1_600_000_000, 1_600_000_000))
        target = agent.watched / made.name
        if shutil.which(name.split()[0]) is None:
            continue
        run("sh", "-c", commands(made, target)[name])
        paths.append(target)
    agent.wait_imported(*paths)
    agent.wait_idle()
    for path in paths:
        assert len(agent.events("imported", path=path)) == 1, path
    assert agent.complaints() == []


def test_a_move_from_another_file_system_is_imported_once(agent, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other file system")
    made = make(tmp_path, "across")
    away = other / f"airside-test-{os.getpid()}.tar"
    shutil.copy(made, away)
    target = agent.watched / "across.tar"
    try:
        run("mv", away, target)
        agent.wait_imported(target)
    finally:
        away.unlink(missing_ok=True)
    assert agent.complaints() == []


def test_a_link_to_an_archive_elsewhere_follows_its_replacement(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    made, path = make(tmp_path, "target"), images / "link.tar"
    path.symlink_to(made)
    with Agent(images, tmp_path / "data", environ={"AIRSIDE_RESCAN_SECONDS": "0.5"}) as agent:
        agent.wait_imported(path)
        other = tmp_path / "other.tar"
        docker_archive(other, {"copied/other:1": random_image("other", media="docker")})
        other.replace(made)
        agent.wait_for(lambda: "docker.io/copied/other:1" in agent.images())


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_may_write_straight_into_the_directory(agent, tmp_path, kind):
    oci_archive(tmp_path / "source.tar", {"a.example/app:1": random_image("straight")})
    target, name = agent.watched / "straight.tar", "docker.io/copied/straight:1"
    skopeo("copy", f"oci-archive:{tmp_path / 'source.tar'}", f"{kind}:{target}:{name}")
    agent.wait_imported(target)
    assert len(pull(agent.registry, name, tmp_path / "out")) == 4
    assert agent.complaints() == []


def test_a_name_with_the_wrong_ending_is_imported_with_a_note(agent, tmp_path):
    made = make(tmp_path, "wrong", "gzip")
    path = agent.watched / "wrong.tar.zst"
    shutil.copy(made, path)
    agent.wait_imported(path)
    assert agent.archives()[path]["notes"] == ["the file is gzip, although its name ends in .zst"]
    assert agent.complaints() == []
