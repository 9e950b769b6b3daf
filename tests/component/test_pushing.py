"""What pushes and deletions do to store and catalog."""

import threading

import pytest

from airside.archive.directory import stat_key
from airside.core.errors import (
    ConflictError,
    DeniedError,
    DigestMismatchError,
    ManifestInvalidError,
    MissingBlobError,
    NotFoundError,
    ReferenceInvalidError,
    SizeMismatchError,
    StorageFullError,
    SwitchedOffError,
    TooLargeError,
    TooManyError,
    UploadUnknownError,
)
from airside.core.settings import Limits
from airside.importer.importer import Job
from airside.oci.digest import parse_digest
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from airside.oci.reference import Repository
from airside.registry.push.uploads import PushedManifest, Uploads
from airside.registry.rules.names import Name, any_repository
from airside.store.index_json import render_index
from support import hostile_archives as hostile
from support.connected import HeldBlobs, connect_content
from support.images import (
    TestBlob,
    compact,
    index_of,
    oci_archive,
    random_image,
    random_index,
    sha256,
)
from support.nodes import import_now, node_at, visible, wrong_blobs
from support.pushing import ORIGIN, push_blob, push_image, push_manifest

OWN = Name("team/app")
HUB = Name("library/app", "docker.io")
OWN_TAG, HUB_TAG = "team/app:1", "docker.io/library/app:1"


@pytest.fixture
def node(tmp_path):
    with node_at(tmp_path / "data", push="all", delete="all", read_through="true") as node:
        yield node


def shown(node, reference):
    return {r.reference: r for r in node.catalog.images()}[reference]


# A push


def test_a_pushed_tag_is_an_image_like_any_other(node):
    index = random_index("pushed")
    push_image(node, OWN, index, "1")
    row = shown(node, OWN_TAG)
    assert row.digest == str(index.digest)
    assert (row.source, row.origin, row.archives) == ("push", ORIGIN, ())
    assert row.platforms == ("linux/amd64", "linux/arm64")
    assert [r.reference for r in node.catalog.images()] == [OWN_TAG]
    assert [v.digest for v in node.catalog.generations()[row.name]] == [row.digest]
    assert {e.kind for e in node.catalog.events()} >= {"pushed", "tag-added"}
    assert wrong_blobs(node) == []


def test_pushing_the_same_again_changes_nothing_that_is_served(node):
    image = random_image("same")
    push_image(node, OWN, image, "1")
    before = set(node.store.digests())
    push_image(node, OWN, image, "1")
    assert set(node.store.digests()) == before
    assert visible(node) == {OWN_TAG: image.digest}
    assert len(node.catalog.generations()[Repository("", "team/app"), "1"]) == 1


def test_a_push_is_followed_byte_for_byte_whatever_archives_bring(node, tmp_path):
    arm, amd = (random_image(p, platform=f"linux/{p}") for p in ("arm64", "amd64"))
    oci_archive(tmp_path / "arm.tar", {"app:1": arm})
    import_now(node, tmp_path / "arm.tar")
    push_image(node, HUB, amd, "1")
    assert visible(node) == {HUB_TAG: amd.digest}  # not merged with what was there before
    newer = random_image("newer", platform="linux/s390x")
    oci_archive(tmp_path / "newer.tar", {"app:1": newer})
    import_now(node, tmp_path / "newer.tar")
    assert {p.platform: p.digest for p in shown(node, HUB_TAG).parts} == {
        "linux/amd64": str(amd.digest),
        "linux/s390x": str(newer.digest),
    }


def test_an_archive_that_is_removed_leaves_the_push(node, tmp_path):
    pushed, dropped = random_image("pushed"), random_image("dropped")
    push_image(node, HUB, pushed, "1")
    path = tmp_path / "dropped.tar"
    oci_archive(path, {"app:1": dropped})
    ids = node.catalog.source_states.settle([(str(path), "1:1:1:1", 1)], node.clock())
    node.imports.run(Job(ids[str(path)], path), stop=lambda: False, progress=lambda _d, _a: None)
    assert visible(node) == {HUB_TAG: dropped.digest}
    node.remove({str(path): "unpin"})
    assert visible(node) == {HUB_TAG: pushed.digest}


def test_earlier_versions_are_kept_and_a_tag_can_go_back(node):
    one, two = random_image(1), random_image(2)
    push_image(node, OWN, one, "1")
    push_image(node, OWN, two, "1")
    node.collect_garbage()
    node.roll_back(Repository("", "team/app"), "1")
    assert visible(node) == {OWN_TAG: one.digest}
    push_image(node, OWN, two, "1")
    assert visible(node) == {OWN_TAG: two.digest}


def test_many_tags_at_once(node):
    image = random_image("tags")
    push_image(node, OWN, image)
    push_manifest(node, OWN, image.manifest, image.digest, "a", "b")
    assert visible(node) == {"team/app:a": image.digest, "team/app:b": image.digest}


def test_a_manifest_needs_what_it_lists(node):
    image = random_image("lacks")
    for blob in image.blobs[1:-1]:
        push_blob(node, OWN, blob.raw)
    with pytest.raises(MissingBlobError) as error:
        push_manifest(node, OWN, image.manifest, "1")
    assert error.value.context["blob"] == str(image.layers[-1].digest)
    assert visible(node) == {}
    assert not node.store.stat(image.digest)
    push_blob(node, OWN, image.layers[-1].raw)
    push_manifest(node, OWN, image.manifest, "1")
    assert visible(node) == {OWN_TAG: image.digest}


def test_sizes_must_be_those_of_the_blobs(node):
    image = random_image("size", layers=1)
    for blob in image.blobs[1:]:
        push_blob(node, OWN, blob.raw)
    wrong = image.manifest.raw.replace(
        f'"size":{image.config.size_bytes}'.encode(),
        f'"size":{image.config.size_bytes + 1}'.encode(),
    )
    with pytest.raises(SizeMismatchError):
        push_manifest(node, OWN, TestBlob(wrong, OCI_MANIFEST), "1")


def test_sparse_images_are_taken_where_the_setting_says_so(tmp_path):
    index = random_index("sparse")
    with node_at(tmp_path / "data", push_sparse=True) as node:
        push_manifest(node, OWN, index.index, "1")
        push_manifest(node, OWN, index.images[0].manifest, "2")
        assert set(visible(node)) == {OWN_TAG, "team/app:2"}


def test_bytes_of_another_repository_are_not_had_by_naming_them(node):
    secret = random_image("secret")
    push_image(node, Name("secret"), secret, "1")
    thief = Repository("", "thief")
    with pytest.raises(MissingBlobError):
        push_manifest(node, Name("thief"), secret.manifest, "1")
    sparse = index_of([secret])
    with pytest.raises(MissingBlobError):
        push_manifest(node, Name("thief"), sparse.index, "1")
    assert not any(node.catalog.holds_blob(thief, blob.digest) for blob in secret.blobs)


def test_a_sparse_index_gives_nothing_of_others(tmp_path):
    secret = random_image("secret")
    with node_at(tmp_path / "data", push_sparse=True) as node:
        push_image(node, Name("secret"), secret, "1")
        push_manifest(node, Name("thief"), index_of([secret]).index, "1")
        held = [node.catalog.holds_blob(Repository("", "thief"), b.digest) for b in secret.blobs]
        assert not any(held)


def test_what_can_be_read_by_the_name_need_not_be_sent(node, tmp_path):
    image = random_image("dropped")
    oci_archive(tmp_path / "app.tar", {"app:1": image})
    import_now(node, tmp_path / "app.tar")
    push_manifest(node, Name("app"), image.manifest, "again")  # /v2/app reads docker.io's
    assert visible(node)["app:again"] == image.digest
    assert node.catalog.holds_blob(Repository("", "app"), image.layers[0].digest)


def test_what_its_sender_may_not_pull_is_nothing_that_a_manifest_can_refer_to(node, tmp_path):
    image, other = random_image("dropped"), random_image("runtime")
    oci_archive(tmp_path / "app.tar", {"app:1": image})
    import_now(node, tmp_path / "app.tar")
    held = {blob.digest: blob.raw for blob in other.blobs[1:]}
    connect_content(node, HeldBlobs({Repository("docker.io", "library/app"): held}))
    may = {Repository("", "app")}.__contains__
    for each in (image, other):
        pushed = PushedManifest(each.manifest.raw, each.manifest.media_type, "again", ())
        with pytest.raises(MissingBlobError):
            node.pusher.push(Name("app"), pushed, ORIGIN, may)
        assert not node.catalog.holds_blob(Repository("", "app"), each.layers[0].digest)
    digest = other.layers[0].digest
    assert not node.pusher.mount(Name("mine"), digest, Name("app"), may)
    assert node.pusher.mount(Name("mine"), digest, Name("app"), lambda _repository: True)


def test_by_default_a_push_takes_nothing_from_a_runtime_that_may_have_needed_a_secret(tmp_path):
    image, hub = random_image("private"), Repository("docker.io", "team/app")
    held = HeldBlobs({hub: {blob.digest: blob.raw for blob in image.blobs[1:]}})
    with node_at(tmp_path / "data", push="all") as node:
        connect_content(node, held)
        for name in (OWN, Name("team/app", "docker.io")):
            with pytest.raises(MissingBlobError):
                push_manifest(node, name, image.manifest, "1")
            assert not node.pusher.mount(name, image.layers[0].digest, name, any_repository)


def test_what_only_a_runtime_holds_is_taken_from_it(node):
    image = random_image("runtime")
    hub, held = Repository("docker.io", "team/app"), HeldBlobs()
    held.blobs[hub] = {blob.digest: blob.raw for blob in image.blobs[1:]}
    connect_content(node, held)
    push_manifest(node, OWN, image.manifest, "1")
    assert visible(node) == {OWN_TAG: image.digest}
    assert wrong_blobs(node) == []
    damaged = random_image("damaged", layers=1)
    held.blobs[hub] = {blob.digest: b"x" + blob.raw[1:] for blob in damaged.blobs[1:]}
    with pytest.raises(DigestMismatchError):
        push_manifest(node, OWN, damaged.manifest, "2")
    assert list((node.settings.data / "ingest").iterdir()) == []


@pytest.mark.parametrize(
    ("raw", "media_type", "error"),
    [
        (b"{", OCI_MANIFEST, ManifestInvalidError),
        (b"[]", "", ManifestInvalidError),
        (compact({"schemaVersion": 1}), OCI_MANIFEST, ManifestInvalidError),
        (compact({"schemaVersion": 2, "manifests": []}), OCI_MANIFEST, ManifestInvalidError),
        (compact({"schemaVersion": 2, "mediaType": OCI_INDEX}), OCI_MANIFEST, ManifestInvalidError),
        (compact({"schemaVersion": 2}), "application/x-unknown", ManifestInvalidError),
    ],
)
def test_what_is_no_manifest_is_refused(node, raw, media_type, error):
    with pytest.raises(error):
        push_manifest(node, OWN, TestBlob(raw, media_type), "1")


def test_a_manifest_is_what_its_digest_says(node):
    image = random_image("digest")
    push_image(node, OWN, image)
    with pytest.raises(DigestMismatchError):
        push_manifest(node, OWN, TestBlob(image.manifest.raw + b" ", OCI_MANIFEST), image.digest)
    with pytest.raises(ReferenceInvalidError):
        push_manifest(node, OWN, image.manifest, image.digest, "no tag")


@pytest.mark.parametrize("policy", ["own", "none"])
def test_what_may_be_pushed_and_deleted_is_set(tmp_path, policy):
    with node_at(tmp_path / "data", push="all") as node:
        push_image(node, HUB, random_image("hub"), "1")
    with node_at(tmp_path / "data", push=policy, delete=policy) as node:
        with pytest.raises(DeniedError):
            node.pusher.begin(HUB)
        with pytest.raises(DeniedError):
            node.pusher.delete_tag(HUB, "1", ORIGIN)
        if policy == "own":
            push_image(node, OWN, random_image("own"), "1")
            node.pusher.delete_tag(OWN, "1", ORIGIN)
            with pytest.raises(NotFoundError):  # whatever may be deleted
                node.pusher.delete_tag(HUB, "2", ORIGIN)
            return
        with pytest.raises(SwitchedOffError):
            node.pusher.begin(OWN)


def test_a_name_is_no_longer_than_one_that_can_be_read_back(node):
    with pytest.raises(ReferenceInvalidError):
        node.pusher.begin(Name("a" * 250, "docker.io"))
    with pytest.raises(ReferenceInvalidError):
        push_manifest(node, Name("a" * 250, "a.b.c"), random_image("long").manifest, "1")
    assert node.pusher.begin(Name("a" * 250)).repository == Repository("", "a" * 250)
    node.pusher.uploads.close()


def test_what_only_looks_like_a_host_is_a_path(node):
    """`a_:5000` and `a.b_c` are no hosts: such a name could not be read back."""
    for text in ("a__5000/x", "a.b_c/x"):
        assert node.pusher.begin(Name(text)).repository == Repository("", text)
    node.pusher.uploads.close()


# Mounts


def test_a_blob_is_mounted_from_where_the_client_may_read(node):
    raw = b"a layer"
    digest = push_blob(node, Name("one"), raw)
    allowed = {Repository("", "one")}
    may = allowed.__contains__
    assert node.pusher.mount(Name("two"), digest, Name("one"), may)
    assert node.pusher.mount(Name("three"), digest, None, may)
    assert not node.pusher.mount(Name("four"), digest, Name("two"), may)
    allowed.clear()
    assert not node.pusher.mount(Name("five"), digest, None, may)
    assert not node.pusher.mount(Name("six"), sha256(b"absent"), None, lambda _r: True)
    holders = [
        n
        for n in ("two", "three", "four", "five")
        if node.catalog.holds_blob(Repository("", n), digest)
    ]
    assert holders == ["two", "three"]


# Uploads


def uploads(node, **changes):
    values = {"max_uploads": 2, "max_client_uploads": 1, "max_bytes": 10, "idle_seconds": 5.0}
    values |= changes
    return Uploads(node.store, **values)


def test_uploads_are_bounded_in_number_size_and_age(node):
    now = [0.0]
    found = uploads(node, clock=lambda: now[0])
    where = Repository("", "x")
    first, second = found.start(where), found.start(where)
    found.claim(first)
    found.claim(second)
    with pytest.raises(TooManyError):
        found.start(where)
    found.release(first)
    found.release(second)
    first.write([b"0123456789"])
    with pytest.raises(TooLargeError):
        first.write([b"a"])
    assert first.offset == 10
    now[0] = 4.0
    found.claim(second)
    found.release(second)
    now[0] = 6.0
    assert found.sweep() == 1
    with pytest.raises(UploadUnknownError):
        found.get(first.id, where)
    with pytest.raises(UploadUnknownError):
        first.write([b"a"])
    assert found.get(second.id, where) is second
    with pytest.raises(UploadUnknownError):
        found.get(second.id, Repository("", "other"))
    found.close()
    assert len(found) == 0
    assert list((node.settings.data / "ingest").iterdir()) == []


def test_an_upload_that_nobody_writes_to_gives_its_place_to_the_next(node):
    """The least recently used; one with bytes only after a while."""
    now = [0.0]
    found = uploads(node, clock=lambda: now[0])
    where = Repository("", "x")
    full = found.start(where)
    full.write([b"0123"])
    now[0] = 1.0
    empty = found.start(where)
    third = found.start(where)
    with pytest.raises(UploadUnknownError):
        found.get(empty.id, where)
    found.claim(third)
    with pytest.raises(TooManyError):
        found.start(where)
    now[0] = 2.0
    found.start(where)
    with pytest.raises(UploadUnknownError):
        found.get(full.id, where)
    assert found.get(third.id, where) is third
    found.close()


def test_a_client_at_its_share_leaves_places_to_others(node):
    found = uploads(node)
    where = Repository("", "x")
    found.claim(found.start(where, client="192.0.2.1"))
    with pytest.raises(TooManyError, match="client_uploads"):
        found.start(where, client="192.0.2.1")
    found.start(where, client="192.0.2.2")
    found.close()


def test_an_upload_without_room_ends_and_idle_ones_go_before_it(node, monkeypatch):
    now, size = [0.0], 64 * 4096
    found = uploads(node, clock=lambda: now[0], max_uploads=9, max_bytes=1 << 30)
    ingest = node.settings.data / "ingest"

    def free(_path):
        return size - sum(file.stat().st_blocks * 512 for file in ingest.iterdir())

    monkeypatch.setattr("airside.core.disk_space._AMPLE_BYTES", 1 << 60)
    monkeypatch.setattr("airside.core.disk_space.free_bytes", free)
    where, piece = Repository("", "x"), bytes(24 * 4096)
    oldest, older, new = (found.start(where) for _ in range(3))
    for upload, at in ((oldest, 1.0), (older, 2.0)):
        found.claim(upload)
        found.write(upload, [piece])
        now[0] = at
        found.release(upload)
    now[0] = 10.0
    found.claim(new)
    found.write(new, [piece])
    with pytest.raises(UploadUnknownError):
        found.get(oldest.id, where)
    assert found.get(older.id, where) is older
    found.claim(older)
    with pytest.raises(StorageFullError):
        found.write(new, [piece])
    with pytest.raises(UploadUnknownError):
        found.get(new.id, where)
    assert len(list(ingest.iterdir())) == 1
    found.close()


def test_an_upload_whose_request_stalls_gives_way_too(node):
    now = [0.0]
    found = uploads(node, clock=lambda: now[0], max_uploads=1)
    where = Repository("", "x")
    slow = found.start(where)
    found.claim(slow)
    found.write(slow, [b"a"])
    now[0] = 29.0
    with pytest.raises(TooManyError):
        found.start(where)
    now[0] = 30.0
    found.start(where)
    with pytest.raises(UploadUnknownError):
        found.write(slow, [b"b"])
    found.close()


def test_a_declared_length_that_does_not_fit_ends_the_upload_before_its_bytes(node, monkeypatch):
    monkeypatch.setattr("airside.core.disk_space._AMPLE_BYTES", 1 << 60)
    monkeypatch.setattr("airside.core.disk_space.free_bytes", lambda _: 1 << 20)
    upload = node.pusher.begin(OWN)
    with pytest.raises(StorageFullError):
        node.pusher.expect(upload, 1 << 21)
    upload = node.pusher.begin(OWN)
    with pytest.raises(TooLargeError):
        node.pusher.expect(upload, 1 << 60)
    assert list((node.settings.data / "ingest").iterdir()) == []


def test_one_request_at_a_time_writes_to_an_upload(node):
    found = uploads(node)
    upload = found.start(Repository("", "x"))
    found.claim(upload)
    with pytest.raises(ConflictError):
        found.claim(upload)
    assert found.sweep() == 0
    found.release(upload)
    found.claim(upload)
    found.cancel(upload)


def test_a_wrong_digest_keeps_nothing(node):
    upload = node.pusher.begin(OWN)
    upload.write([b"bytes"])
    with pytest.raises(DigestMismatchError):
        node.pusher.finish(upload, sha256(b"other bytes"))
    assert list((node.settings.data / "ingest").iterdir()) == []
    assert list(node.store.digests()) == []


def test_the_algorithm_may_become_known_at_the_end(node):
    digest = parse_digest(
        "sha512:4dff4ea340f0a823f15d3f4f01ab62eae0e5da579ccb851f8db9dfe84c58b2b37b89903a740e1ee172da793a6e79d560e5f7f9bd058a12a280433ed6fa46510a"
    )
    upload = node.pusher.begin(OWN)
    upload.write([b"a"])
    with pytest.raises(DigestMismatchError):
        node.pusher.finish(upload, digest)
    right = parse_digest(
        "sha512:1f40fc92da241694750979ee6cf582f2d5d7d28e18335de05abc54d0560e0f5302860c652bf08d560252aa5e74210546f369fbbbce8c12cfc7957b2652fe9a75"
    )
    upload = node.pusher.begin(OWN)
    upload.write([b"a"])
    node.pusher.finish(upload, right)
    assert node.store.stat(right) == 1
    assert node.store.hash_blob(right) == right


# Deletions


def test_a_deleted_tag_leaves_its_manifest_for_a_while(node):
    image = random_image("gone")
    push_image(node, OWN, image, "1", "2")
    node.pusher.delete_tag(OWN, "1", ORIGIN)
    assert visible(node) == {"team/app:2": image.digest}
    node.pusher.delete_tag(OWN, "2", ORIGIN)
    assert visible(node) == {}
    where = Repository("", "team/app")
    assert node.catalog.document_by_digest(where, image.digest) is not None
    with pytest.raises(NotFoundError):
        node.pusher.delete_tag(OWN, "2", ORIGIN)
    assert [e.detail for e in node.catalog.events() if e.kind == "deleted"] == [ORIGIN, ORIGIN]


def test_a_deleted_manifest_goes_with_its_tags(node):
    one, two = random_image(1), random_image(2)
    push_image(node, OWN, one, "1", "2")
    push_image(node, OWN, two, "2")
    node.pusher.delete_manifest(OWN, one.digest, ORIGIN)
    assert visible(node) == {"team/app:2": two.digest}
    where = Repository("", "team/app")
    assert node.catalog.document_by_digest(where, one.digest) is None
    with pytest.raises(NotFoundError):
        node.roll_back(where, "2")  # to what was deleted
    push_image(node, OWN, one, "1")
    assert visible(node)["team/app:1"] == one.digest


def test_a_deleted_index_goes_with_what_was_pushed_for_it(tmp_path):
    one, other = random_index("one"), random_image("other")
    both = index_of([one.images[0], other])
    with node_at(tmp_path / "data", grace_seconds=0.0) as node:
        push_image(node, OWN, one, "1")
        push_image(node, OWN, both, "2")
        node.pusher.delete_manifest(OWN, one.digest, ORIGIN)
        node.collect_garbage()
        where = Repository("", "team/app")
        held = [node.catalog.holds_blob(where, image.digest) for image in one.images]
        assert held == [True, False]
        node.pusher.delete_manifest(OWN, both.digest, ORIGIN)
        node.collect_garbage()
        assert list(node.store.digests()) == []


def test_a_blob_in_use_stays(node):
    image = random_image("used")
    push_image(node, OWN, image, "1")
    layer = image.layers[0].digest
    with pytest.raises(ConflictError):
        node.pusher.delete_blob(OWN, layer, ORIGIN)
    with pytest.raises(ConflictError):
        node.pusher.delete_blob(OWN, image.digest, ORIGIN)
    node.pusher.delete_manifest(OWN, image.digest, ORIGIN)
    node.pusher.delete_blob(OWN, layer, ORIGIN)
    assert not node.catalog.holds_blob(Repository("", "team/app"), layer)
    with pytest.raises(NotFoundError):
        node.pusher.delete_blob(OWN, layer, ORIGIN)


def test_what_was_deleted_of_an_archive_comes_back_only_by_a_new_drop(node, tmp_path):
    one, other = random_image(1), random_image(2)
    path = tmp_path / "app.tar"
    oci_archive(path, {"app:1": one, "other:1": other})
    rest = {"docker.io/library/other:1": other.digest}

    def drop(stat_key):
        ids = node.catalog.source_states.settle([(str(path), stat_key, 1)], node.clock())
        node.imports.run(
            Job(ids[str(path)], path), stop=lambda: False, progress=lambda _d, _a: None
        )

    drop("1:1:1:1")
    node.pusher.delete_tag(HUB, "1", ORIGIN)
    assert visible(node) == rest
    key = node.catalog.sources(path=str(path))[0].stat_key
    drop(key)  # read again, for instance because a blob was lost
    assert visible(node) == rest
    node.pusher.delete_manifest(Name("library/other", "docker.io"), other.digest, ORIGIN)
    drop(key)
    assert visible(node) == {}
    drop("1:1:2:2")
    assert visible(node) == {HUB_TAG: one.digest, **rest}


def test_a_merged_tag_decides_anew_without_the_deleted_part(node, tmp_path):
    arm, amd = (random_image(p, platform=f"linux/{p}") for p in ("arm64", "amd64"))
    for image in (arm, amd):
        path = tmp_path / f"{image.platform.architecture}.tar"
        oci_archive(path, {"app:1": image})
        import_now(node, path)
    assert len(shown(node, HUB_TAG).parts) == 2
    node.pusher.delete_manifest(HUB, arm.digest, ORIGIN)
    assert visible(node) == {HUB_TAG: amd.digest}


# A lost catalog, and much at once


def test_pushes_are_restored_from_the_index_file(tmp_path):
    data = tmp_path / "data"
    one, two, unnamed = random_image(1), random_image(2), random_image(3)
    with node_at(data) as node:
        push_image(node, OWN, one, "1")
        push_image(node, OWN, two, "1")
        push_image(node, OWN, unnamed)
        node.importer.write_index()
    for path in data.glob("catalog.db*"):
        path.unlink()
    with node_at(data) as node:
        assert visible(node) == {OWN_TAG: two.digest}
        where = Repository("", "team/app")
        assert node.catalog.document_by_digest(where, unnamed.digest) is not None
        push_image(node, OWN, one, "1")
        assert visible(node) == {OWN_TAG: one.digest}
        assert node.store.read_index() != render_index(node.catalog)
        node.importer.write_index()
        assert node.store.read_index() == render_index(node.catalog)


def test_what_was_deleted_stays_deleted_without_the_catalog(tmp_path):
    data, path, image = tmp_path / "data", tmp_path / "app.tar", random_image(1)
    oci_archive(path, {"app:1": image, "other:1": image})

    def drop(node):
        ids = node.catalog.source_states.settle([(str(path), str(stat_key(path)), 1)], node.clock())
        node.imports.run(
            Job(ids[str(path)], path), stop=lambda: False, progress=lambda _d, _a: None
        )

    with node_at(data, delete="all") as node:
        drop(node)
        node.pusher.delete_tag(HUB, "1", ORIGIN)
        node.importer.write_index()
        assert node.store.read_index() == render_index(node.catalog)
    for file in data.glob("catalog.db*"):
        file.unlink()
    with node_at(data, delete="all") as node:
        drop(node)
        assert visible(node) == {"docker.io/library/other:1": image.digest}


def test_many_push_at_once(node):
    base = random_image("base", layers=2)
    images = [random_image(n, base=base.layers, layers=1) for n in range(8)]
    errors: list[BaseException] = []

    def push(number):
        try:
            push_image(node, Name(f"app-{number % 2}"), images[number], str(number))
        except BaseException as exc:  # noqa: BLE001 - told below
            errors.append(exc)

    threads = [threading.Thread(target=push, args=(n,)) for n in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert visible(node) == {f"app-{n % 2}:{n}": image.digest for n, image in enumerate(images)}
    assert wrong_blobs(node) == []


# What a push may ask for


def push_nested(node, times, deep):
    root, documents, blobs = hostile.nested(times, deep)
    for raw in blobs.values():
        if raw not in documents:
            push_blob(node, OWN, raw)
    for raw in documents:
        kind = OCI_MANIFEST if b'"layers"' in raw else OCI_INDEX
        push_manifest(node, OWN, TestBlob(raw, kind), sha256(raw))
    return root


def test_a_child_that_indexes_list_often_is_one_part(node):
    root = push_nested(node, 100, 3)
    push_manifest(node, OWN, TestBlob(root, OCI_INDEX), "1")
    assert shown(node, OWN_TAG).platforms == ("linux/amd64",)


def test_a_push_is_refused_if_too_much_is_below_it(tmp_path):
    for name, limits in (("descriptors", {"descriptors": 250}), ("nesting", {"nesting": 2})):
        with node_at(tmp_path / name, limits=Limits(**limits)) as small:
            with pytest.raises(TooLargeError, match=rf"limits\.{name}"):
                push_nested(small, 100, 3)
            assert not small.catalog.tag_states()
