"""`name@digest` stays while an archive, a push, a kept version or a container holds it."""

from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.catalog.tag_states import TagState
from airside.containerd.image_documents import ImageDocuments
from airside.core.errors import DigestMismatchError
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.oci.digest import parse_digest
from airside.registry.rules.names import Name
from support.images import docker_archive, oci_archive, random_image, random_index
from support.nodes import node_at
from support.publishing import NAME, SOCKET, Bench
from support.pushing import push_image

REPOSITORY = "docker.io/library/app"


def held(bench: Bench) -> dict[str, bool]:
    """Each name by digest in the runtime, and whether it is pinned."""
    named = bench.runtime.named.values()
    return {i.name.partition("@")[2]: i.pinned for i in named if "@" in i.name}


def drop_part(bench: Bench, architecture: str, file_name: str) -> str:
    """Import the image of one platform from a file of its own. Returns its digest."""
    image = random_image(architecture, platform=f"linux/{architecture}", media="oci")
    path = bench.directory / file_name
    oci_archive(path, {NAME: image})
    bench.settle(path)
    return str(image.digest)


def target(bench: Bench) -> str:
    return str(bench.runtime.named[NAME].target)


def test_a_part_keeps_its_digest_when_another_platforms_archive_comes(bench: Bench) -> None:
    part = drop_part(bench, "amd64", "amd64.tar")
    bench.run()
    other = drop_part(bench, "arm64", "arm64.tar")
    bench.run()
    assert target(bench) not in {part, other}
    assert held(bench) == {target(bench): True, part: True}
    assert str(bench.runtime.named[f"{REPOSITORY}@{part}"].target) == part


def test_a_replaced_version_keeps_its_digest(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    before = target(bench)
    bench.drop(2)
    bench.run()
    assert held(bench) == {target(bench): True, before: True}
    row = bench.row(f"{REPOSITORY}@{before}")
    assert (row.state, row.detail["unpacked"], row.detail["pinned"]) == ("published", True, True)
    assert bench.run(everything=True).published == 0


def test_an_archive_keeps_its_digest_beside_a_newer_one(bench: Bench) -> None:
    digests = []
    for number in (1, 2, 3, 4):
        path = bench.directory / f"{number}.tar"
        docker_archive(path, {NAME: random_image(number)})
        bench.settle(path)
        bench.run()
        digests.append(target(bench))
    bench.node.clean(dry_run=False)
    bench.run()
    assert held(bench) == dict.fromkeys(digests, True)


def test_a_version_that_is_not_kept_is_withdrawn(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.drop(number)
        bench.run()
        if number == 1:
            first = target(bench)
    assert first in held(bench)
    bench.node.clean(dry_run=False)
    bench.run()
    assert len(held(bench)) == 2
    assert first not in held(bench)
    assert f"{REPOSITORY}@{first}" not in {r.reference for r in bench.node.catalog.published()}


def test_what_a_container_uses_keeps_its_digest_until_it_ends(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    first, bench.runtime.used = target(bench), {str(bench.row().detail["image_id"])}
    for number in (2, 3):
        bench.drop(number)
        bench.run()
    bench.node.clean(dry_run=False)
    for _ in range(2):
        assert bench.run(everything=True).again_seconds is not None
        assert held(bench)[first]
    bench.runtime.used = set()
    bench.run()
    assert first not in held(bench)
    assert bench.node.catalog.meta(f"leaving:{SOCKET}") == ""


def test_what_kubelet_collected_of_a_kept_version_comes_back(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    before = target(bench)
    bench.drop(2)
    bench.run()
    del bench.runtime.named[f"{REPOSITORY}@{before}"]
    bench.run()
    assert held(bench)[before]


def test_a_tag_that_its_archive_lost_to_another_stays_pinned_and_comes_back(bench: Bench) -> None:
    """`kubectl rollout undo`: app.tar with 1.0 was replaced by app.tar with 2.0."""
    path = bench.directory / "app.tar"
    for number in (1, 2):
        path.unlink(missing_ok=True)
        docker_archive(path, {f"{REPOSITORY}:{number}.0": random_image(number)})
        bench.settle(path)
        bench.run()
    old = {f"{REPOSITORY}:1.0", f"{REPOSITORY}@{bench.row(f'{REPOSITORY}:1.0').digest}"}
    assert {name: bench.runtime.named[name].pinned for name in old} == dict.fromkeys(old, True)
    for name in old:
        del bench.runtime.named[name]
    bench.run()
    assert old <= set(bench.runtime.named)
    bench.node.remove({str(path): "unpin"})
    bench.run()
    assert not any(image.pinned for image in bench.runtime.named.values())


def test_a_rollback_and_back_keeps_both_digests(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.drop(2)
    bench.run()
    both = held(bench)
    repository = bench.node.catalog.repositories()[0]
    for _ in range(3):
        bench.node.catalog.rollbacks.roll_back(repository, "1", bench.node.clock())
        bench.run(everything=True)
        assert held(bench) == both
        assert {row.state for row in bench.node.catalog.published()} == {"published"}


def test_an_index_is_named_by_its_digest_and_by_that_of_the_nodes_manifest(bench: Bench) -> None:
    index = random_index(1)
    path = bench.directory / "index.tar"
    oci_archive(path, {NAME: index})
    bench.settle(path)
    bench.run()
    manifest = str(index.image("linux/amd64").digest)
    assert held(bench) == {str(index.digest): True, manifest: True}
    bench.node.remove({str(path): "delete"})
    bench.run()
    assert bench.runtime.named == {}


def test_a_pushed_version_keeps_its_digest(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, registry_names=("mine.example",))
    digests = []
    for number in (1, 2):
        image = random_image(number)
        push_image(node, Name("app"), image, "1")
        bench.run()
        digests.append(str(image.digest))
    assert held(bench) == dict.fromkeys(digests, True)


def test_a_failed_version_does_not_take_the_digest_of_the_one_before(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    before = target(bench)
    bench.drop(2)
    bench.runtime.fail[NAME] = DigestMismatchError("layer unpacks to something else")
    for _ in range(2):
        bench.run()
        assert held(bench) == {before: True}


def test_another_agents_catalog_of_the_same_archives_has_the_same_digests(
    bench: Bench, tmp_path: Path
) -> None:
    for number in (1, 2):
        path = bench.directory / f"{number}.tar"
        docker_archive(path, {NAME: random_image(number)})
        bench.settle(path)
    bench.run()
    with node_at(tmp_path / "new") as node:
        again = Bench(node, tmp_path)
        again.runtime = bench.runtime
        before = held(bench)
        for number in (1, 2):
            again.settle(tmp_path / f"{number}.tar")
        again.run(everything=True)
        assert held(again) == before


def test_explain_and_the_registry_agree_with_the_runtime_on_each_digest(bench: Bench) -> None:
    part = drop_part(bench, "amd64", "amd64.tar")
    bench.run()
    drop_part(bench, "arm64", "arm64.tar")
    bench.run()
    merged = target(bench)
    bench.drop(2)
    bench.run()
    view, place = bench.node.catalog, place_of(bench.node.settings)
    digests = held(bench)
    told = {d: explain(view, f"{REPOSITORY}@{d}", place) for d in digests}
    assert {part, merged, target(bench)} < set(digests)
    for digest in digests:
        assert view.document_by_digest(view.repositories()[0], parse_digest(digest)) is not None
        [state] = told[digest]["runtimes"]
        assert (state["state"], state["pinned"]) == ("published", True)
    archive = {"kind": "archive", "name": str(bench.directory / "amd64.tar")}
    assert told[part]["held_by"] == [archive, {"kind": "version", "name": NAME}]
    assert told[merged]["held_by"] == [{"kind": "version", "name": NAME}]
    assert told[target(bench)]["held_by"] == [{"kind": "tag", "name": NAME}]


def test_a_pass_reads_the_documents_of_a_held_digest_once(
    node: Node, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []
    choose = ImageDocuments.choose

    def counted(self: ImageDocuments, tag: TagState, *args: Any, **named: Any) -> Any:
        visited.append(tag.reference)
        return choose(self, tag, *args, **named)

    monkeypatch.setattr(ImageDocuments, "choose", counted)
    for version in (1, 2):
        names = {f"{REPOSITORY}:{n}": random_image((version, n)) for n in range(20)}
        path = bench.directory / "all.tar"
        path.unlink(missing_ok=True)
        docker_archive(path, names)
        bench.settle(path)
        bench.run()
    assert len(held(bench)) == 40
    assert len(visited) == 40
    bench.run(everything=True)
    assert len(visited) == 40  # nothing is read again
    assert len(node.catalog.held_digests()) == 20


def test_a_digest_that_passes_between_tag_and_version_is_neither_sent_nor_withdrawn(
    bench: Bench,
) -> None:
    for number in (1, 2):
        bench.drop(number, f"{REPOSITORY}:2")
        bench.run()
    first = next(d for d in held(bench) if d != bench.row(f"{REPOSITORY}:2").digest)
    sent = len(bench.runtime.published)
    bench.drop(1)  # the version of the other tag is this tag now
    assert bench.run().published == 1
    assert bench.row().digest == first
    bench.remove()
    assert bench.run().published == 0
    assert held(bench)[first]
    assert len(bench.runtime.published) == sent + 1
    withdrawn = [e for e in bench.node.catalog.events(limit=1000) if e.kind == "withdrawn"]
    assert withdrawn == []
