"""Random damage of blobs, catalog, log and `index.json`, after clean and unclean stops.

What always holds: the node starts; no wrong byte is a whole answer; no blob whose bytes are right
is deleted; what is not served any more is told; what comes again by drop and push is right again.
"""

import http.client
import json
import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from airside.agent.node import Node
from airside.diagnostics.reports import status_report
from airside.oci.digest import Digest, digest_of
from airside.registry.rules.names import Name
from support.images import TestImage, oci_archive, random_image, random_index
from support.nodes import import_now, node_at, wrong_blobs
from support.pushing import push_image
from support.served import Served, served_node
from support.size import sized
from support.waiting import LIMIT_SECONDS

ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
RECORDS = ("catalog.db", "catalog.db-wal", "oci/index.json")
OTHERS = ("catalog.clean", "catalog.commits", "backup/index-a.json", "backup/index-b.json")


@dataclass
class Origin:
    """Stopped data directories that are damaged, and what they serve."""

    clean: Path
    killed: Path
    earlier: Path
    """The records of an earlier time, to exchange."""
    archive: Path
    pushed: dict[str, TestImage]
    names: dict[str, Digest] = field(default_factory=dict)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    root = tmp_path_factory.mktemp("damage")
    index = random_index("dropped")
    big = random_image("big", layers=1, layer_bytes=1_200_000)
    pushed = {"1": random_image(1), "2": random_image(2), "big": big}
    made = Origin(root / "data", root / "killed", root / "earlier", root / "a.tar", pushed)
    made.names = dict(oci_archive(made.archive, {"example.com/app:1": index}))
    with node_at(made.clean, push="all") as node:
        import_now(node, made.archive)
        push_image(node, Name("team/app"), pushed["1"], "1")
        node.importer.write_index()
    shutil.copytree(made.clean, made.earlier)
    with node_at(made.clean, push="all") as node:
        for tag in ("2", "big"):
            push_image(node, Name("team/app"), pushed[tag], tag)
        node.importer.write_index()
        shutil.copytree(made.clean, made.killed)
    made.names |= {f"team/app:{tag}": image.digest for tag, image in pushed.items()}
    return made


def damage(rng: Random, data: Path, earlier: Path) -> list[str]:
    """One to four damages. Returns what was done."""
    done = []
    blobs = sorted(path.relative_to(data) for path in (data / "oci/blobs/sha256").iterdir())
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["flip", "cut", "delete", "exchange", "garbage"])
        records = [Path(name) for name in rng.choice([RECORDS, RECORDS, OTHERS])]
        relative = rng.choice(blobs if rng.random() < 0.5 else records)
        path = data / relative
        if not path.is_file() or not path.stat().st_size:
            continue
        path.chmod(0o644)
        damage_file(rng, kind, path, data / rng.choice(blobs), earlier / relative)
        done.append(f"{kind} {relative}")
    return done


def damage_file(rng: Random, kind: str, path: Path, blob: Path, earlier: Path) -> None:
    raw = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(raw[: rng.randrange(len(raw))])
    elif kind == "garbage":
        start = rng.randrange(len(raw))
        path.write_bytes(bytes(raw[:start]) + rng.randbytes(min(5000, len(raw) - start)))
    elif kind == "flip":
        for _ in range(rng.choice([1, 1, 8])):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
    elif "blobs" not in path.parts:
        if earlier.exists():
            path.write_bytes(earlier.read_bytes())
    elif blob.is_file():
        blob.chmod(0o644)
        other = blob.read_bytes()
        blob.write_bytes(raw)
        path.write_bytes(other)


def right_blobs(data: Path) -> set[str]:
    found = {path.name: path.read_bytes() for path in (data / "oci/blobs/sha256").iterdir()}
    return {name for name, raw in found.items() if digest_of(raw).hex == name}


def answer(registry: Served, target: str) -> bytes | None:
    """The body of a whole answer; None for an error or a cut connection."""
    with closing(http.client.HTTPConnection(registry.address, timeout=LIMIT_SECONDS)) as link:
        link.request("GET", target, headers={"Accept": ACCEPT})
        try:
            found = link.getresponse()
            body = found.read()
        except (http.client.HTTPException, ConnectionError):
            return None
        return body if found.status == 200 else None


def pull(registry: Served, name: str, wanted: Digest) -> bool:
    """Pulls all of a name. Returns False if it is not whole; asserts that its bytes are right."""
    path, _, tag = name.rpartition(":")
    return _pull(registry, path.removeprefix("docker.io/"), tag, wanted)


def _pull(registry: Served, path: str, reference: str, wanted: Digest) -> bool:
    raw = answer(registry, f"/v2/{path}/manifests/{reference}")
    if raw is None:
        return False
    assert digest_of(raw) == wanted, (path, reference)
    value = json.loads(raw)
    whole = True
    for child in value.get("manifests", []):
        digest = Digest(*child["digest"].split(":"))
        whole &= _pull(registry, path, str(digest), digest)
    for child in [*value.get("layers", []), *([value["config"]] if "config" in value else [])]:
        body = answer(registry, f"/v2/{path}/blobs/{child['digest']}")
        assert body is None or str(digest_of(body)) == child["digest"], child
        whole &= body is not None
    return whole


def is_told(node: Node) -> bool:
    report = status_report(node.catalog)
    bad = report["blobs_lost"] + report["blobs_quarantined"]
    return bool(report["lost_records"] or bad or node.catalog.unread())


def check_served(node: Node, names: dict[str, Digest], *, whole: bool) -> None:
    suspects: list[Digest] = []
    with served_node(node, suspects.append) as registry:
        served = {name: pull(registry, name, digest) for name, digest in names.items()}
    if whole:
        assert all(served.values()), served
    elif not all(served.values()):
        assert suspects or is_told(node), served
    for digest in dict.fromkeys(suspects):  # as the agent does
        size = node.catalog.blob_size(digest)
        if size is not None:
            node.scrub.look(digest, size, lambda _count: None, repair=True)


@pytest.mark.parametrize("seed", range(sized(10, 500)))
def test_random_damage_is_told_deletes_nothing_right_and_is_cured(
    seed: int, origin: Origin, tmp_path: Path
) -> None:
    rng, data = Random(seed), tmp_path / "data"
    shutil.copytree(rng.choice([origin.clean, origin.killed]), data)
    done = damage(rng, data, origin.earlier)
    right = right_blobs(data)
    with node_at(data, push="all") as node:
        check_served(node, origin.names, whole=False)
        node.reconcile()
        assert right <= right_blobs(data), done
        for tag, image in origin.pushed.items():
            push_image(node, Name("team/app"), image, tag)
        import_now(node, origin.archive)
        check_served(node, origin.names, whole=True)
        assert right <= right_blobs(data), done
    with node_at(data, push="all") as node:
        check_served(node, origin.names, whole=True)
        unknown = set(node.catalog.unknown_blobs())
        assert set(wrong_blobs(node)) <= unknown, done
