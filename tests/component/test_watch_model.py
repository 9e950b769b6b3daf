"""Random file operations while a watcher runs: what it told is what is there, whatever the order.

A reference walk, written apart from `airside.importer.watch.scan`, says what is there. Each round
ends with a quiet time; then every archive was told once with the key that it has, every other was
removed, and nothing is left in the watcher that a fresh one would not have. To try other seeds:

    WATCH_SEEDS=1000-1200 pytest tests/component/test_watch_model.py
"""

import asyncio
import contextlib
import os
import random
import shutil
import stat
from pathlib import Path

import pytest

from airside.archive.directory import LAYOUT_MARKS, iter_files, stat_key
from airside.core.settings import WatchedDirectory
from airside.importer.watch import settle
from airside.importer.watch.directories import is_candidate, is_candidate_directory
from support.size import sized
from support.waiting import LIMIT_SECONDS
from support.watching import watching, with_

pytestmark = pytest.mark.usefixtures("nothing_left_open")

QUICK = with_(settle_seconds=0.03, quiet_seconds=0.12, removal_seconds=0.1)
ROUNDS, OPERATIONS = 2, 60
FILES = ("a.tar", "b.tar.gz", "c", "d\nnew line.tar", "e\udcff.tar", "f.oci")
DIRECTORIES = ("d0", "d1", "d2\udcfe", "d 3", "c")
SEEDS = sized((1, 2), tuple(range(1, 31)))


def seeds():
    first, _, last = os.environ.get("WATCH_SEEDS", "").partition("-")
    return range(int(first), int(last or first) + 1) if first else SEEDS


@pytest.mark.parametrize("seed", seeds())
def test_after_any_operations_what_was_told_is_what_is_there(tmp_path, monkeypatch, seed):
    print(f"seed {seed}")
    monkeypatch.setattr(settle, "RECHECK_SECONDS", 0.3)
    world = World(tmp_path, random.Random(seed))
    try:
        asyncio.run(world.live())
    finally:
        for number, done in enumerate(world.done):
            print(number, done)


class World:
    """Directories in which things happen, and what a watcher told of them."""

    def __init__(self, tmp, rng):
        self.rng, self.images, self.outside = rng, tmp / "images", tmp / "outside"
        self.inner, self.alias = self.images / "inner", tmp / "alias"
        self.targets = tmp / "targets"
        for directory in (self.images, self.outside, self.inner, self.targets):
            directory.mkdir()
        self.alias.symlink_to(self.images / "d0")
        self.roots = (self.images, self.inner, self.alias)
        self.writers = []
        self.done = []
        self.linked = set()
        """The inodes that ever had several names: no event tells of a change by another name."""
        self.told = {}

    async def live(self):
        directories = [WatchedDirectory(path) for path in self.roots]
        async with watching(*directories, settings=QUICK, on_batch=self.take) as log:
            for _ in range(ROUNDS):
                for _ in range(OPERATIONS):
                    self.step()
                    await asyncio.sleep(self.rng.choice((0, 0, 0, 0.01, 0.03, 0.1)))
                self.end_round()
                await self.agrees(hard_links=False)
                log.watcher.rescan()
                await self.agrees(hard_links=True)
                await log.stays(0.3)
                self.nothing_is_left(log.watcher)

    async def take(self, batch):
        for one in batch.settled:
            self.done.append(f"  settled {one.path!r} {one.key}")
            assert self.told.get(one.path) != one.key, f"told twice: {one}"
            self.told[one.path] = one.key
        for path in batch.removed:
            self.done.append(f"  removed {path!r}")
            assert path in self.told, f"removed, but never told: {path}"
            del self.told[path]

    # --- what must hold

    async def agrees(self, *, hard_links):
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                while self.differences(hard_links=hard_links):  # noqa: ASYNC110 - real files
                    await asyncio.sleep(0.02)
        except TimeoutError:
            assert self.differences(hard_links=hard_links) == {}

    def differences(self, *, hard_links):
        there, waited_for = self.there()
        found = {}
        for path in there.keys() | self.told.keys():
            if path in waited_for or self.told.get(path) == there.get(path):
                continue
            inodes = {key.inode for key in (self.told.get(path), there.get(path)) if key}
            if path.is_dir():
                inodes |= {found.st_ino for _, found in iter_files(path)}
            if hard_links or not inodes & self.linked:
                found[path] = (self.told.get(path), there.get(path))
        return found

    def there(self):
        """The archives with their keys, and the links that lead nowhere."""
        there, waited_for = {}, set()
        for root in self.roots:
            below = [root]
            while below:
                for path in sorted(below.pop().iterdir()):
                    if path in self.roots or not self.counts(path, root):
                        continue
                    if not path.exists():
                        waited_for.add(path)
                    elif path.is_file() or marks(path):
                        there[path] = stat_key(path)
                    elif not path.is_symlink():
                        below.append(path)
        return there, waited_for

    def counts(self, path, root):
        if path.is_symlink() or not path.is_dir():
            return is_candidate(path.name)
        unpacked = path.parent == root and path.name in {"oci-layout", "blobs"}
        return is_candidate_directory(path.name) and not unpacked

    def nothing_is_left(self, watcher):
        there, waited_for = self.there()
        settler, notifier = watcher._settler, watcher._notifier
        assert set(settler._entries) - waited_for == set(there)
        assert (settler._ready, settler._gone) == ({}, set())
        assert set(settler._looks) <= set(there) | waited_for
        inotify = notifier._inotify
        kernel = {
            int(line.split()[1].removeprefix("wd:"), 16)
            for line in Path(f"/proc/self/fdinfo/{inotify.fd}").read_text().splitlines()
            if line.startswith("inotify ")
        }
        assert kernel == set(notifier._paths) == set(notifier._watches) == set(inotify._watches)
        used = {number for numbers in notifier._numbers.values() for number in numbers.values()}
        assert used == kernel

    # --- what happens

    def step(self):
        operation = self.rng.choice(OPERATIONS_BY_WEIGHT)
        note = f"{operation.__name__}"
        with contextlib.suppress(OSError):
            note += f" {operation(self)!r}"
            self.done.append(note)
            return
        self.done.append(note + " failed")

    def end_round(self):
        while self.writers:
            self.writers.pop().close()
        for root in self.roots:
            real = Path(os.path.realpath(root))
            if not real.is_dir():
                real.unlink(missing_ok=True)
                real.mkdir(parents=True)
        self.done.append("end of the round")

    def directory(self):
        """Any directory below."""
        found = [self.images]
        inside = self.rng.random() < 0.2  # of a layout as well
        for path, names, files in os.walk(self.images):
            if Path(path) == self.images or inside or not LAYOUT_MARKS & {*names, *files}:
                found += [Path(path) / name for name in sorted(names)]
            if path.count("/") - str(self.images).count("/") > 2:
                names.clear()
        return self.rng.choice(found)

    def file(self):
        """Any file that is there."""
        found = [
            Path(path) / name for path, _, names in os.walk(self.images) for name in sorted(names)
        ]
        return self.rng.choice(found) if found else self.images / "none"

    def new_file(self):
        return self.directory() / self.rng.choice(FILES)

    def new_directory(self):
        return self.directory() / self.rng.choice(DIRECTORIES)

    def data(self):
        return self.rng.randbytes(self.rng.randrange(1, 5000))

    def write(self):
        path = self.new_file()
        path.write_bytes(self.data())
        return path

    def append(self):
        path = self.file()
        with path.open("ab") as file:
            file.write(self.data())
        return path

    def open_writer(self):
        path = self.new_file()
        self.writers.append(path.open(self.rng.choice(("wb", "ab")), buffering=0))
        return path

    def write_slowly(self):
        if self.writers:
            self.rng.choice(self.writers).write(self.data())

    def close_writer(self):
        if self.writers:
            self.writers.pop(self.rng.randrange(len(self.writers))).close()

    def write_part(self):
        path = self.new_file()
        part = path.with_name(path.name + ".part")
        part.write_bytes(self.data())
        if self.rng.random() < 0.8:
            part.rename(path)
        return path

    def unnamed(self):
        """A file without a name that gets one when it is whole, as O_TMPFILE is for."""
        path = self.new_file()
        number = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY)
        try:
            os.write(number, self.data())
            os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number, follow_symlinks=True)
        finally:
            os.close(number)
        return path

    def rename_file(self):
        source, target = self.file(), self.new_file()
        source.rename(target)
        return source, target

    def move_out(self):
        source = self.file()
        source.rename(self.outside / f"{self.rng.random()}")
        return source

    def move_in(self):
        source, target = self.outside / f"{self.rng.random()}", self.new_file()
        source.write_bytes(self.data())
        source.rename(target)
        return target

    def away_and_back(self):
        source = self.file()
        source.rename(self.outside / "back")
        (self.outside / "back").rename(source)
        return source

    def hard_link(self):
        source, target = self.file(), self.new_file()
        self.linked.add(source.lstat().st_ino)
        target.hardlink_to(source)
        return source, target

    def symlink(self):
        """To something here, or to one of a few names outside, some through another link."""
        path = self.new_file()
        leads = self.rng.choice((self.file(), self.targets / "t0", self.targets / "current"))
        new = path.with_name(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(leads)
        new.rename(path)
        return path, leads

    def change_target(self):
        path = self.targets / self.rng.choice(("t0", "t1"))
        if path.is_dir():
            shutil.rmtree(path)
        elif self.rng.random() < 0.3:
            path.unlink(missing_ok=True)
        if self.rng.random() < 0.2:
            layout(path, self.rng)
        elif self.rng.random() < 0.5:
            path.write_bytes(self.data())
        else:
            (self.targets / "new").write_bytes(self.data())
            (self.targets / "new").rename(path)
        return path

    def retarget(self):
        leads = self.rng.choice(("t0", "t1", "nowhere"))
        (self.targets / "next").unlink(missing_ok=True)
        (self.targets / "next").symlink_to(leads)
        (self.targets / "next").rename(self.targets / "current")
        return leads

    def unlink(self):
        path = self.file()
        path.unlink()
        return path

    def change_mode(self):
        path = self.file() if self.rng.random() < 0.7 else self.directory()
        path.chmod(self.rng.choice((0o600, 0o644, 0o755)))
        return path

    def touch(self):
        path = self.file()
        at = self.rng.randrange(1_500_000_000, 1_600_000_000)
        os.utime(path, (at, at), follow_symlinks=False)
        return path

    def make_directories(self):
        path = self.new_directory() / self.rng.choice(DIRECTORIES)
        path.mkdir(parents=True)
        (path / self.rng.choice(FILES)).write_bytes(self.data())
        return path

    def remove_directory(self):
        path = self.directory()
        if path != self.images:
            shutil.rmtree(path)
        return path

    def rename_directory(self):
        source, target = self.directory(), self.new_directory()
        if self.rng.random() < 0.2:
            target = source.with_name(self.rng.choice((".hidden", "x.part")))
        if source != self.images:
            source.rename(target)
        return source, target

    def directory_out_and_in(self):
        source, target = self.directory(), self.new_directory()
        if source == self.images:
            return None
        out = self.outside / f"{self.rng.random()}"
        source.rename(out)
        (out / self.rng.choice(FILES)).write_bytes(self.data())
        if self.rng.random() < 0.6:
            out.rename(target if self.rng.random() < 0.5 else source)
        return source, target

    def replace_by_the_other_kind(self):
        path = self.new_file()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.write_bytes(self.data())
        else:
            path.unlink()
            path.mkdir()
        return path

    def layout(self):
        path = self.new_directory()
        layout(path, self.rng)
        return path

    def mark(self):
        """A directory gets or loses something that makes it a layout."""
        path = self.directory() / self.rng.choice(sorted(LAYOUT_MARKS - {"blobs"}))
        if path.exists() and self.rng.random() < 0.7:
            path.unlink()
        elif self.rng.random() < 0.3:
            (path.parent / ".mark").write_text("{}")
            (path.parent / ".mark").rename(path)
        else:
            path.write_text("{}")
        return path

    def inner_goes(self):
        """The watched directory inside the other is deleted, made again or exchanged."""
        if stat.S_ISDIR(self.inner.stat().st_mode) and self.rng.random() < 0.5:
            shutil.rmtree(self.inner)
        else:
            self.inner.rename(self.outside / f"{self.rng.random()}")
        if self.rng.random() < 0.7:
            self.inner.mkdir()
            (self.inner / self.rng.choice(FILES)).write_bytes(self.data())


def marks(path):
    return [name for name in sorted(LAYOUT_MARKS) if os.path.lexists(path / name)]


def layout(path, rng):
    (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (path / "blobs" / "sha256" / f"{rng.randrange(3):064}").write_bytes(rng.randbytes(10))
    (path / "oci-layout").write_text("{}")
    (path / "index.json").write_text(f"{rng.random()}")


OPERATIONS_BY_WEIGHT = (
    [World.write, World.write_part, World.make_directories] * 4
    + [World.append, World.rename_file, World.unlink, World.rename_directory] * 3
    + [World.open_writer, World.write_slowly, World.close_writer, World.move_in, World.mark] * 2
    + [World.symlink, World.change_target, World.layout, World.directory_out_and_in] * 2
    + [World.unnamed, World.move_out, World.away_and_back, World.hard_link, World.retarget]
    + [World.change_mode, World.touch, World.remove_directory, World.inner_goes]
    + [World.replace_by_the_other_kind]
)
