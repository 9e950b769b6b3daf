"""Images that pods want and nobody has, by a runtime in memory and kubelet's files."""

import http.client
import threading

import pytest

from airside.core.errors import ContainerdError
from airside.diagnostics.missing_images import MissingImages
from airside.oci.reference import parse_reference
from airside.registry.documents.recent_misses import MOST_NAMES
from support.images import docker_archive, random_image
from support.nodes import import_now, node_at
from support.served import served_node
from support.waiting import LIMIT_SECONDS

HELD, ABSENT = "registry.example/held:1", "registry.example/absent:1"


class FakeRuntime:
    """A runtime whose pods want these names; it has none of them."""

    content = None

    def __init__(self, *names):
        self.names, self.gate = frozenset(names), None

    def wanted(self):
        if self.gate is not None:
            self.gate.wait()
        if not self.names:
            raise ContainerdError("away", status="UNAVAILABLE")
        return self.names


class Content:
    """A runtime's content that has every tag."""

    def tag(self, *_):
        return object()


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    place = tmp_path_factory.mktemp("missing")
    with node_at(place / "data") as node:
        docker_archive(place / "held.tar", {HELD: random_image("held")})
        import_now(node, place / "held.tar")
        yield node.catalog


def names(view, runtimes, root):
    found = MissingImages(view, lambda: runtimes, root, patience_seconds=LIMIT_SECONDS)
    found = found.report()["items"]
    return [(each["reference"], each["because"]) for each in found]


def test_a_wanted_name_that_nobody_has_is_missing(view, tmp_path):
    runtime = FakeRuntime(HELD, ABSENT, "sha256:" + "0" * 64, "0123abcd")
    assert names(view, [runtime], tmp_path) == [(ABSENT, "pod")]


def test_what_the_runtime_has_itself_is_not_missing(view, tmp_path):
    runtime = FakeRuntime(HELD, ABSENT)
    runtime.content = Content()
    assert names(view, [runtime], tmp_path) == []


def test_a_runtime_that_is_away_wants_nothing(view, tmp_path):
    assert names(view, [FakeRuntime(), FakeRuntime(HELD, ABSENT)], tmp_path) == [(ABSENT, "pod")]
    assert names(view, [], tmp_path) == []


def test_a_runtime_that_hangs_does_not_make_the_report_wait_for_it(view, tmp_path):
    runtime = FakeRuntime(HELD, ABSENT)
    runtime.gate = threading.Event()
    missing = MissingImages(view, lambda: [runtime], tmp_path)
    try:
        assert missing.report() == {"count": 0, "items": []}
        assert missing.report()["count"] == 0  # one thread asks, whoever reports
        assert [t.name for t in threading.enumerate()].count("missing-images") == 1
    finally:
        runtime.gate.set()
    for thread in threading.enumerate():
        if thread.name == "missing-images":
            thread.join()
    assert missing.report() == {
        "count": 1,
        "items": [{"reference": ABSENT, "because": "pod"}],
    }


@pytest.mark.parametrize(("directory", "expected"), [("etc", []), ("var/lib/kubelet", ["pod"])])
def test_the_sandbox_image_is_wanted_where_a_kubelet_is(view, tmp_path, directory, expected):
    (tmp_path / directory).mkdir(parents=True)
    found = names(view, [FakeRuntime("registry.k8s.io/pause:3.6")], tmp_path)
    assert [because for _, because in found] == expected


def test_what_containerd_asked_for_counts_where_kubelet_keeps_no_records(view, tmp_path):
    asked = [parse_reference(name) for name in (HELD, ABSENT)]

    def found():
        missing = MissingImages(
            view, lambda: [FakeRuntime("a:1")], tmp_path, asked=lambda: asked, patience_seconds=9
        )
        return [each["because"] for each in missing.report()["items"]]

    assert found() == ["pod"]  # no kubelet: somebody tried something
    (tmp_path / "var/lib/kubelet").mkdir(parents=True)
    assert sorted(found()) == ["asked", "pod"]
    (tmp_path / "var/lib/kubelet/image_manager/pulled").mkdir(parents=True)
    (tmp_path / "var/lib/kubelet/image_manager/pulling").mkdir()
    assert found() == ["pod"]


def test_the_registry_notes_what_containerd_asked_for_in_vain(tmp_path):
    with node_at(tmp_path / "data") as node, served_node(node) as served:

        def head(target, agent="containerd/v1.7.2", method="HEAD"):
            connection = http.client.HTTPConnection(served.address, timeout=LIMIT_SECONDS)
            connection.request(method, target, headers={"User-Agent": agent})
            connection.getresponse().read()
            connection.close()

        wanted = "/v2/library/app/manifests/1?ns=docker.io"
        head(wanted, agent="skopeo/1.9")
        head(wanted, method="GET")
        head("/v2/library/app/tags/list?ns=docker.io")
        assert node.misses.names() == ()
        head(wanted)
        head("/v2/team/app/manifests/2?ns=registry.example")
        told = [str(name) for name in node.misses.names()]
        assert told == ["docker.io/library/app:1", "registry.example/team/app:2"]
        docker_archive(tmp_path / "app.tar", {"app:1": random_image("app")})
        import_now(node, tmp_path / "app.tar")
        head(wanted)
        assert [str(name) for name in node.misses.names()] == told[1:]
        for n in range(2 * MOST_NAMES):
            head(f"/v2/library/many{n}/manifests/1?ns=docker.io")
        assert len(node.misses.names()) == MOST_NAMES
