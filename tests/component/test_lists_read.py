"""Lists of images in a watched directory: states, retries, changes and restarts."""

import asyncio
from contextlib import contextmanager

import pytest

from airside.core.errors import ContainerdError, PullRefusedError, StoppedError, UnavailableError
from airside.core.settings import Limits, WatchedDirectory
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.importer.importer import Job
from airside.importer.list_importer import NO_RUNTIME
from support.connected import connect_pullers
from support.images import oci_archive, random_image
from support.nodes import import_now, node_at, visible
from support.pullers import FakePuller
from support.queues import running

A, B, C = (f"docker.io/library/{name}:1" for name in "abc")
TIMES = {
    "settle_seconds": 0.05,
    "quiet_seconds": 0.1,
    "removal_seconds": 0.1,
    "retry_seconds": 0.3,
    "refused_seconds": 600.0,
}


def refused(name):
    return PullRefusedError(f"containerd: {name}: not found", status="NOT_FOUND")


def away():
    return ContainerdError("containerd: dial tcp: no such host", status="UNKNOWN")


@pytest.fixture
def puller():
    return FakePuller("one")


@pytest.fixture
def listed(images):
    path = images / "needed.txt"
    path.write_text("a:1\nb:1\n")
    return path


@contextmanager
def node_with(tmp_path, *pullers, tables=None, **changes):
    directory = WatchedDirectory(tmp_path / "images", **(tables or {}))
    with node_at(tmp_path / "data", images=(directory,), **{**TIMES, **changes}) as node:
        connect_pullers(node, pullers)
        yield node


def events_of(node, path):
    return [event.kind for event in node.catalog.events(limit=1000) if event.path == str(path)]


# What a list becomes


def test_each_image_of_a_dropped_list_is_pulled_once(tmp_path, images, puller):
    async def scenario(node):
        async with running(node) as r:
            path = images / "needed.txt"
            path.write_text("# ours\na:1\n\nb:1\na:1\n")
            row = await r.state(path, "imported")
            assert (row.kind, row.format, row.images) == ("list", "list", (A, B))
            assert (row.problems, row.reason) == ((), "")
            assert row.notes == ("1 of its lines name an image again: it is pulled once",)
            assert row.imported_at is not None
            await r.until(lambda: r.queue.running == {})

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [A, B]


def test_a_list_being_written_waits_for_its_rename(tmp_path, images, puller):
    async def scenario(node):
        async with running(node) as r:
            path = images / "needed.txt.part"
            path.write_text("a:1\n")
            other = images / "other.txt"
            other.write_text("b:1\n")
            await r.state(other, "imported")
            assert puller.pulls == [B]
            path.rename(images / "needed.txt")
            await r.state(images / "needed.txt", "imported")

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [B, A]


def test_what_the_runtime_has_is_not_pulled(tmp_path, listed, puller):
    puller.images[A] = "sha256:1"

    async def scenario(node):
        async with running(node) as r:
            assert (await r.state(listed, "imported")).images == (A, B)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [B]


def test_a_line_that_is_no_name_makes_the_list_partial(tmp_path, images, puller):
    path = images / "needed.txt"
    path.write_text("a:1\nNo Name\n")

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(path, "partial")
            assert row.images == (A,)
            [problem] = row.problems
            assert problem.image == "No Name"
            assert problem.reason.startswith("line 2: ")

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (b"a:1\n\0\n", {}),
        (b"No Name\n", {}),
        (b"a:1\n" * 10, {"limits": Limits(list_bytes=30)}),
        (b"a:1\nNo Name\n", {"tables": {"strict": True}}),
    ],
)
def test_a_file_that_is_no_list_is_rejected_and_nothing_of_it_pulled(
    tmp_path, images, puller, data, changes
):
    path = images / "needed.txt"
    path.write_bytes(data)

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(path, "rejected")
            assert row.kind == "list"
            assert row.reason == row.problems[0].reason
            assert row.images == ()

    with node_with(tmp_path, puller, **changes) as node:
        asyncio.run(scenario(node))
        assert not node.lists.behind()
    assert puller.pulls == []


def test_a_list_that_names_nothing_is_imported_with_a_note(tmp_path, images):
    path = images / "needed.txt"
    path.write_text("")

    async def scenario(node):
        async with running(node) as r:
            assert (await r.state(path, "imported")).notes == ("the list names no image",)

    with node_with(tmp_path) as node:  # and needs no runtime
        asyncio.run(scenario(node))


# What it is not


def test_an_archive_whose_name_ends_in_txt_is_an_archive(tmp_path, images, puller):
    image = random_image("one")
    plain, packed = images / "plain.txt", images / "packed.txt"
    oci_archive(plain, {"app:1": image})
    oci_archive(packed, {"app:2": image}, compression="gzip")

    async def scenario(node):
        async with running(node) as r:
            for path in (plain, packed):
                row = await r.state(path, "imported")
                assert (row.kind, row.format) == ("archive", "oci-layout")

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
        assert set(visible(node)) == {f"docker.io/library/app:{tag}" for tag in (1, 2)}
    assert puller.asked == []


def test_a_text_with_another_name_is_no_list(tmp_path, images, puller):
    path = images / "needed.lst"
    path.write_text("a:1\n")

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(path, "rejected")
            assert row.kind == "archive"
            assert ".txt" in row.reason

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.asked == []


def test_a_file_may_become_the_other(tmp_path, images, puller):
    path, image = images / "needed.txt", random_image("one")
    oci_archive(path, {"app:1": image})

    async def scenario(node):
        async with running(node) as r:
            first = await r.state(path, "imported")
            path.write_text("a:1\n")
            await r.until(lambda: r.row(path).kind == "list" and r.row(path).state == "imported")
            second = r.row(path)
            assert (second.id, second.images) == (first.id, (A,))
            oci_archive(path, {"app:1": image})
            await r.until(lambda: r.row(path).kind == "archive" and r.row(path).images)
            assert r.row(path).images == ("docker.io/library/app:1",)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))


# Retries


def test_what_failed_is_tried_again_and_the_rest_is_not_pulled_again(tmp_path, listed, puller):
    puller.failures[B] = away()

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(listed, "partial")
            assert row.images == (A,)
            [problem] = row.problems
            assert (problem.image, problem.reason) == (
                B,
                "line 2: containerd: dial tcp: no such host",
            )
            await r.until(lambda: puller.pulls.count(B) >= 3)
            del puller.images[A]  # somebody removed it, or kubelet did
            del puller.failures[B]
            row = await r.state(listed, "imported")
            assert row.images == (A, B)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls.count(A) == 1


def test_a_list_of_which_nothing_can_be_pulled_has_failed_for_now(tmp_path, listed, puller):
    puller.failures |= {A: away(), B: away()}

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(listed, "failed")
            assert (row.images, len(row.problems), row.imported_at) == ((), 2, None)
            puller.failures.clear()
            assert (await r.state(listed, "imported")).images == (A, B)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))


def test_what_a_registry_refused_is_not_asked_for_at_each_try(tmp_path, images, puller):
    path = images / "needed.txt"
    path.write_text("a:1\nb:1\nc:1\n")
    puller.failures |= {A: refused(A), B: away()}

    async def scenario(node):
        async with running(node) as r:
            await r.until(lambda: puller.pulls.count(B) >= 3)
            assert puller.pulls.count(A) == 1
            assert "not found" in (await r.state(path, "partial")).problems[0].reason
            del puller.failures[B]
            await r.until(lambda: r.row(path).images == (B, C))
            path.write_text("a:1\n")  # a changed list is asked for anew
            await r.until(lambda: puller.pulls.count(A) == 2)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))


def test_a_refusal_is_forgotten_in_time(tmp_path, images, puller):
    path = images / "needed.txt"
    path.write_text("a:1\n")
    puller.failures[A] = refused(A)

    async def scenario(node):
        async with running(node) as r:
            await r.until(lambda: puller.pulls.count(A) >= 2)
            puller.failures.clear()
            await r.state(path, "imported")

    with node_with(tmp_path, puller, refused_seconds=0.2) as node:
        asyncio.run(scenario(node))


def test_a_slow_list_does_not_hold_up_an_archive_or_another_list(tmp_path, images, puller):
    puller.held.add(A)
    (images / "needed.txt").write_text("a:1\n")

    async def scenario(node):
        async with running(node) as r:
            await r.until(lambda: puller.pulls == [A])
            oci_archive(images / "x.tar", {"app:1": random_image("one")})
            (images / "other.txt").write_text("b:1\n")
            await r.state(images / "x.tar", "imported")
            await r.state(images / "other.txt", "imported")
            assert r.row(images / "needed.txt").state == "importing"
            await r.until(lambda: set(r.queue.running) == {images / "needed.txt"})
            puller.held.clear()
            await r.state(images / "needed.txt", "imported")

    with node_with(tmp_path, puller, parallel_imports=1) as node:
        asyncio.run(scenario(node))


def test_progress_is_told_line_by_line(tmp_path, listed, puller):
    told = []
    with node_with(tmp_path, puller) as node:
        node.imports.import_file(listed, stop=lambda: False, progress=lambda *at: told.append(at))
    assert told == [(4, 8), (8, 8)]


def test_a_stop_ends_a_pull_at_once(tmp_path, listed, puller):
    puller.held.add(A)

    async def scenario(node):
        async with running(node) as r:
            await r.until(lambda: puller.pulls == [A])

    with node_with(tmp_path, puller) as node:
        asyncio.run(asyncio.wait_for(scenario(node), 5.0))
    with node_with(tmp_path, puller) as node:
        assert node.catalog.known()[str(listed)] == ""  # it is read again at the next start


# Without a runtime


def test_a_list_waits_for_a_runtime_with_a_reason(tmp_path, listed, puller):
    puller.is_available = False

    async def scenario(node):
        async with running(node) as r:
            row = await r.state(listed, "waiting")
            assert (row.kind, row.reason) == ("list", NO_RUNTIME)
            assert [problem.image for problem in row.problems] == [A, B]
            assert row.imported_at is None
            await asyncio.sleep(2.0)  # it is looked at again meanwhile, which is no event
            assert events_of(node, listed).count("waiting") == 1
            assert "importing" not in events_of(node, listed)
            puller.is_available = True
            await r.queue.runtime_changed()
            assert (await r.state(listed, "imported")).problems == ()

    with node_with(tmp_path, puller, retry_seconds=0.3) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [A, B]


def test_a_runtime_that_is_lost_is_not_asked_for_each_line(tmp_path, images, puller):
    path = images / "needed.txt"
    path.write_text("".join(f"a:{n}\n" for n in range(100)))
    asked = []

    def has(name, *, stop):
        del stop
        asked.append(name)
        puller.is_available = False
        raise ContainerdError("containerd: it is away", status="UNAVAILABLE")

    puller.has = has
    with node_with(tmp_path, puller) as node:
        outcome = import_now(node, path)
    assert outcome.state == "failed"
    assert len(outcome.problems) == 100
    assert len(asked) == 1


def test_a_runtime_that_comes_later_pulls_what_it_lacks(tmp_path, listed, puller):
    other = FakePuller("two")

    async def scenario(node):
        async with running(node) as r:
            await r.state(listed, "imported")
            connect_pullers(node, [other])
            await r.queue.runtime_changed()
            await r.until(lambda: other.pulls == [A, B])
            await r.state(listed, "imported")
            await r.until(lambda: not node.lists.behind())
            await r.queue.runtime_changed()
            await asyncio.sleep(0.2)

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
        assert events_of(node, listed).count("imported") == 2
    assert (puller.pulls, other.pulls) == ([A, B], [A, B])


def test_a_failure_names_the_runtime_where_there_are_several(tmp_path, listed, puller):
    other = FakePuller("two")
    other.failures[B] = away()
    with node_with(tmp_path, puller, other) as node:
        outcome = import_now(node, listed)
        assert outcome.state == "partial"
        assert outcome.images == (A,)
        assert [p.reason.split(": ")[:2] for p in outcome.problems] == [["line 2", "two"]]
        [row] = node.catalog.sources(path=str(listed))
        assert row.images == (A,)


# Changes, removal, restarts


def test_a_restart_with_nothing_changed_asks_for_nothing(tmp_path, listed, puller):
    async def first(node):
        async with running(node) as r:
            await r.state(listed, "imported")

    async def second(node):
        async with running(node) as r:
            await r.queue.runtime_changed()
            await asyncio.sleep(0.4)
            assert r.row(listed).state == "imported"

    with node_with(tmp_path, puller) as node:
        asyncio.run(first(node))
        before = len(node.catalog.events(limit=1000))
    puller.asked.clear()
    puller.images.clear()  # removed by somebody since
    with node_with(tmp_path, puller) as node:
        asyncio.run(second(node))
        assert len(node.catalog.events(limit=1000)) == before
    assert puller.asked == []
    assert puller.pulls == [A, B]


def test_after_a_restart_only_what_failed_is_asked_for(tmp_path, listed, puller):
    async def until_state(node, state):
        async with running(node) as r:
            await r.state(listed, state)

    puller.failures[B] = away()
    with node_with(tmp_path, puller) as node:
        asyncio.run(until_state(node, "partial"))
    puller.asked.clear()
    puller.failures.clear()
    with node_with(tmp_path, puller) as node:
        asyncio.run(until_state(node, "imported"))
    assert set(puller.asked) == {B}


def test_a_changed_list_is_read_again_and_pulls_what_is_new(tmp_path, listed, puller):
    async def scenario(node):
        async with running(node) as r:
            await r.state(listed, "imported")
            listed.write_text("b:1\nc:1\n")
            await r.until(lambda: r.row(listed).images == (B, C))
            assert r.row(listed).state == "imported"

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [A, B, C]


def test_a_list_that_changes_while_it_is_pulled_is_pulled_as_it_is_then(tmp_path, listed, puller):
    puller.held.add(A)

    async def scenario(node):
        async with running(node) as r:
            await r.until(lambda: puller.pulls == [A])
            listed.write_text("c:1\n")
            await r.until(lambda: r.row(listed).images == (C,))

    with node_with(tmp_path, puller) as node:
        asyncio.run(scenario(node))
    assert puller.pulls == [A, C]


def test_a_removed_list_goes_and_its_images_stay_in_the_runtime(tmp_path, listed, puller):
    async def scenario(node):
        async with running(node) as r:
            await r.state(listed, "imported")
            listed.unlink()
            await r.state(listed, "removed")
            assert not node.lists.behind()

    with node_with(tmp_path, puller, unbacked_after_seconds=0.0) as node:
        asyncio.run(scenario(node))
        node.collect_garbage()
        assert node.catalog.sources() == []
    assert set(puller.images) == {A, B}


def test_a_lost_catalog_costs_no_pull(tmp_path, listed, puller):
    async def scenario(node):
        async with running(node) as r:
            assert (await r.state(listed, "imported")).images == (A, B)

    for _ in range(2):
        with node_with(tmp_path, puller) as node:
            asyncio.run(scenario(node))
        for path in (tmp_path / "data").glob("catalog.db*"):
            path.unlink()
    assert puller.pulls == [A, B]


# By hand


def test_an_import_by_hand_pulls_and_says_what_failed(tmp_path, puller):
    path = tmp_path / "needed.txt"
    path.write_text("a:1\nb:1\nNo Name\n")
    puller.failures[B] = refused(B)
    with node_with(tmp_path, puller) as node:
        outcome = import_now(node, path)
        assert (outcome.state, outcome.images) == ("partial", (A,))
        assert [p.image for p in outcome.problems] == ["No Name", B]
        puller.failures.clear()
        assert import_now(node, path).images == (A, B)  # a person who asks again is not put off
        [row] = node.catalog.sources(path=str(path))
        assert (row.kind, row.format) == ("import", "list")


def test_an_import_by_hand_without_a_runtime_is_refused(tmp_path, listed):
    with node_with(tmp_path) as node:
        with pytest.raises(UnavailableError) as caught:
            import_now(node, listed)
        assert "container runtime" in caught.value.message
        assert node.catalog.sources() == []


def test_an_import_by_hand_can_be_stopped(tmp_path, listed, puller):
    puller.held.add(A)
    with node_with(tmp_path, puller) as node, pytest.raises(StoppedError):
        node.imports.import_file(listed, stop=lambda: bool(puller.pulls), progress=lambda *_: None)


# What is told


def test_explain_tells_of_a_list_and_of_a_name_that_it_waits_for(tmp_path, listed, puller):
    puller.failures[B] = away()
    with node_with(tmp_path, puller) as node:
        ids = node.catalog.source_states.settle([(str(listed), "", 8)], 1.0)
        node.imports.run(
            Job(ids[str(listed)], listed), stop=lambda: False, progress=lambda *_: None
        )
        place = place_of(node.settings)
        told = explain(node.catalog, str(listed), place)
        assert [(i["reference"], i["role"]) for i in told["images"]] == [
            (A, "pulled by the container runtime")
        ]
        assert "images are retried" in told["advice"][0]
        absent = explain(node.catalog, B, place)
        [trouble] = absent["troubles"]
        assert trouble["archive"] == str(listed)
        assert trouble["reason"].startswith("line 2: ")
        pulled = explain(node.catalog, A, place)
        assert (pulled["kind"], [each["pulled"] for each in pulled["lists"]]) == ("runtime", [True])
