"""Is a data directory as it must always be? And is all that a registry lists really there?

Written apart from the code under test: files, SQLite and HTTP are read directly.
"""

import contextlib
import hashlib
import http.client
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airside.archive.formats.index_json import IMAGE_NAME
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import DOCUMENT_TYPES
from support.waiting import LIMIT_SECONDS, wait_until

ACCEPT = ", ".join(sorted(DOCUMENT_TYPES))
OF_AN_AGENT = {"catalog.commits", "catalog.db", "format", "ingest", "lock", "oci"}
"""What `DATA` always holds."""
SOMETIMES = {"backup", "catalog.clean", "quarantine", "reserve", "verified", "verified.old"}
WHILE_RUNNING = {"airside.sock", "catalog.db-shm", "catalog.db-wal"}


# Over HTTP


class Puller:
    """One connection to a registry at `HOST:PORT`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def get(self, target: str) -> tuple[int, bytes, str]:
        """Status, body, and the target of the next page."""
        self._connection.request("GET", target, headers={"Accept": ACCEPT})
        answer = self._connection.getresponse()
        link = answer.getheader("Link", "")
        return answer.status, answer.read(), link.partition(";")[0].strip("<> ")

    def listed(self, target: str, key: str) -> list[str]:
        found: list[str] = []
        while target:
            status, body, target = self.get(target)
            assert status == 200, (status, body)
            found += json.loads(body)[key] or []
        return found

    def names(self) -> list[tuple[str, str]]:
        """(repository, tag) of all that is listed."""
        return [
            (name, tag)
            for name in self.listed("/v2/_catalog", "repositories")
            for tag in self.listed(f"/v2/{name}/tags/list", "tags")
        ]

    def pull(self, name: str, tag: str, seen: set[Digest]) -> Digest:
        """Pull a tag whole, hash every byte; gives its digest."""
        status, body, _ = self.get(f"/v2/{name}/manifests/{tag}")
        assert status == 200, f"{name}:{tag} is listed, but: {status} {body!r:.200}"
        digest = Digest("sha256", hashlib.sha256(body).hexdigest())
        self._children(name, json.loads(body), seen)
        return digest

    def _children(self, name: str, document: dict[str, Any], seen: set[Digest]) -> None:
        for child in document.get("manifests", []):
            self._child(name, child, "manifests", seen)
        for blob in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            self._child(name, blob, "blobs", seen)

    def _child(self, name: str, item: dict[str, Any], kind: str, seen: set[Digest]) -> None:
        digest = parse_digest(item["digest"])
        if digest in seen:
            return
        status, body, _ = self.get(f"/v2/{name}/{kind}/{digest}")
        assert status == 200, f"{name}: {digest} is needed, but: {status} {body!r:.200}"
        assert len(body) == item["size"], digest
        assert hashlib.new(digest.algorithm, body).hexdigest() == digest.hex, digest
        seen.add(digest)
        if kind == "manifests":
            self._children(name, json.loads(body), seen)


def pull_all(address: str) -> dict[str, Digest]:
    """Pull all that is listed, and hash it; gives reference → digest."""
    with contextlib.closing(Puller(address)) as puller:
        return _pull_these(puller, puller.names())


def _pull_these(puller: Puller, names: list[tuple[str, str]]) -> dict[str, Digest]:
    seen: set[Digest] = set()
    return {f"{name}:{tag}": puller.pull(name, tag, seen) for name, tag in names}


def pull_at_once(address: str) -> dict[str, Digest]:
    """The same as one state, while imports go on: pulled again until nothing changed meanwhile."""
    found = None
    for _ in range(100):
        before, found = found, _pull_unless_moved(address)
        if found is not None and found == before:
            return found
    raise AssertionError("what is served changes all the time")


def _pull_unless_moved(address: str) -> dict[str, Digest] | None:
    """`pull_all`, or None if it failed and what is listed is not what it was."""
    listed = _names(address)
    if listed is None:
        return None
    with contextlib.closing(Puller(address)) as puller:
        try:
            return _pull_these(puller, listed)
        except AssertionError:
            if _names(address) == listed:
                raise
    return None


def _names(address: str) -> list[tuple[str, str]] | None:
    """What is listed, None where a repository went meanwhile."""
    with contextlib.closing(Puller(address)) as puller:
        try:
            return puller.names()
        except AssertionError:
            return None


# On disk


@contextlib.contextmanager
def open_catalog(data: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(data / "catalog.db")
    try:
        yield connection
    finally:
        connection.close()


BEING_WRITTEN = {".index.json.tmp"}
"""Of the layout, while the agent runs: an import is told before its index is written."""


def check_sound(data: Path, expected: dict[str, Digest], *, running: bool = False) -> None:
    """All that must hold when nothing is being done; `expected` are the tags."""
    found = {path.name for path in data.iterdir()} - SOMETIMES
    assert found - (WHILE_RUNNING if running else set()) == OF_AN_AGENT, found
    if running:  # what an import did not need is deleted after the import is recorded
        wait_until(lambda: not any((data / "ingest").iterdir()))
    assert list((data / "ingest").iterdir()) == []
    layout = {p.name for p in (data / "oci").iterdir()} - (BEING_WRITTEN if running else set())
    assert layout == {"blobs", "index.json", "oci-layout"}
    with open_catalog(data) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        tags = dict(
            db.execute(
                "SELECT ltrim(r.host || '/' || r.path, '/') || ':' || t.name, t.digest"
                " FROM tag t JOIN repository r ON r.id = t.repository_id"
            )
        )
        known = {row[0] for row in db.execute("SELECT digest FROM blob WHERE state = 'held'")}
    assert tags == {name: str(digest) for name, digest in expected.items()}
    if running:  # an import is recorded before index.json is written
        wait_until(lambda: index_of_store(data) == tags)
    assert index_of_store(data) == tags
    _check_blobs(data, known)


def _check_blobs(data: Path, known: set[str]) -> None:
    held: set[str] = set()
    for path in (data / "oci" / "blobs").glob("*/*"):
        algorithm = path.parent.name
        assert hashlib.new(algorithm, path.read_bytes()).hexdigest() == path.name
        assert path.stat().st_mode & 0o777 == 0o444
        held.add(f"{algorithm}:{path.name}")
    assert held == known, f"only on disk: {held - known}; only in the catalog: {known - held}"


def index_of_store(data: Path) -> dict[str, str]:
    """Reference → digest as `index.json` says, of what has a tag."""
    items = json.loads((data / "oci" / "index.json").read_bytes())["manifests"]
    names = {item["annotations"][IMAGE_NAME]: item["digest"] for item in items}
    return {name: digest for name, digest in names.items() if ":" in name.rpartition("/")[2]}


def state_of(data: Path) -> dict[str, Any]:
    """All that a restart with nothing changed must leave as it is."""
    files = {
        str(path.relative_to(data)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted((data / "oci").rglob("*"))
    }
    tables = ("source", "claim", "tag", "tag_generation", "blob", "document", "repository_blob")
    with open_catalog(data) as db:
        rows = {table: sorted(db.execute(f"SELECT * FROM {table}")) for table in tables}
        generation = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
    return {"files": files, "generation": generation, **rows}
