"""Imports an archive into a new store: all that becomes visible is complete and true.

Only documented errors are raised, nothing is written outside the data directory, every blob of the
store hashes to its name, and every tag leads to a complete image.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from airside.agent.node import Node, open_node
from airside.archive.directory import stat_key
from airside.archive.tar.compression import detect_compression, iter_decompressed
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import ArchiveError
from airside.core.settings import MIB, Limits, Settings
from airside.importer.importer import Job, Outcome
from airside.oci.model import DOCUMENT_TYPES
from fuzz import planners, symbolic, tar
from fuzz.target import Mutate, Target, require
from support.images import (
    HOSTILE_KINDS,
    compress,
    docker_archive,
    hostile_tar,
    index_of,
    oci_archive,
    random_image,
)
from support.members import Members
from support.nodes import settings_at, visible, wrong_blobs

LIMITS = Limits(
    members=200, document_bytes=MIB, total_bytes=4 * MIB, blob_bytes=2 * MIB, window_bytes=8 * MIB
)
STATES = frozenset({"imported", "partial", "rejected", "incomplete"})
_MEMORY = Path("/dev/shm")


def check(data: bytes) -> None:
    with _sandbox() as root:
        archive = root / "archive.tar"
        archive.write_bytes(data)
        _check_import(root, archive)
        require(archive.read_bytes() == data, "the archive itself was changed")


def check_directory(data: bytes) -> None:
    """Check a layout as a directory, which is described as JSON (`fuzz.symbolic`)."""
    members = symbolic.resolve(data)
    if members is None or len(members.files) > 50:
        return
    with _sandbox() as root:
        directory = root / "layout"
        directory.mkdir()
        for name, raw in members.files.items():
            path = directory / name
            if not _SAFE.match(name) or any(part in {".", ".."} for part in name.split("/")):
                continue
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
        _check_import(root, directory)


_SAFE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]{0,150}\Z")


def _check_import(root: Path, archive: Path) -> None:
    good = root / "good.tar"
    good.write_bytes(_good())
    with _watched(root / "data") as written, open_node(_settings(root / "data")) as node:
        if _import(node, archive):
            _import_after(node, archive, good)
    require(not written, f"written outside the data directory: {written[:3]}")
    found = {path.name for path in root.iterdir()}
    require(found == {"data", archive.name, good.name}, f"left beside the data: {found}")


def _settings(data: Path) -> Settings:
    return settings_at(data, limits=LIMITS, platform="linux/arm64", verify_diff_ids="always")


@contextlib.contextmanager
def _sandbox() -> Iterator[Path]:
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="airside-fuzz-", dir=parent) as name:
        yield Path(name)


def _run(node: Node, path: Path, *, only: bool = False) -> Outcome:
    """Import an archive as the agent does; `only` selects the node's platform, and is strict."""
    key = stat_key(path)
    ids = node.catalog.source_states.settle([(str(path), str(key), key.size_bytes)], node.clock())
    platforms = ("node",) if only else ("all",)
    job = Job(ids[str(path)], path, strict=only, platforms=platforms, on_removal="delete")
    return node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)


def _import(node: Node, archive: Path) -> bool:
    """Import an archive, every second one strictly for the node's platform.

    Returns True if anything of it was imported.
    """
    outcome = _run(node, archive, only=stat_key(archive).size_bytes % 2 == 1)
    require(outcome.state in STATES, f"the state {outcome.state}")
    require(outcome.state == "imported" or outcome.reason or outcome.problems, "no reason")
    tags = visible(node)
    require(outcome.images or not tags, "an archive without images made tags")
    taken = outcome.state in {"imported", "partial"}
    require(taken or not list(node.store.digests()), f"{outcome.state}, but blobs are held")
    _check_store(node)
    if taken:
        require(node.reconcile() == [], "reconciling would read an imported archive again")
        require(visible(node) == tags, "reconciling changed the tags")
    return taken


def _import_after(node: Node, archive: Path, good: Path) -> None:
    """Check that a valid archive of the same name is imported, and survives the first's removal."""
    outcome = _run(node, good)
    require(outcome.state == "imported", f"a good archive was {outcome.state}: {outcome.reason}")
    require(GOOD in visible(node), "a good archive did not make its tag")
    _check_store(node)
    node.remove({str(archive): "delete"})
    node.reconcile()
    require(GOOD in visible(node), "a removal deleted the tag of a good archive")
    _check_store(node)


GOOD = "a.b/c:1"


@functools.cache
def _good() -> bytes:
    image = random_image("good", layers=1, layer_bytes=100, media="docker", platform="linux/arm64")
    with tempfile.TemporaryDirectory() as name:
        docker_archive(Path(name) / "x.tar", {GOOD: image})
        return (Path(name) / "x.tar").read_bytes()


def _check_store(node: Node) -> None:
    require(not wrong_blobs(node), f"wrong blobs in the store: {wrong_blobs(node)}")
    require(not list((node.settings.data / "ingest").iterdir()), "an ingest was left")
    held = {str(digest): node.store.path(digest).read_bytes() for digest in node.store.digests()}
    for name, digest in visible(node).items():
        check_whole(str(digest), held, name, 0)


def check_whole(digest: str, held: dict[str, bytes], name: str, level: int) -> None:
    """Check that all blobs below a document are held with their sizes.

    Of an index, one manifest is enough.
    """
    require(digest in held, f"{name} leads to {digest}, which is not held")
    require(level < 10, f"{name} has indexes without end")
    value = json.loads(held[digest])
    if "manifests" in value:
        below = [child["digest"] for child in value["manifests"] if _is_whole(child, held)]
        require(below, f"{name} is an index without a held manifest")
        for each in below:
            check_whole(each, held, name, level + 1)
        return
    for blob in (value["config"], *value["layers"]):
        if "nondistributable" in blob["mediaType"] or ".foreign." in blob["mediaType"]:
            continue
        require(blob["digest"] in held, f"{name} lacks {blob['digest']}")
        size = len(held[blob["digest"]])
        require(size == blob["size"], f"{name} has {blob['digest']} with {size} bytes")


def _is_whole(child: dict[str, Any], held: dict[str, bytes]) -> bool:
    """Returns True if the document has the size in its index; another size is a problem."""
    raw = held.get(child["digest"])
    return raw is not None and len(raw) == child["size"] and child["mediaType"] in DOCUMENT_TYPES


# Files that are written


class _Watch:
    """Records every file that Python opens for writing, makes, links or moves (PEP 578)."""

    def __init__(self) -> None:
        self.allowed: str | None = None
        self.written: list[str] = []
        self._added = False

    def start(self, allowed: Path) -> None:
        if not self._added:
            sys.addaudithook(self._seen)
            self._added = True
        self.written = []
        self.allowed = f"{allowed}/"

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None or event not in _EVENTS:
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING):
            return
        for path in args[: _EVENTS[event]]:
            text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
            if text and f"{text}/" != self.allowed and not text.startswith(self.allowed):
                self.written.append(f"{event} {text}")


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.symlink": 2, "os.link": 2, "os.remove": 1}
_WATCH = _Watch()


@contextlib.contextmanager
def _watched(data: Path) -> Iterator[list[str]]:
    _WATCH.start(data)
    try:
        yield _WATCH.written
    finally:
        _WATCH.allowed = None


# Inputs


def seeds() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.tar"
        docker = random_image(
            "docker", layers=2, layer_bytes=100, media="docker", compression="gzip"
        )
        images = [random_image("oci", layers=1, layer_bytes=100, platform=p) for p in
                  ("linux/amd64", "linux/arm64")]  # fmt: skip
        for compression in ("none", "gzip", "zstd", "lz4", "bzip2", "xz"):
            docker_archive(path, {("a.b/c:1", "d"): docker}, compression=compression)
            yield path.read_bytes()
            oci_archive(path, {"a.b/c:1": index_of(images)}, compression=compression)
            yield path.read_bytes()
        oci_archive(path, {"a.b/c:1": images[0]}, hybrid=True)
        yield path.read_bytes()
    for members in planners.archives():
        yield tar_of(members)
    for kind in HOSTILE_KINDS[::4]:
        yield hostile_tar(kind)


def tar_of(members: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, raw in members.files.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return out.getvalue()[: -tarfile.RECORDSIZE // 2]


def mutate(data: bytes, rng: Random, blindly: Mutate) -> bytes:
    """Mutate mostly the decompressed tar, with valid checksums."""
    if rng.random() < 0.2:
        return blindly(data)
    try:
        kind = detect_compression(data)
        windows = WindowBudget(MIB)
        plain = b"".join(iter_decompressed([data], kind, limits=LIMITS, windows=windows, notes=[]))
    except ArchiveError:
        return blindly(data)
    changed = _planned(plain, rng, blindly) if rng.random() < 0.5 else None
    if changed is None:
        changed = _with_true_names(tar.mutate(plain, rng, blindly), rng)
    return compress(changed, kind.value)


def _planned(data: bytes, rng: Random, blindly: Mutate) -> bytes | None:
    """Returns the archive with changed documents and their new digests; None if it is no tar."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            files = {i.name: archive.extractfile(i).read() for i in archive if i.isreg()}
    except (tarfile.TarError, ValueError, OSError, EOFError, OverflowError, AttributeError):
        return None
    found = symbolic.resolve(symbolic.mutate(symbolic.symbolic(Members(files)), rng, blindly))
    try:
        return None if found is None else tar_of(found)
    except ValueError:  # a name that no tar has
        return None


def _with_true_names(data: bytes, rng: Random) -> bytes:
    """Returns the archive, half the time with the new digest of a changed member in its place."""
    if rng.random() < 0.5:
        return data
    with contextlib.suppress(tarfile.TarError, ValueError, OSError, EOFError, OverflowError):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            files = {i.name: archive.extractfile(i).read() for i in archive if i.isreg()}
        for name, raw in files.items():
            old = name.rpartition("/")[2].removesuffix(".json")
            new = hashlib.sha256(raw).hexdigest()
            if len(old) == 64 and old != new:
                return tar.with_checksums(data.replace(old.encode(), new.encode()))
    return data


TARGETS = (
    Target("archives", check, seeds, mutate, max_bytes=65536),
    Target("directories", check_directory, planners.seeds, symbolic.mutate, max_bytes=16384),
)
