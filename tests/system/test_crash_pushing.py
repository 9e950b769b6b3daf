"""Death and failure in the middle of a push: nothing half done is seen, and again is all right."""

import pytest

from airside.core import failpoints as faults
from airside.core.errors import AirsideError
from support.nodes import node_at, visible
from support.pushing import push_versions, versions
from support.sound import check_sound, state_of
from support.warm import run_until_killed

pytestmark = pytest.mark.system

STORE = ("ingest.after_create", "ingest.after_write", "store.after_sync", "store.after_rename")
CASES = [(point, number) for point in (*faults.PUSHING, *STORE) for number in (1, 4)] + [
    ("push.in_manifest", 5),
    ("push.after_manifest", 2),
]
TAG = "team/app:1"


@pytest.mark.parametrize(("point", "number"), CASES, ids=str)
def test_a_push_that_dies_leaves_what_was_there_and_can_be_done_again(tmp_path, point, number):
    data = tmp_path / "data"
    one, two = versions()
    run_until_killed("support.pushing", data, fault=f"{point}=kill@{number}")
    with node_at(data) as node:
        assert visible(node).get(TAG) in {None, one.digest, two.digest}
        for row in node.catalog.images():  # whatever can be pulled is whole
            _, lost = node.catalog.lookup.below(row.digest)
            assert lost == []
        push_versions(node)
        node.reconcile()
        assert visible(node) == {TAG: two.digest}
    check_sound(data, {TAG: two.digest})


def test_a_start_after_a_push_changes_nothing(tmp_path):
    data = tmp_path / "data"
    with node_at(data) as node:
        push_versions(node)
        node.reconcile()
    before = state_of(data)
    with node_at(data) as node:
        node.reconcile()
    assert state_of(data) == before


@pytest.mark.parametrize("point", [*faults.PUSHING, *STORE])
def test_a_push_that_fails_is_an_error_and_nothing_else(tmp_path, point):
    with node_at(tmp_path / "data") as node:
        action = "oserror:ENOSPC" if point in STORE else "error"
        faults.arm(f"{point}={action}")
        with pytest.raises(AirsideError):
            push_versions(node)
        assert len(node.pusher.uploads) <= 1  # a client may go on with it
        push_versions(node)
        assert visible(node) == {TAG: versions()[1].digest}
        node.pusher.uploads.close()
        node.reconcile()
    check_sound(tmp_path / "data", {TAG: versions()[1].digest})
