"""Short names of dropped images: no push, by whatever way, changes what they resolve to.

The first two fail on the code of before, where a push of `library/nginx:1` was accepted and
answered that name from then on.
"""

from urllib.parse import quote

from airside.archive.directory import stat_key
from airside.importer.importer import Job
from airside.registry.rules.names import Name
from support.images import oci_archive, random_image
from support.nodes import node_at
from support.pushing import push_blob
from support.served import served_node

DROPPED, EVIL = random_image("dropped", layers=1), random_image("evil", layers=1)
NAMES = ["docker.io/library/nginx:1", "registry.example/team/app:1", "127.0.0.1:5050/own/app:1"]
SHORT = ["nginx", "library/nginx", "team/app", "own/app"]


def drop(node, tmp_path, *names):
    """Imports an archive as the watcher does."""
    archive = tmp_path / "dropped.tar"
    oci_archive(archive, {tuple(names): DROPPED})
    key = stat_key(archive)
    settled = [(str(archive), str(key), key.size_bytes)]
    [source] = node.catalog.source_states.settle(settled, node.clock()).values()
    job = Job(source, archive)
    node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)
    return archive


def send_blobs(node, path):
    for blob in EVIL.blobs[1:]:
        push_blob(node, Name(path), blob.raw)


def put(at, path, reference, image=EVIL, query=""):
    target, manifest = f"/v2/{path}/manifests/{reference}{query}", image.manifest
    return at.ask(target, "PUT", body=manifest.raw, Content_Type=manifest.media_type)


def digest_at(at, path, tag="1", query=""):
    return at.ask(f"/v2/{path}/manifests/{tag}{query}").headers.get("Docker-Content-Digest")


def test_a_push_does_not_take_the_short_name_of_a_dropped_image(node, tmp_path):
    archive = drop(node, tmp_path, *NAMES)
    with served_node(node) as at:
        before = {path: digest_at(at, path) for path in SHORT}
        assert set(before.values()) == {str(DROPPED.digest)}
        for path in SHORT:
            send_blobs(node, path)
            for reference, query in (("1", ""), (EVIL.digest, "?tag=1"), ("2", "?tag=1")):
                refused = put(at, path, reference, query=query)
                assert (refused.status, b'"DENIED"' in refused.body) == (403, True), path
                assert b"docker.io" not in refused.body  # who may not see it learns no more
            for alias in ("docker.io", "index.docker.io"):
                assert put(at, path, "1", query=f"?ns={alias}").status == 403
            assert put(at, path, "1", DROPPED).status in {400, 403}  # not as a first step either
            assert put(at, path, EVIL.digest).status == 201  # by digest it takes nobody's name
            assert put(at, path, "mine").status == 201
            assert at.ask(f"/v2/{path}/manifests/1", "DELETE").status == 403
            for blob in DROPPED.blobs[1:]:
                source = quote("docker.io/library/nginx")
                at.ask(f"/v2/{path}/blobs/uploads/?mount={blob.digest}&from={source}", "POST")
        assert {path: digest_at(at, path) for path in SHORT} == before
        assert digest_at(at, "library/nginx", query="?ns=docker.io") == str(DROPPED.digest)
        node.remove({str(archive): "unpin"})
        assert put(at, "library/nginx", "1").status == 403  # the retained tag is served
        assert {path: digest_at(at, path) for path in SHORT} == before


def test_a_name_that_was_pushed_first_stays_the_pusher_s(node, tmp_path):
    with served_node(node) as at:
        send_blobs(node, "team/app")
        assert put(at, "team/app", "1").status == 201
        drop(node, tmp_path, *NAMES)
        assert digest_at(at, "team/app") == str(EVIL.digest)
        assert put(at, "team/app", "1").status == 201
        assert digest_at(at, "registry.example/team/app") == str(DROPPED.digest)
        assert at.ask("/v2/team/app/manifests/1", "DELETE").status == 202
        assert digest_at(at, "team/app") == str(DROPPED.digest)
        assert put(at, "team/app", "1").status == 403


def test_the_setting_push_allows_it(tmp_path):
    with node_at(tmp_path / "data", push="all") as node, served_node(node) as at:
        drop(node, tmp_path, *NAMES)
        send_blobs(node, "library/nginx")
        assert put(at, "library/nginx", "1").status == 201
        assert digest_at(at, "library/nginx") == str(EVIL.digest)
        assert digest_at(at, "library/nginx", query="?ns=docker.io") == str(DROPPED.digest)
