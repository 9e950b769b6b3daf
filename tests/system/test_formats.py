"""Each archive that a real tool makes is dropped, pulled back, and compared byte for byte.

What was found is docs/formats.md: `REWRITE_FORMATS=1 pytest tests/system/test_formats.py` writes
the page again, otherwise the last test compares it.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.agent import Agent
from support.debian import UnreachableError
from support.formats import (
    bundle_rows,
    compression_rows,
    directory_rows,
    docker_rows,
    feature_rows,
    layout_rows,
    maker_rows,
    name_rows,
    page,
    refused_rows,
    tar_rows,
)
from support.formats.contents import Contents, Tree
from support.formats.row import Row
from support.formats.workshop import Workshop
from support.size import sized
from support.skopeo import pull
from support.sound import Puller

pytestmark = [pytest.mark.system, pytest.mark.needs("skopeo")]

ROWS: list[Row] = [
    *docker_rows.ROWS,
    *maker_rows.ROWS,
    *layout_rows.ROWS,
    *directory_rows.ROWS,
    *feature_rows.ROWS,
    *bundle_rows.ROWS,
    *name_rows.ROWS,
    *tar_rows.ROWS,
    *compression_rows.ROWS,
    *refused_rows.ROWS,
]


def some(rows: Iterable[Row], every: int) -> frozenset[str]:
    """Keys of rows of each table, the first always; all in `make torture`."""
    by_table: dict[str, list[str]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row.key)
    return frozenset(key for keys in by_table.values() for key in keys[:: sized(every, 1)])


PULLED_BY_SKOPEO = some((row for row in ROWS if row.skopeo), 4)
READ_BY_CONTAINERD = some((row for row in ROWS if row.containerd), 3)
"""The real client, and the real importer, beside our own pull of each row and its digests."""
JUDGED = ("imported", "partial", "rejected", "failed", "incomplete", "unreadable")


@pytest.fixture(scope="module")
def shop():
    made = Workshop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(shared_agent):
    return shared_agent.registry


@pytest.fixture
def puller(address):
    made = Puller(address)
    yield made
    made.close()


@pytest.fixture(scope="module")
def found():
    """What became of each row that was tried, by its key."""
    return {}


def params():
    for row in ROWS:
        marks = [pytest.mark.needs(*row.needs)] if row.needs else []
        if row.root:
            marks.append(pytest.mark.skipif(os.geteuid() != 0, reason="the tool needs root"))
        yield pytest.param(row, id=row.key, marks=marks)


def test_rows_are_told_apart():
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert len({(row.table, row.cells) for row in ROWS}) == len(ROWS)
    assert {row.table for row in ROWS} <= set(page.TABLES)


@pytest.mark.parametrize("row", list(params()))
def test_what_a_tool_made_is_pulled_back_as_it_was(
    row, shop, shared_agent, address, puller, found, tmp_path
):
    try:
        made = row.make(shop, tmp_path, row.key)
    except UnreachableError as exc:
        pytest.skip(str(exc))
    contents = None if row.refused else row.read(made, row.key)
    if contents is not None:
        others = already_there(shared_agent.data, contents)
        assert not others, "each row must bring bytes of its own"
        if row.key in READ_BY_CONTAINERD:
            check_containerd(shop, row, made, contents)
    path = drop(shared_agent.watched, row, made)
    shown = judged(shared_agent, path)
    if contents is None:
        found[row.key] = check_refused(row, shown)
        return
    assert shown["state"] == "imported", shown
    assert (shown["format"], shown["compression"]) == (contents.format, row.compression), shown
    check_notes(row, shown["notes"])
    check_pulled(puller, shown["images"], contents)
    if row.key in PULLED_BY_SKOPEO:
        for number, name in enumerate(shown["images"]):
            got = pull(address, in_url(name), tmp_path / f"pulled-{number}")
            assert {str(digest) for digest in got} == set(tree_of(name, contents).held)
    found[row.key] = result(row, contents)


def already_there(data: Path, contents: Contents) -> set[str]:
    """Blobs of it that the store has before; `{}` and its kin are everywhere."""
    large = {d for tree in contents.trees.values() for d in tree.held if tree.held[d] >= 100}
    return {d for d in large if (data / "oci/blobs" / d.replace(":", "/")).exists()}


def drop(watched: Path, row: Row, made: Path) -> Path:
    """Into the watched directory, under a name that is only its row's."""
    path = watched / (row.key + ("" if made.is_dir() else row.suffix))
    if row.pack is not None:
        row.pack(made, made.with_name("packed"))
        made = made.with_name("packed")
    if row.cut is None:
        made.rename(path)
        return path
    for ending, data in reversed(row.cut(made.read_bytes()).items()):  # the first one comes last
        made.write_bytes(data)
        path = made.rename(watched / f"{row.key}{ending}")
    return path


def judged(agent: Agent, path: Path) -> dict[str, Any]:
    """Wait for its end; asks for it alone, as there are hundreds."""
    agent.wait_for(
        lambda: agent.ask(f"/v1/explain?what={quote(str(path))}").get("state") in JUDGED,
        what=f"{path.name} was read",
    )
    return dict(agent.archives()[path])


def check_containerd(shop: Workshop, row: Row, made: Path, contents: Contents) -> None:
    """containerd's own importer comes to the same digests, in a namespace of its own.

    What has no name it does not keep.
    """
    flags = ["--all-platforms", "--no-unpack", *shop.containerd.local]
    shop.containerd.did("images", "import", *flags, made, namespace=row.key)
    listed = shop.containerd.did("images", "ls", namespace=row.key).splitlines()[1:]
    images = {line.split()[0]: line.split()[2] for line in listed}
    assert {k: v for k, v in images.items() if not k.startswith("import-")} == contents.names


def check_refused(row: Row, shown: dict) -> str:
    assert shown["state"] == "rejected", shown
    assert row.refused in shown["reason"]
    assert shown["images"] == []
    return "refused: " + re.sub(r"[0-9a-f]{64}", "…", shown["reason"])


def check_pulled(puller: Puller, listed: list[str], contents: Contents) -> None:
    """All names are there, and all that they lead to; what the archive lacks answers 404."""
    named = {name for name in listed if "@" not in name}
    assert named == set(contents.names)
    assert {name.partition("@")[2] for name in listed} - {""} == contents.unnamed
    for name in listed:
        tree, root = tree_of(name, contents), root_of(name, contents)
        repository, mark, tag = in_url(name).rpartition("@" if "@" in name else ":")
        assert mark
        status, raw, _ = puller.get(f"/v2/{repository}/manifests/{tag}")
        assert status == 200, (name, raw)
        assert digest_like(root, raw) == root
        assert {root, *walk(puller, repository, raw)} == set(tree.held)
        for digest in tree.absent:
            for kind in ("manifests", "blobs"):
                assert puller.get(f"/v2/{repository}/{kind}/{digest}")[0] == 404, digest


def walk(puller: Puller, repository: str, raw: bytes) -> set[str]:
    """Pull all that a document leads to, and hash it; what answers 404 is left out."""
    document, got = json.loads(raw), set()
    children = [(each, "manifests") for each in document.get("manifests", [])]
    children += [(each, "blobs") for each in document.get("layers", [])]
    children += [(document["config"], "blobs")] if "config" in document else []
    for child, kind in children:
        digest = child["digest"]
        status, body, _ = puller.get(f"/v2/{repository}/{kind}/{digest}")
        if status == 404:
            continue
        assert status == 200, (digest, body)
        assert len(body) == child["size"]
        got.add(digest_like(digest, body))
        if kind == "manifests":
            got |= walk(puller, repository, body)
    return got


def in_url(name: str) -> str:
    """The name as a registry's client writes it: the colon of a port is none of a tag."""
    host, slash, path = name.partition("/")
    return host.replace(":", "_") + slash + path


def digest_like(digest: str, raw: bytes) -> str:
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def root_of(name: str, contents: Contents) -> str:
    return contents.names.get(name) or name.partition("@")[2]


def tree_of(name: str, contents: Contents) -> Tree:
    return contents.trees[root_of(name, contents)]


def check_notes(row: Row, notes: list[str]) -> None:
    """Nothing is noted but what the row says, and what says nothing of the archive's worth."""
    if row.noted:
        assert any(row.noted in note for note in notes), notes
    others = [note for note in notes if not row.noted or row.noted not in note]
    usual = ["is only a tag", "zero bytes follow", *(["read from "] if row.cut else [])]
    assert all(any(text in note for text in usual) for note in others), others


def result(row: Row, contents: Contents) -> str:
    text = "imported"
    if not contents.names:
        text += ", reachable by digest"
    elif contents.unnamed:
        text += ", what has no name reachable by digest"
    if contents.absent:
        text += "; what is absent answers 404"
    return f"{text}; noted: {row.noted}" if row.noted else text


def test_the_page_says_what_was_found(found):
    results = page.committed(ROWS) | found
    never = [row.key for row in ROWS if row.key not in results]
    assert not never, f"never tried, so the page cannot be written: {never}"
    text = page.render(results, ROWS)
    before = page.PAGE.read_text(encoding="utf-8") if page.PAGE.exists() else ""
    if text != before and os.environ.get("REWRITE_FORMATS") == "1":
        page.PAGE.write_text(text, encoding="utf-8")
    elif text != before:
        lines = (before.splitlines(), text.splitlines())
        pytest.fail(
            "docs/formats.md is not what was found; REWRITE_FORMATS=1 writes it again:\n"
            + "\n".join(difflib.unified_diff(*lines, "committed", "found", lineterm="")),
            pytrace=False,
        )
