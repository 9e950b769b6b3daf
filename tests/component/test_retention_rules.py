"""Rules of retention, the grace time of pushes, and what a collection leaves: real store, real
catalog. Each collection is first told by a dry run, which must say the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.core.settings import RetentionRule
from airside.oci.digest import Digest
from airside.store.gc import Freed
from support.clocks import believed
from support.images import TestImage, index_of, oci_archive, random_image
from support.nodes import import_now, node_at, visible
from support.pushes import (
    held,
    linked,
    push,
    push_blobs,
    push_image,
    put,
    referrer_of,
    repository_of,
)

APP = "team/app"
HOUR = 3600.0


def image(label: object) -> TestImage:
    return random_image(label, layers=1, layer_bytes=400)


def blobs(*images: TestImage) -> set[Digest]:
    return {blob.digest for each in images for blob in each.blobs}


class Time:
    def __init__(self, node: Node) -> None:
        self.node, self.now = node, 1_000_000.0
        node.clock = believed(lambda: self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds

    def collect(self) -> list[Freed]:
        """Collect, after a dry run that changes nothing and says the same."""
        before = self.node.catalog.generation, held(self.node), visible(self.node)
        told = self.node.clean(dry_run=True)
        assert before == (self.node.catalog.generation, held(self.node), visible(self.node))
        freed = self.node.clean(dry_run=False)
        assert freed == told
        assert self.node.clean(dry_run=False) == []
        return freed


@pytest.fixture
def rules() -> tuple[RetentionRule, ...]:
    return ()


@pytest.fixture
def node(tmp_path: Path, rules: tuple[RetentionRule, ...]) -> Iterator[Node]:
    with node_at(tmp_path / "data", retention_rules=rules) as opened:
        yield opened


@pytest.fixture
def time(node: Node) -> Time:
    return Time(node)


def tags(node: Node) -> set[str]:
    return set(visible(node))


def with_rules(*found: RetentionRule):
    return pytest.mark.parametrize("rules", [found])


# pushes


def test_what_is_being_pushed_stays_for_the_grace_time(node: Node, time: Time) -> None:
    one, two = image(1), image(2)
    push_blobs(node, APP, [one.config, *one.layers])
    push(node, "other/app", two.blobs, tag="1")
    push_blobs(node, APP, [two.layers[0]])  # a mount
    time.later(HOUR - 1)
    assert time.collect() == []
    put(node, APP, one.manifest, tag="1")
    time.later(2)
    assert time.collect() == []
    assert held(node) == blobs(one, two)
    assert linked(node, APP) == blobs(one)  # what was mounted and not used has gone
    assert tags(node) == {"team/app:1", "other/app:1"}


def test_a_push_that_was_given_up_goes_after_the_grace_time(node: Node, time: Time) -> None:
    push_blobs(node, APP, [image(1).config, *image(1).layers])
    time.later(HOUR)
    [*lines] = time.collect()
    assert sum(line.blobs for line in lines) == 2
    assert sum(line.freed_bytes for line in lines) == sum(len(b.raw) for b in image(1).blobs[1:])
    assert held(node) == set()
    assert node.catalog._readers.rows("SELECT * FROM pushed") == []
    assert node.catalog._readers.rows("SELECT * FROM repository") == []


def test_what_is_below_a_manifest_that_was_pushed_lately_stays(node: Node, time: Time) -> None:
    """Its tag was deleted since: who saw the manifest may still push an index of it."""
    push_image(node, APP, image(1), tag="1")
    time.later(2 * HOUR)
    node.catalog.deletions.delete_tag(repository_of(APP), "1", node.clock(), "a test")
    time.later(HOUR - 1)
    assert time.collect() == []
    assert held(node) == blobs(image(1))
    time.later(1)
    assert len(time.collect()) == 1
    assert held(node) == set()


def test_what_a_client_asked_about_lately_stays_with_what_is_below_it(
    node: Node, time: Time
) -> None:
    one, two = image(1), image(2)
    for each in (one, two):
        push_blobs(node, APP, each.blobs[1:])
        put(node, APP, each.manifest)
    with node.catalog._transactions.begin("delete") as db:
        db.execute("DELETE FROM source")
    time.later(2 * HOUR)
    assert node.garbage.leases.lease(one.digest)
    assert {line.digest for line in time.collect()} == {str(two.digest)}
    assert held(node) == blobs(one)
    put(node, APP, one.manifest, tag="1")


def test_without_a_rule_what_was_pushed_stays_for_ever(node: Node, time: Time) -> None:
    push_image(node, APP, image(1), tag="1")
    push_image(node, APP, image(2))
    time.later(1e9)
    assert time.collect() == []
    assert held(node) == blobs(image(1), image(2))


def test_what_was_pushed_by_digest_goes_with_its_index(node: Node, time: Time) -> None:
    """buildx pushes each manifest by its digest, and then the index by its tag."""
    first, second = index_of([image(1), image(2)]), index_of([image(2), image(3)])
    for each in (first, second, index_of([image(4)])):
        push_image(node, APP, each, tag="1", children=True)
    time.later(2 * HOUR)
    [line] = time.collect()  # the setting retention keeps the second
    assert line.digest == str(first.digest)
    assert line.reason == "replaced: of earlier versions 1 are kept (retention)"
    assert not held(node) & blobs(image(1))
    assert blobs(image(2), image(3)) <= held(node)
    paths = {row.path for row in node.catalog.sources()}
    assert f"{APP}@{image(1).digest}" not in paths
    assert f"{APP}@{image(2).digest}" in paths


def test_what_refers_follows_its_subject(node: Node, time: Time) -> None:
    one = image(1)
    note, about_nothing = referrer_of(one.manifest, "a note"), referrer_of(image(9).manifest, "9")
    of_note = referrer_of(note[0], "a note of the note")
    for each in (note, of_note, about_nothing):
        push(node, APP, each)
    push_image(node, APP, one, tag="1")
    time.later(2 * HOUR)
    assert time.collect() == []
    for number in (2, 3):
        push_image(node, APP, image(number), tag="1")
    time.later(2 * HOUR)
    gone = {line.digest for line in time.collect()}
    assert {str(one.digest), str(note[0].digest), str(of_note[0].digest)} <= gone
    assert held(node) == {b.digest for b in about_nothing} | blobs(image(2), image(3))


def test_what_was_pushed_for_an_index_goes_with_it_however_quickly_it_is_replaced(
    node: Node, time: Time
) -> None:
    """A collection every ten minutes while a tag moves; and a note is pushed about what goes."""
    for number in range(6):
        push_image(node, APP, index_of([image(number)]), tag="1", children=True)
        time.later(HOUR / 6)
        time.collect()
    push(node, APP, referrer_of(image(0).manifest, "late"))
    for _ in range(12):
        time.later(HOUR / 6)
        time.collect()
    kept = [index_of([image(number)]) for number in (4, 5)]
    assert held(node) == {b.digest for each in kept for b in each.blobs}


@with_rules(RetentionRule(("**",), keep_last=1))
def test_a_tag_that_a_rule_takes_at_once_leaves_nothing_behind(node: Node, time: Time) -> None:
    """What it was stays for its grace time, then it goes with what was pushed for it."""
    for number in range(3):
        push_image(node, APP, index_of([image(number)]), tag=f"t{number}", children=True)
        time.later(1)
    assert time.collect() == []
    assert tags(node) == {f"{APP}:t2"}
    assert blobs(image(0), image(1), image(2)) <= held(node)
    time.later(HOUR)
    lines = time.collect()
    assert {line.reference for line in lines} == {f"{APP}:t0", f"{APP}:t1"}
    assert all(line.reason.startswith("retention rule 1 (**)") for line in lines)
    assert held(node) == blobs(image(2)) | {index_of([image(2)]).digest}


# rules


def fill(node: Node, time: Time, name: str, *names: str) -> None:
    for tag in names:
        time.later(1)
        push_image(node, name, image(f"{name}{tag}"), tag=tag)


@with_rules(
    RetentionRule(("other/**",), keep_last=0),
    RetentionRule(("team/**",), keep_last=2, keep_tags=("v*", "latest")),
    RetentionRule(("**",), keep_last=0),
)
def test_the_first_rule_that_covers_a_repository_keeps_the_newest(node: Node, time: Time) -> None:
    fill(node, time, APP, "v1", "latest", "a", "b", "c", "d")
    fill(node, time, "another", "1")
    fill(node, time, "other/app", "1")
    time.later(2 * HOUR)
    reasons = {line.reference: line.reason for line in time.collect()}
    assert tags(node) == {f"{APP}:{tag}" for tag in ("v1", "latest", "c", "d")}
    kept = "it is not among the newest 2 tags (keep_last)"
    assert reasons[f"{APP}:a"] == f"retention rule 2 (team/**): {kept}"
    assert reasons["other/app:1"].startswith("retention rule 1 (other/**)")
    assert reasons["another:1"].startswith("retention rule 3 (**)")
    assert {row.path for row in node.catalog.sources()} == tags(node)
    told = {event.reference: event.detail for event in node.catalog.events() if event.detail}
    assert told[f"{APP}:a"] == reasons[f"{APP}:a"]


@with_rules(RetentionRule(("**",), keep_last=1, older_than_seconds=10 * HOUR))
def test_by_age_and_number_only_what_is_past_both_goes(node: Node, time: Time) -> None:
    fill(node, time, APP, "a", "b")
    time.later(10 * HOUR - 1.5)
    fill(node, time, APP, "c")
    assert [line.reference for line in time.collect()] == [f"{APP}:a"]
    time.later(100 * HOUR)
    assert [line.reference for line in time.collect()] == [f"{APP}:b"]
    time.later(1e6)
    assert time.collect() == []


@with_rules(RetentionRule(("**",), keep_last=0))
def test_no_rule_takes_what_a_present_archive_or_an_import_holds(
    node: Node, time: Time, tmp_path: Path
) -> None:
    name = "registry.example/app"
    for tag in ("archive", "import", "both", "removed", "kept"):
        oci_archive(tmp_path / f"{tag}.tar", {f"{name}:{tag}": image(tag)})
        import_now(node, tmp_path / f"{tag}.tar")
    with node.catalog._transactions.begin("as watched") as db:
        db.execute("UPDATE source SET kind = 'archive' WHERE path NOT LIKE '%import.tar'")
    push_image(node, name, image("both"), tag="both")
    node.remove({str(tmp_path / "removed.tar"): "unpin", str(tmp_path / "kept.tar"): "keep"})
    time.later(2 * HOUR)
    assert [line.reference for line in time.collect()] == [f"{name}:removed"]
    assert tags(node) == {f"{name}:{tag}" for tag in ("archive", "import", "both", "kept")}


@with_rules(RetentionRule(("**",), keep_last=0, sources=("push", "import")))
def test_a_rule_takes_what_was_imported_by_hand_if_it_says_so(
    node: Node, time: Time, tmp_path: Path
) -> None:
    oci_archive(tmp_path / "a.tar", {"a.example/x:1": image(1), "a.example/y:1": image(2)})
    import_now(node, tmp_path / "a.tar")
    assert len(time.collect()) == 2
    assert node.catalog.sources() == []
    assert held(node) == set()


@with_rules(
    RetentionRule(("team/**",), generations=3), RetentionRule(("other",), untagged_seconds=5 * HOUR)
)
def test_a_rule_says_how_many_versions_stay_and_for_how_long(node: Node, time: Time) -> None:
    for number in range(5):
        time.later(1)
        for name in (APP, "other", "no/rule"):
            push_image(node, name, image(f"{name}{number}"), tag="1")
    time.later(2 * HOUR)
    lines = {line.reference: line for line in time.collect()}
    kept = {number: [len(held(node) & blobs(image(f"{name}{number}"))) for name in (APP, "other")]
            for number in range(5)}  # fmt: skip
    assert kept == {0: [0, 3], 1: [3, 3], 2: [3, 3], 3: [3, 3], 4: [3, 3]}
    assert "generations of retention rule 1 (team/**)" in lines[f"{APP}:1"].reason
    assert lines["no/rule:1"].reason.endswith("1 are kept (retention)")
    time.later(4 * HOUR)
    time.collect()
    assert not held(node) & blobs(image("other0"), image("other2"))
    assert blobs(image("other3"), image("other4")) <= held(node)


@with_rules(RetentionRule(("**",), untagged_seconds=5 * HOUR))
def test_what_no_tag_leads_to_goes_when_it_is_old(node: Node, time: Time) -> None:
    loose, tagged, child = image(1), image(2), image(3)
    note = referrer_of(loose.manifest, "1")
    for each in (loose, tagged, child):
        push_image(node, APP, each)
    push(node, APP, note)
    push_image(node, APP, tagged, tag="1")
    push_image(node, APP, index_of([child]), tag="index")
    about_nothing = referrer_of(image(9).manifest, "9")
    push(node, APP, about_nothing)
    time.later(5 * HOUR - 1)
    assert time.collect() == []
    time.later(1)
    lines = {line.digest: line for line in time.collect()}
    assert set(lines) == {str(d) for d in (loose.digest, note[0].digest, about_nothing[0].digest)}
    line = lines[str(loose.digest)]
    assert line.reference == f"{APP}@{loose.digest}"
    assert line.reason.startswith("retention rule 1 (**): no tag or index leads to it")
    assert held(node) == blobs(tagged, child) | {index_of([child]).digest}


# a collection beside others


def between(node: Node, monkeypatch: pytest.MonkeyPatch, what) -> None:
    """Do something after the mark of a collection, before its sweep."""
    condemn = node.garbage.leases.condemn

    def condemned(digests):
        if digests:
            monkeypatch.undo()
            found = condemn(digests)
            what()
            return found
        return condemn(digests)

    monkeypatch.setattr(node.garbage.leases, "condemn", condemned)


def test_what_is_reached_again_while_it_is_collected_stays(
    node: Node, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, gone = image(1), image(2), image(3)
    for each in (one, two, gone):
        push_blobs(node, APP, each.blobs)
        put(node, APP, each.manifest)
    note = referrer_of(one.manifest, "1")
    push(node, APP, note)
    with node.catalog._transactions.begin("delete") as db:
        db.execute("DELETE FROM source")
    time.later(2 * HOUR)
    answers = []

    def meanwhile() -> None:
        answers.append(node.garbage.leases.lease(two.digest))
        put(node, APP, one.manifest, tag="again")

    between(node, monkeypatch, meanwhile)
    assert str(one.digest) not in {line.digest for line in node.clean(dry_run=False)}
    assert answers == [False]  # it is said to be gone, so that it is sent again
    assert held(node) == blobs(one) | {b.digest for b in note}
    assert linked(node, APP) == held(node)
    assert node.garbage.leases.lease(two.digest)
    assert time.collect() == []


def test_what_is_asked_about_while_it_is_marked_stays(
    node: Node, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(node, APP, image(1))
    with node.catalog._transactions.begin("delete") as db:
        db.execute("DELETE FROM source")
    time.later(2 * HOUR)
    condemn = node.garbage.leases.condemn

    def asked_just_before(digests):
        monkeypatch.undo()
        assert node.garbage.leases.lease(image(1).digest)
        return condemn(digests)

    monkeypatch.setattr(node.garbage.leases, "condemn", asked_just_before)
    assert node.clean(dry_run=False) == []
    assert held(node) == blobs(image(1))
    assert linked(node, APP) == blobs(image(1))


def test_a_collection_that_is_cut_off_leaves_whole_documents_and_is_ended_by_the_next(
    node: Node, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(node, APP, index_of([image(n) for n in range(4)]), tag="1", children=True)
    monkeypatch.setattr("airside.catalog.collection._AT_ONCE", 1)
    with node.catalog._transactions.begin("delete") as db:
        db.execute("DELETE FROM source WHERE path LIKE '%:1'")
        db.execute("DELETE FROM tag")
        db.execute("DELETE FROM tag_generation")
    time.later(2 * HOUR)
    transaction, left = node.catalog._transactions.begin, [0]

    def cut(doing: str):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return transaction(doing)

    for count in range(1, 60):
        left[0] = count
        monkeypatch.setattr(node.catalog._transactions, "begin", cut)
        try:
            node.clean(dry_run=False)
        except KeyboardInterrupt:
            pass
        finally:
            monkeypatch.setattr(node.catalog._transactions, "begin", transaction)
        rows = node.catalog._readers.rows(
            "SELECT e.parent, e.child FROM edge e JOIN document d ON d.digest = e.parent"
            " WHERE e.child NOT IN (SELECT digest FROM blob)"
        )
        assert [tuple(row) for row in rows] == []
        if not node.catalog.known_blobs():
            break
    time.node.reconcile()
    assert held(node) == set()
    assert node.catalog.sources() == []
