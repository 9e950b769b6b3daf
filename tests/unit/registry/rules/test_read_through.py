import itertools
import json

import pytest

from airside.core.errors import ContainerdError
from airside.oci.model import Document, parse_document
from airside.oci.reference import Repository
from airside.ports.content import Connection
from airside.registry.rules.answers import Answer
from airside.registry.rules.lookup import answer
from airside.registry.rules.read_through import ReadThrough, RuntimeLookup
from airside.registry.rules.requests import GetBlob, GetManifest, parse_request
from support.images import TestImage, random_image
from support.memory import MemoryView
from support.runtimes import Held, MemoryRuntime

CONNECTION = Connection(("127.0.0.1", 40_000), ("127.0.0.1", 5050))
IMAGE, OURS = random_image("runtime"), random_image("ours")
HUB = "docker.io/library/app"


def runtime_of(*names: str, image: TestImage = IMAGE) -> MemoryRuntime:
    held = Held()
    for blob in image.blobs:
        held.add(blob.raw)
    held.images = dict.fromkeys(names, image.digest)
    return MemoryRuntime(held)


def ask(target, *runtimes, view=None, policy="true", connection=CONNECTION, opened=None):
    """The answer to a GET, or of a blob its size; 404 for one that is not there."""
    view = view or MemoryView()
    intent = parse_request("GET", target)
    opened = opened or {}
    through = RuntimeLookup(
        view,
        ReadThrough(lambda: runtimes, policy, lambda where: opened.get(str(where), frozenset())),
        "docker.io",
    )
    if isinstance(intent, GetBlob):
        found = through.blob(intent, connection)
        return found.size_bytes if found is not None else 404
    own = answer(view, intent, "docker.io")
    assert isinstance(intent, GetManifest)
    return through.manifest(intent, connection, own) if own.status == 404 else own


def said(answer: Answer) -> tuple[int, str, str]:
    [error] = json.loads(answer.body)["errors"]
    return answer.status, error["code"], error["message"]


def document(image: TestImage) -> Document:
    return parse_document(image.manifest.raw, image.manifest.media_type, "test")


@pytest.mark.parametrize(
    "target",
    [
        "/v2/library/app/manifests/1?ns=docker.io",
        "/v2/app/manifests/1?ns=docker.io",
        "/v2/app/manifests/1",
        "/v2/library/app/manifests/1",
        "/v2/docker.io/library/app/manifests/1",
        f"/v2/app/manifests/{IMAGE.digest}",
    ],
)
def test_an_image_of_a_runtime_is_served_under_the_names_that_an_own_one_has(target):
    found = ask(target, runtime_of(f"{HUB}:1"))
    assert (found.status, found.body, found.etag) == (200, IMAGE.manifest.raw, str(IMAGE.digest))
    assert dict(found.headers)["Docker-Content-Digest"] == str(IMAGE.digest)
    assert ("Cache-Control" in dict(found.headers)) == ("sha256" in target)


def test_a_host_with_a_port_is_asked_for_by_both_of_its_spellings():
    runtime = runtime_of("registry.example:5000/team/app:1")
    for target in (
        "/v2/team/app/manifests/1?ns=registry.example:5000",
        "/v2/registry.example_5000/team/app/manifests/1",
    ):
        assert ask(target, runtime).status == 200
    for target in ("/v2/team/app/manifests/1", "/v2/team/app/manifests/1?ns=docker.io"):
        assert ask(target, runtime).status == 404


def test_a_mirror_is_asked_for_one_registry_and_answers_for_no_other():
    runtime = runtime_of(f"{HUB}:1")
    assert ask("/v2/library/app/manifests/1?ns=quay.io", runtime).status == 404
    assert ask(f"/v2/library/app/blobs/{IMAGE.config.digest}?ns=quay.io", runtime) == 404
    size = IMAGE.config.size_bytes
    assert ask(f"/v2/library/app/blobs/{IMAGE.config.digest}?ns=docker.io", runtime) == size


def test_the_catalog_goes_first():
    view = MemoryView()
    view.put(Repository("docker.io", "library/app"), document(OURS), "1")
    runtime = runtime_of(f"{HUB}:1", f"{HUB}:2")
    assert ask("/v2/app/manifests/1", runtime, view=view).body == OURS.manifest.raw
    assert runtime.questions == 0
    assert ask("/v2/app/manifests/2", runtime, view=view).body == IMAGE.manifest.raw


def test_a_runtime_is_not_told_where_a_tag_points_by_what_it_holds_itself():
    runtime = runtime_of(f"{HUB}:1")
    runtime.asking = True
    status, code, message = said(ask("/v2/app/manifests/1?ns=docker.io", runtime))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert "only the container runtime that asks has it" in message
    assert ask(f"/v2/app/manifests/{IMAGE.digest}?ns=docker.io", runtime).status == 200
    assert ask("/v2/app/manifests/1", runtime, connection=None, policy="true").status == 404
    assert ask("/v2/app/manifests/1?ns=docker.io", runtime, policy="self").status == 200
    assert ask("/v2/app/manifests/1", runtime, connection=None, policy="self").status == 200


def test_another_runtime_tells_it_though():
    first, second = runtime_of(f"{HUB}:1"), runtime_of(f"{HUB}:1", image=OURS)
    first.asking = True
    found = ask("/v2/app/manifests/1?ns=docker.io", first, second)
    assert (found.status, found.body) == (200, OURS.manifest.raw)


@pytest.mark.parametrize(
    ("policy", "by_tag", "by_digest"),
    [("true", 200, 200), ("self", 200, 200), ("digests", 404, 200), ("false", 404, 404)],
)
def test_the_policy_says_what_is_read_through(policy, by_tag, by_digest):
    runtime = runtime_of(f"{HUB}:1")
    assert ask("/v2/app/manifests/1", runtime, policy=policy).status == by_tag
    assert ask(f"/v2/app/manifests/{IMAGE.digest}", runtime, policy=policy).status == by_digest
    layer = IMAGE.layers[0]
    found = ask(f"/v2/app/blobs/{layer.digest}", runtime, policy=policy)
    assert found == (layer.size_bytes if by_digest == 200 else 404)


def test_a_tag_without_its_layers_is_not_served_and_the_404_says_which_is_missing():
    runtime = runtime_of(f"{HUB}:1")
    lost = IMAGE.layers[1].digest
    runtime.held.drop(lost)
    status, code, message = said(ask("/v2/app/manifests/1", runtime))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert str(lost) in message
    assert ask(f"/v2/app/manifests/{IMAGE.digest}", runtime).status == 200
    assert ask(f"/v2/app/blobs/{lost}", runtime) == 404
    whole = runtime_of(f"{HUB}:1")
    assert ask("/v2/app/manifests/1", runtime, whole).status == 200


def test_what_is_in_quarantine_is_not_served_nor_a_tag_that_needs_it():
    view, runtime = MemoryView(), runtime_of(f"{HUB}:1")
    wrong = IMAGE.layers[0]
    view.quarantine(wrong.digest)
    assert ask(f"/v2/app/blobs/{wrong.digest}", runtime, view=view) == 404
    status, code, message = said(ask("/v2/app/manifests/1", runtime, view=view))
    assert (status, code) == (404, "MANIFEST_UNKNOWN")
    assert "wrong" in message
    config = IMAGE.config
    assert ask(f"/v2/app/blobs/{config.digest}", runtime, view=view) == config.size_bytes
    view.quarantine(IMAGE.digest)
    assert ask(f"/v2/app/manifests/{IMAGE.digest}", runtime, view=view).status == 404


def test_a_runtime_that_is_away_has_nothing_and_the_others_are_asked():
    away, runtime = runtime_of(f"{HUB}:1"), runtime_of(f"{HUB}:1")
    away.error = ContainerdError("away", status="UNAVAILABLE")
    assert said(ask("/v2/app/manifests/1", away))[:2] == (404, "NAME_UNKNOWN")
    assert ask("/v2/app/manifests/1", away, runtime).status == 200
    layer = IMAGE.layers[0]
    assert ask(f"/v2/app/blobs/{layer.digest}", away, runtime) == layer.size_bytes


def test_what_is_no_tag_is_not_asked_for():
    runtime = runtime_of(f"{HUB}:1")
    assert ask("/v2/app/manifests/.INVALID", runtime).status == 404
    assert runtime.questions == 0


PRIVATE = random_image("private")


def test_by_default_nothing_is_served_that_no_record_calls_open():
    runtime = runtime_of(f"{HUB}:1")
    for target in ("manifests/1", f"manifests/{IMAGE.digest}", f"blobs/{IMAGE.layers[0].digest}"):
        found = ask(f"/v2/library/app/{target}", runtime, policy="open")
        assert found == 404 or found.status == 404
    assert runtime.questions == 0
    assert ReadThrough().policy == "open"


def test_what_came_without_a_secret_is_served_to_others_alone():
    """By image ID, as containerd's CRI tells kubelet; the other image of the repository is not."""
    runtime = runtime_of(f"{HUB}:open")
    for blob in PRIVATE.blobs:
        label = {"containerd.io/distribution.source.docker.io": "library/app"}
        runtime.held.add(blob.raw, label)
    runtime.held.images[f"{HUB}:private"] = PRIVATE.digest
    for recorded in (IMAGE.config.digest, IMAGE.digest):
        opened = {HUB: frozenset({recorded})}
        for is_holder, shown in ((False, True), (True, False)):
            runtime.asking = is_holder
            for image, tag, expected in ((IMAGE, "open", shown), (PRIVATE, "private", False)):
                targets = [f"manifests/{tag}", f"manifests/{image.digest}"]
                targets += [f"blobs/{blob.digest}" for blob in image.blobs]
                for target, query in itertools.product(targets, ("", "?ns=docker.io")):
                    answer = ask(
                        f"/v2/library/app/{target}{query}", runtime, policy="open", opened=opened
                    )
                    is_shown = answer != 404 and getattr(answer, "status", 200) == 200
                    assert is_shown == expected, (target, is_holder)
        runtime.asking = False
        found = ask("/v2/library/app/manifests/open", runtime, policy="open", opened={})
        assert found.status == 404
        elsewhere = {"docker.io/library/other": frozenset({recorded})}
        found = ask("/v2/library/app/manifests/open", runtime, policy="open", opened=elsewhere)
        assert found.status == 404


def test_who_is_not_known_counts_as_the_runtime_itself():
    runtime, opened = runtime_of(f"{HUB}:1"), {HUB: frozenset({IMAGE.digest})}
    for target in ("manifests/1", f"manifests/{IMAGE.digest}", f"blobs/{IMAGE.config.digest}"):
        found = ask(f"/v2/app/{target}", runtime, policy="open", opened=opened, connection=None)
        assert found == 404 or found.status == 404
