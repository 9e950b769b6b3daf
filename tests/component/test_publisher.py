"""What the publisher makes of the catalog and of what others do in a runtime."""

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.catalog.runtime_records import RuntimePendingSync
from airside.containerd.publish_pass import Pass
from airside.containerd.publisher import Publisher
from airside.core.errors import ContainerdError, DigestMismatchError
from airside.diagnostics.image_states import states_under
from airside.diagnostics.reports import archives_report, images_report, status_report
from airside.oci.digest import digest_of, parse_digest
from airside.oci.model import Document
from airside.ports.outcome import Published
from airside.ports.publication import ARCHIVES_LABEL, PINNED_LABEL, NamedImage, Publication
from airside.registry.rules.names import Name
from support.images import docker_archive, oci_archive, random_image, random_index
from support.nodes import node_at
from support.publishing import NAME, SOCKET, Bench
from support.pushing import push_image
from support.waiting import LIMIT_SECONDS


def test_an_import_is_named_by_tag_and_digest_and_pinned(bench: Bench) -> None:
    bench.drop(1)
    assert bench.run().published == 1
    digest = bench.row().digest
    assert set(bench.runtime.named) == {NAME, f"docker.io/library/app@{digest}"}
    assert all(image.pinned for image in bench.runtime.named.values())
    assert all(image.labels[ARCHIVES_LABEL] for image in bench.runtime.named.values())
    assert bench.row().state == "published"


def test_a_second_pass_changes_nothing(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    events = bench.node.catalog.events(limit=1000)
    again = bench.run(everything=True)
    assert (again.published, again.withdrawn, len(bench.runtime.published)) == (0, 0, 1)
    assert bench.node.catalog.events(limit=1000) == events


def test_no_document_stays_in_memory_after_a_pass(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.run(everything=True)
    digest = bench.row().digest
    bench.runtime.contents.clear()
    bench.runtime.published.clear()
    gc.collect()
    documents = [each for each in gc.get_objects() if isinstance(each, Document)]
    assert digest not in {str(each.digest) for each in documents}


def test_what_lost_a_blob_of_ours_keeps_its_names(bench: Bench) -> None:
    """The runtime has its own copy, which may be what ours is repaired from."""
    bench.drop(1)
    bench.run()
    names, image = set(bench.runtime.named), random_image(1)
    digest = image.layers[0].digest
    bench.node.store.delete(digest)
    bench.node.catalog.verification.mark_blob(digest, "quarantined", 1.0)
    bench.publisher = Publisher(  # another agent: it remembers nothing
        SOCKET,
        bench.node.catalog,
        bench.node.store,
        bench.node.settings,
        bench.node.clock,
        bench.node.document_memory,
    )
    for _ in range(2):
        bench.run()
        assert (bench.row().state, set(bench.runtime.named)) == ("incomplete", names)
    bench.drop(2)
    bench.run()
    assert bench.row().state == "published"
    assert names <= set(bench.runtime.named)  # it is an earlier version now


def test_a_name_without_a_record_is_not_believed(bench: Bench) -> None:
    """We may have been killed after it was named, and before what it runs from was durable."""
    bench.drop(1)
    bench.run()
    bench.node.catalog.publications.forget(SOCKET, [NAME], 1.0)
    assert bench.run().published == 1
    assert bench.row().detail["unpacked"]
    assert bench.run().published == 0


def test_what_is_not_synced_is_remembered_until_the_runtime_is_another(bench: Bench) -> None:
    catalog = bench.node.catalog
    RuntimePendingSync(catalog, SOCKET).save({"sha256:a": "one"})
    RuntimePendingSync(catalog, "other").save({"sha256:b": "one"})
    assert RuntimePendingSync(catalog, SOCKET).load() == {"sha256:a": "one"}
    catalog.publications.forget_runtime(SOCKET)
    assert RuntimePendingSync(catalog, SOCKET).load() == {}
    assert RuntimePendingSync(catalog, "other").load() == {"sha256:b": "one"}


def test_an_image_in_use_is_let_go_later(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    image_id = str(bench.row().detail["image_id"])
    bench.runtime.used = {image_id}
    bench.remove(policy="delete")
    assert bench.run().again_seconds is not None
    assert bench.node.catalog.meta(f"leaving:{SOCKET}") == image_id
    bench.runtime.used = set()
    bench.run()
    assert bench.node.catalog.meta(f"leaving:{SOCKET}") == ""


def test_an_archive_that_goes_unpins_and_the_name_stays(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.remove()
    bench.run()
    assert NAME in bench.runtime.named
    assert not any(PINNED_LABEL in i.labels for i in bench.runtime.named.values())
    assert bench.row().detail["pinned"] is False
    changes = bench.runtime.relabelled
    bench.run()
    assert bench.runtime.relabelled == changes


def test_a_name_without_archives_is_withdrawn_when_its_tag_expires(tmp_path: Path) -> None:
    with node_at(tmp_path / "data", unbacked_after_seconds=0.0) as node:
        bench = Bench(node, tmp_path)
        bench.drop(1)
        bench.run()
        bench.remove()
        bench.run()
        node.garbage.collect(node.clock() + 1)
        assert bench.run().withdrawn == 2
        assert bench.runtime.named == {}


def test_a_deleted_tag_is_withdrawn(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.remove(policy="delete")
    assert bench.run().withdrawn == 2
    assert bench.runtime.named == {}
    assert bench.node.catalog.published(SOCKET) == []


def test_what_others_named_is_left_alone(bench: Bench) -> None:
    other = NamedImage("docker.io/library/other:1", digest_of(b"other"), {})
    bench.runtime.named[other.name] = other
    bench.drop(1)
    bench.run()
    bench.remove(policy="delete")
    bench.run()
    assert bench.runtime.named == {other.name: other}


def test_a_removed_image_is_put_back_at_once_and_then_ever_later(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    for _ in range(2):
        bench.rmi()
        assert bench.run().published == 1
        assert not bench.runtime.published[-1].unpack
        bench.now += 1
    bench.rmi()
    held_back = bench.run()
    assert (held_back.published, bench.runtime.named) == (0, {})
    assert held_back.again_seconds is not None
    assert "again and again" in str(bench.row().detail["reason"])
    bench.now += held_back.again_seconds + 1
    assert bench.run().published == 1
    restored = [e for e in bench.node.catalog.events(limit=1000) if e.kind == "restored"]
    assert len(restored) == bench.row().restores == 3


def told(bench: Bench) -> dict[str, Any]:
    """The image in the runtime, as `airside images` has it."""
    [image] = images_report(bench.node.catalog)["items"]
    [found] = image["runtimes"]
    return dict(found)


def wait_for_a_restore(bench: Bench) -> Pass:
    """Remove the image until it is not restored at once."""
    bench.drop(1)
    bench.run()
    for _ in range(3):
        bench.rmi()
        found = bench.run()
    return found


def test_an_image_that_waits_for_its_restore_is_absent_and_tells_when_it_comes(
    bench: Bench,
) -> None:
    found = wait_for_a_restore(bench)
    for _ in range(2):  # a pass in between plans no other time
        image = told(bench)
        assert (image["state"], image["present"], image["pinned"]) == ("waiting", False, False)
        assert image["unpacked"] is False
        assert image["next_try_at"] is not None
        report = status_report(bench.node.catalog)
        assert report["unpublished"]["items"] == [
            {
                "reference": NAME,
                **{key: image[key] for key in ("socket", "state", "reason", "next_try_at")},
            }
        ]
        [archive] = archives_report(bench.node.catalog)["items"]
        assert archive["unpublished"] == report["unpublished"]["items"]
        assert "waiting" in archive["reason"]
        events = [e.kind for e in bench.node.catalog.events(limit=1000) if e.kind == "waiting"]
        assert events == ["waiting"]
        bench.now += 1
        again = bench.run().again_seconds
        assert again is not None
        assert found.again_seconds is not None
        assert again < found.again_seconds
    bench.now += again
    bench.run()
    assert (told(bench)["state"], told(bench)["next_try_at"]) == ("published", None)
    assert status_report(bench.node.catalog)["unpublished"] == {"count": 0, "items": []}


PAUSE = "registry.k8s.io/pause:3.10"


@pytest.mark.parametrize("how", ["sandbox", "container", "name"])
def test_what_a_pod_wants_is_restored_at_once_however_often_it_is_removed(
    bench: Bench, how: str
) -> None:
    name = PAUSE if how == "sandbox" else NAME
    bench.drop(1, name)
    bench.run()
    if how != "sandbox":
        wanted = name if how == "name" else str(bench.row(name).detail["image_id"])
        bench.runtime.wanted_now.add(wanted)
    for _ in range(8):
        bench.rmi()
        assert bench.run().published == 1
        assert bench.row(name).state == "published"


def test_the_next_pod_ends_the_wait_of_every_image(bench: Bench) -> None:
    found = wait_for_a_restore(bench)
    assert (found.waiting, found.published) == (1, 0)
    found = bench.run(pods_started=True)
    assert (found.waiting, found.published) == (0, 1)


def test_nothing_waits_while_a_pod_has_no_container_yet(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.runtime.pod_starts = True
    for _ in range(8):
        bench.rmi()
        assert bench.run().published == 1


def test_a_name_that_is_moved_again_and_again_waits_whatever_pods_want(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    for _ in range(3):
        bench.runtime.named[NAME] = NamedImage(NAME, digest_of(b"theirs"), {})
        found = bench.run(pods_started=True)
    assert (found.waiting, bench.row().state) == (1, "waiting")


def test_an_image_that_somebody_else_brings_back_waits_no_longer(bench: Bench) -> None:
    wait_for_a_restore(bench)
    for name in (NAME, f"docker.io/library/app@{bench.row().digest}"):
        bench.runtime.named[name] = NamedImage(name, parse_digest(bench.row().digest), {})
    bench.run()
    assert told(bench)["state"] == "published"
    assert bench.runtime.named[NAME].pinned


def test_an_image_that_cannot_be_published_says_so_until_it_can(bench: Bench) -> None:
    bench.drop(1)
    bench.runtime.fail[NAME] = DigestMismatchError("layer unpacks to something else")
    assert bench.run().again_seconds == 10
    bench.now += 4
    assert bench.run().again_seconds == 6  # a pass in between does not forget the next try
    waits = []
    for _ in range(6):
        bench.now += waits[-1] if waits else 6.0
        waits.append(bench.run().again_seconds)
    assert waits == [20, 40, 80, 160, 300, 300]
    image = told(bench)
    assert (image["state"], image["present"]) == ("failed", False)
    assert "something else" in image["reason"]
    assert image["next_try_at"] is not None
    [archive] = archives_report(bench.node.catalog)["items"]
    assert archive["state"] == "imported"
    assert "something else" in archive["reason"]


def test_a_sandbox_image_that_failed_is_tried_every_half_minute(bench: Bench) -> None:
    pause = "registry.k8s.io/pause:3.9"
    bench.drop(1, pause)
    bench.runtime.fail[pause] = DigestMismatchError("layer unpacks to something else")
    for seconds in (10, 20, 30, 30):
        assert bench.run().again_seconds == seconds
        bench.now += seconds


def test_a_new_version_of_an_image_that_failed_is_tried_at_once(bench: Bench) -> None:
    bench.runtime.fail[NAME] = DigestMismatchError("layer unpacks to something else")
    for seed in range(2):
        bench.drop(seed)
        assert bench.run().again_seconds == 10
        bench.now += 1


def test_a_pin_that_the_runtime_does_not_know_is_no_pin(bench: Bench) -> None:
    bench.runtime.knows_pins = False
    bench.drop(1)
    bench.run()
    assert bench.runtime.named[NAME].pinned  # a newer containerd will know it
    assert told(bench)["pinned"] is False


def test_what_others_unpack_or_collect_is_recorded(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    assert told(bench)["unpacked"]
    config = bench.runtime.unpacked_images.pop()  # a collection of snapshots
    bench.run()
    assert (told(bench)["state"], told(bench)["unpacked"]) == ("published", False)
    events = bench.node.catalog.events(limit=1000)
    bench.runtime.unpacked_images.add(config)  # a pod began
    bench.run(everything=True)
    assert told(bench)["unpacked"]
    assert bench.node.catalog.events(limit=1000) == events


def test_an_image_that_is_restored_without_its_snapshots_is_not_called_unpacked(
    bench: Bench,
) -> None:
    bench.drop(1)
    bench.run()
    bench.rmi()
    bench.runtime.unpacked_images.clear()
    bench.run()
    for _ in range(2):
        assert (told(bench)["state"], told(bench)["unpacked"]) == ("published", False)
        bench.run()


def test_stripped_labels_are_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A pull through CRI writes the names anew, one after another."""
    bench.drop(1)
    bench.run()
    caplog.set_level("INFO", "airside.publish")
    caplog.clear()
    for name in list(bench.runtime.named):
        bench.runtime.named[name] = NamedImage(name, bench.runtime.named[name].target, {})
        bench.run()
        assert bench.runtime.named[name].pinned
    assert len([r for r in caplog.records if "labels were removed" in r.message]) == 1
    assert told(bench)["restores"] == 0


def test_labels_that_we_change_are_not_called_removed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "airside.publish")
    bench.drop(1)
    bench.run()
    again = bench.directory / "again.tar"
    docker_archive(again, {NAME: random_image(1)})
    bench.settle(again)  # another archive has the image too
    bench.run()
    assert str(again) in bench.runtime.named[NAME].labels[ARCHIVES_LABEL]
    for path in (again, bench.directory / f"{NAME.replace('/', '_')}.tar"):
        bench.node.remove({str(path): "unpin"})
        bench.run()
    assert not bench.runtime.named[NAME].pinned
    assert [r for r in caplog.records if "labels were removed" in r.message] == []


def test_what_another_agent_publishes_is_unknown_here(bench: Bench) -> None:
    bench.drop(1)
    theirs = {"socket": SOCKET, "connected": True, "reason": "another has it", "other_agent": {}}
    [image] = images_report(bench.node.catalog, [theirs | {"other_agent": {"pid": 1}}])["items"]
    [state] = image["runtimes"]
    assert (state["state"], state["reason"], state["present"]) == (
        "unknown",
        "another has it",
        False,
    )


def test_an_image_is_pending_or_unknown_where_no_pass_can_have_seen_it(bench: Bench) -> None:
    bench.drop(1)
    connected = {"socket": SOCKET, "connected": True, "reason": ""}
    [image] = images_report(bench.node.catalog, [connected])["items"]
    assert [each["state"] for each in image["runtimes"]] == ["pending"]
    bench.run()
    bench.drop(2)
    [image] = images_report(bench.node.catalog, [connected])["items"]
    assert [each["state"] for each in image["runtimes"]] == ["pending"]
    away = connected | {"connected": False, "reason": "containerd does not run"}
    [explained] = states_under(bench.node.catalog.published(), NAME, [away])
    assert (explained.state, explained.is_present) == ("unknown", False)
    [explained] = states_under(bench.node.catalog.published(), NAME, [connected])
    assert explained.is_present
    [image] = images_report(bench.node.catalog, [away])["items"]
    [state] = image["runtimes"]
    assert (state["state"], state["present"]) == ("unknown", False)
    assert "containerd does not run" in state["reason"]


def test_respected_removals_stay_until_a_new_drop(node: Node, tmp_path: Path) -> None:
    bench = Bench(node, tmp_path, respect_rmi=True)
    bench.drop(1)
    bench.run()
    bench.rmi()
    for _ in range(2):
        bench.run()
        assert bench.runtime.named == {}
        assert bench.row().state == "left"
    bench.drop(1)
    bench.run()
    assert NAME in bench.runtime.named


def test_an_image_without_archive_is_not_put_back(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.remove()
    bench.run()
    bench.rmi()
    bench.run()
    assert bench.runtime.named == {}
    assert "no archive" in str(bench.row().detail["reason"])


def test_a_kept_version_is_put_back_when_its_tag_has_an_archive_again(bench: Bench) -> None:
    bench.drop(1)
    first = bench.node.catalog.tag_states()[0].digest
    bench.drop(2)
    bench.run()
    bench.remove()
    bench.run()
    bench.rmi()
    bench.run()
    assert bench.runtime.named == {}
    bench.drop(2)
    bench.run()
    assert f"{NAME.rpartition(':')[0]}@{first}" in bench.runtime.named


@pytest.mark.parametrize("conflict", ["ours", "theirs"])
def test_a_moved_name_is_taken_back_or_left(node: Node, tmp_path: Path, conflict: str) -> None:
    bench = Bench(node, tmp_path, conflict=conflict)
    bench.drop(1)
    bench.run()
    theirs = NamedImage(NAME, digest_of(b"theirs"), {})
    bench.runtime.named[NAME] = theirs
    for _ in range(2):
        bench.run()
    if conflict == "theirs":
        assert bench.runtime.named[NAME] == theirs
        assert bench.row().state == "conflict"
        assert str(theirs.target) in str(bench.row().detail["reason"])
    else:
        assert str(bench.runtime.named[NAME].target) == bench.row().digest


def test_labels_that_somebody_rewrote_are_set_again(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    image = bench.runtime.named[NAME]
    bench.runtime.named[NAME] = NamedImage(NAME, image.target, {"io.cattle.k3s": "1"})
    bench.run()
    assert bench.runtime.named[NAME].pinned
    assert bench.runtime.named[NAME].labels["io.cattle.k3s"] == "1"
    assert len(bench.runtime.published) == 1


def test_a_lost_blob_is_published_again(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    bench.runtime.held.pop()
    assert bench.run().published == 0
    assert bench.run(everything=True).published == 1


def test_a_layer_that_is_wrong_leaves_the_version_before(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    before, [image_id] = dict(bench.runtime.named), bench.runtime.ids
    bench.drop(2)
    bench.runtime.fail[NAME] = DigestMismatchError("layer unpacks to something else")
    for _ in range(2):
        bench.run()
        assert bench.runtime.named == before
        assert bench.row().state == "failed"
        assert "something else" in str(bench.row().detail["reason"])
        assert bench.row().detail["image_id"] == image_id
        assert image_id in bench.runtime.ids
    del bench.runtime.fail[NAME]
    bench.now += 301
    bench.run()
    assert bench.row().state == "published"
    assert str(bench.runtime.named[NAME].target) == bench.row().digest


def test_a_runtime_that_is_away_ends_the_pass(bench: Bench) -> None:
    bench.drop(1)
    bench.runtime.fail[NAME] = ContainerdError("away", status="UNAVAILABLE")
    with pytest.raises(ContainerdError):
        bench.run()
    assert bench.node.catalog.published(SOCKET) == []


def test_images_are_published_side_by_side(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    met, publish = threading.Barrier(4, timeout=LIMIT_SECONDS), bench.runtime.publish

    def together(publication: Publication, *, stop: Callable[[], bool]) -> Published:
        met.wait()
        return publish(publication, stop=stop)

    monkeypatch.setattr(bench.runtime, "publish", together)
    names = [f"docker.io/library/app-{n}:1" for n in range(4)]
    for name in names:
        bench.drop(name, name)
    assert bench.run().published == 4
    assert {bench.row(name).state for name in names} == {"published"}


def test_the_first_that_finds_the_runtime_away_ends_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, publish = threading.Event(), bench.runtime.publish

    def held_up(publication: Publication, *, stop: Callable[[], bool]) -> Published:
        if not away.is_set():
            away.set()
            raise ContainerdError("away", status="UNAVAILABLE")
        while not stop():
            time.sleep(0.001)
        stopped.append(publication)
        return publish(publication, stop=lambda: False)

    stopped: list[Publication] = []
    monkeypatch.setattr(bench.runtime, "publish", held_up)
    for name in (NAME, *(f"docker.io/library/x{n}:1" for n in range(20))):
        bench.drop(name, name)
    with pytest.raises(ContainerdError):
        bench.run()
    assert len(stopped) < 20


def test_an_only_manifest_is_published_with_a_note_whatever_its_config_says(bench: Bench) -> None:
    bench.drop(1, platform="linux/arm64")
    bench.run()
    assert NAME in bench.runtime.named
    assert bench.row().state == "published"
    assert "its config says linux/arm64" in str(bench.row().detail["note"])


def test_only_what_this_node_runs_is_published(bench: Bench) -> None:
    path = bench.directory / "index.tar"
    oci_archive(path, {NAME: random_index(1, ("linux/arm64", "linux/s390x"))})
    bench.settle(path)
    bench.run()
    assert bench.runtime.named == {}
    assert bench.row().state == "not-for-node"
    assert "linux/arm64" in str(bench.row().detail["reason"])


def test_of_an_index_only_the_nodes_manifest_is_held(bench: Bench) -> None:
    path = bench.directory / "index.tar"
    oci_archive(path, {NAME: random_index(1)})
    bench.settle(path)
    bench.run()
    [publication] = bench.runtime.published
    content = publication.content
    assert str(content.target.digest) == bench.row().digest
    labels = publication.blob_labels(content.target.digest)
    assert labels["containerd.io/gc.ref.content.m.0"] == str(content.manifest.digest)
    assert len(content.blobs) == len(content.manifest.children) + 2


def test_extra_registries_and_rewriting_give_names(node: Node, tmp_path: Path) -> None:
    rules = ("docker.io/=mirror.example/hub/", "docker.io/library/=lib.example/")
    bench = Bench(node, tmp_path, extra_registries=("extra.example:5000",), rewrite=rules)
    bench.drop(1)
    bench.run()
    digest = bench.row().digest
    assert set(bench.runtime.named) == {
        "lib.example/app:1",
        f"lib.example/app@{digest}",
        "extra.example:5000/library/app:1",
        f"extra.example:5000/library/app@{digest}",
    }


def test_a_push_gets_no_name_in_a_runtime_that_an_archive_s_image_has(
    node: Node, tmp_path: Path
) -> None:
    """Pushed first, or under another path: `catalog.short_names` refuses other pushes."""
    rules = ("mine.example/mirror/=docker.io/library/",)
    bench = Bench(
        node,
        tmp_path,
        extra_registries=("extra.example",),
        rewrite=rules,
        registry_names=("mine.example",),
    )
    for path in ("library/app", "mirror/app"):
        push_image(node, Name(path), random_image(f"pushed to {path}"), "1")
    bench.run()
    bench.drop(1)
    for _ in range(2):
        bench.run(everything=True)
        dropped = bench.row().digest
        for name in (NAME, "extra.example/library/app:1"):
            assert str(bench.runtime.named[name].target) == dropped
        assert str(bench.runtime.named["mine.example/library/app:1"].target) != dropped
    assert bench.row("library/app:1").state == "published"


def test_two_tags_of_one_image_share_the_digest_name(bench: Bench) -> None:
    bench.drop(1)
    bench.drop(1, "docker.io/library/app:2")
    bench.run()
    assert len(bench.runtime.named) == 3
    bench.remove("docker.io/library/app:2")
    bench.run()
    assert bench.runtime.named[f"docker.io/library/app@{bench.row().digest}"].pinned
    assert not bench.runtime.named["docker.io/library/app:2"].pinned


def test_sandbox_images_are_published_before_anything_else_begins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, publish = "registry.k8s.io/pause:3", bench.runtime.publish
    begun: list[str] = []

    def noted(publication: Publication, *, stop: Callable[[], bool]) -> Published:
        name = next(name for name in publication.names if "@" not in name)
        if name != pause:
            assert pause in bench.runtime.named
        begun.append(name)
        return publish(publication, stop=stop)

    monkeypatch.setattr(bench.runtime, "publish", noted)
    for name in (NAME, *(f"docker.io/library/x{n}:1" for n in range(8)), pause):
        bench.drop(name, name)
    assert bench.run().published == 10
    assert begun[0] == pause
