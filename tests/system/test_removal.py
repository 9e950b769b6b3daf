"""Archives that go, come back, change or claim what others claim; one at a time and all at once."""

import os
import shutil

import pytest

from support.agent import Agent
from support.images import (
    big_archive,
    docker_archive,
    expected_blobs,
    oci_archive,
    random_image,
)
from support.size import sized

pytestmark = pytest.mark.system

APP = "docker.io/removed/app:1"
BIG_BYTES = sized(256, 384) << 20


def put(agent, name, images):
    """An archive renamed into place; gives its path once imported."""
    made = agent.data.with_name("made.tar")
    oci_archive(made, images)
    path = agent.watched / name
    seen = agent.now()
    made.replace(path)
    agent.wait_imported(path, after=seen)
    return path


def remove(agent, path):
    path.unlink()
    agent.wait_state(path, "removed")


def served(agent, name="app", tag="1"):
    return agent.get(f"/v2/removed/{name}/manifests/{tag}")


def check_served(agent, image, name="app"):
    assert agent.get(f"/v2/removed/{name}/manifests/{image.digest}") == (200, image.manifest.raw)
    for blob in image.blobs[1:]:
        assert agent.get(f"/v2/removed/{name}/blobs/{blob.digest}") == (200, blob.raw)


def held(agent):
    return {path.name for path in (agent.data / "oci/blobs/sha256").iterdir()}


def hexes(*images):
    return {digest.hex for image in images for digest in expected_blobs(image)}


def start(tmp_path, **options):
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    return Agent(images, tmp_path / "data", **options)


def test_images_of_a_removed_archive_are_served_on_and_marked(agent):
    image = random_image("unpinned")
    path = put(agent, "a.tar", {"removed/app:1": image})
    assert agent.images()[APP]["archives"] == [str(path)]
    remove(agent, path)
    item = agent.images()[APP]
    assert item["unbacked_since"]
    assert item["archives"] == []
    assert served(agent) == (200, image.manifest.raw)
    check_served(agent, image)
    assert agent.status()["unbacked"] == 1
    put(agent, "b.tar", {"removed/app:1": image})
    assert agent.images()[APP]["unbacked_since"] is None
    assert agent.status()["unbacked"] == 0
    assert agent.complaints() == []


def test_unbacked_images_go_after_their_time(tmp_path):
    environ = {"AIRSIDE_UNBACKED_AFTER_SECONDS": "1", "AIRSIDE_RECONCILE_SECONDS": "0.5"}
    with start(tmp_path, environ=environ) as agent:
        kept, gone = random_image("kept"), random_image("gone")
        put(agent, "kept.tar", {"removed/kept:1": kept})
        remove(agent, put(agent, "gone.tar", {"removed/app:1": gone}))
        agent.wait_for(lambda: APP not in agent.images())
        agent.wait_for(lambda: held(agent) == hexes(kept))
        assert served(agent)[0] == 404
        check_served(agent, kept, "kept")


def test_with_delete_the_tag_and_its_blobs_go_at_once(tmp_path):
    with start(tmp_path, tables={"on_removal": "delete"}) as agent:
        base = random_image("base")
        shared = random_image("shared", base=base.layers)
        path = put(agent, "a.tar", {"removed/app:1": base, "removed/twice:1": base})
        put(agent, "b.tar", {"removed/other:1": shared})
        remove(agent, path)
        assert list(agent.images()) == ["docker.io/removed/other:1"]
        assert served(agent)[0] == 404
        agent.wait_for(lambda: held(agent) == hexes(shared), what="the blobs are gone")
        assert agent.get(f"/v2/removed/app/manifests/{base.digest}")[0] == 404
        assert agent.status()["blobs"] == len(expected_blobs(shared))
        check_served(agent, shared, "other")
        assert {e["reference"] for e in agent.events("tag-removed")} == {
            "docker.io/removed/app:1",
            "docker.io/removed/twice:1",
        }
        remove(agent, agent.watched / "b.tar")
        agent.wait_for(lambda: held(agent) == set())
        assert agent.images() == {}
        assert agent.complaints() == []
        put(agent, "a.tar", {"removed/app:1": base})  # and again
        check_served(agent, base)


def test_with_delete_a_tag_that_an_update_lacks_goes_too(tmp_path):
    with start(tmp_path, tables={"on_removal": "delete"}) as agent:
        first, second = random_image("first"), random_image("second")
        put(agent, "a.tar", {"removed/app:1": first, "removed/old:1": first})
        put(agent, "a.tar", {"removed/app:1": second})
        assert list(agent.images()) == [APP]
        assert served(agent) == (200, second.manifest.raw)
        assert served(agent, "old")[0] == 404


def test_an_update_without_a_name_keeps_what_is_served_and_counts_it_as_unbacked(agent):
    image, other = random_image("one"), random_image("two")
    put(agent, "a.tar", {(): image})
    [name] = agent.images()
    put(agent, "a.tar", {(): other})
    repository = name.partition("@")[0]
    assert f"{repository}@{other.digest}" in agent.images()
    assert agent.get(f"/v2/{repository}/manifests/{other.digest}")[0] == 200


def test_with_keep_nothing_changes(tmp_path):
    with start(tmp_path, tables={"on_removal": "keep"}) as agent:
        image = random_image("kept")
        remove(agent, put(agent, "a.tar", {"removed/app:1": image}))
        item = agent.images()[APP]
        assert item["unbacked_since"] is None
        assert served(agent) == (200, image.manifest.raw)
        check_served(agent, image)


@pytest.mark.parametrize("policy", ["unpin", "delete"])
def test_an_image_that_another_archive_has_too_stays(tmp_path, policy):
    with start(tmp_path, tables={"on_removal": policy}) as agent:
        image = random_image("both")
        first = put(agent, "first.tar", {"removed/app:1": image})
        second = put(agent, "second.tar", {"removed/app:1": image})
        assert agent.images()[APP]["archives"] == [str(first), str(second)]
        remove(agent, second)
        item = agent.images()[APP]
        assert (item["archives"], item["unbacked_since"]) == ([str(first)], None)
        check_served(agent, image)
        assert not agent.events("tag-moved", "tag-removed")
        assert agent.complaints() == []


@pytest.mark.parametrize("policy", ["unpin", "delete"])
def test_of_two_archives_with_one_tag_the_newest_wins_until_it_goes(tmp_path, policy):
    with start(tmp_path, tables={"on_removal": policy}) as agent:
        old, new = random_image("old"), random_image("new")
        put(agent, "z-first.tar", {"removed/app:1": old})
        second = put(agent, "a-second.tar", {"removed/app:1": new})
        assert served(agent) == (200, new.manifest.raw)
        check_served(agent, old)
        remove(agent, second)
        assert served(agent) == (200, old.manifest.raw)
        item = agent.images()[APP]
        assert item["unbacked_since"] is None
        assert [e["detail"] for e in agent.events("tag-moved")] == [
            str(old.digest),
            str(new.digest),
        ]
        third = put(agent, "m-third.tar", {"removed/app:1": new})
        assert served(agent) == (200, new.manifest.raw)
        remove(agent, agent.watched / "z-first.tar")  # not the one that it follows
        assert served(agent) == (200, new.manifest.raw)
        assert agent.images()[APP]["archives"] == [str(third)]


def test_a_replacement_of_the_same_size_and_an_older_date_is_seen(agent, tmp_path):
    first, second = random_image("aaaa"), random_image("bbbb")
    made = [tmp_path / "1.tar", tmp_path / "2.tar"]
    for path, image in zip(made, (first, second), strict=True):
        oci_archive(path, {"removed/app:1": image})
    assert made[0].stat().st_size == made[1].stat().st_size
    path = agent.watched / "a.tar"
    shutil.copy(made[0], path)
    agent.wait_imported(path)
    date = path.stat().st_mtime - 86_400
    seen = agent.now()
    path.write_bytes(made[1].read_bytes())  # in place: the inode stays too
    os.utime(path, (date, date))
    agent.wait_imported(path, after=seen)
    assert served(agent) == (200, second.manifest.raw)
    seen = agent.now()
    os.utime(made[0], (date, date))
    made[0].replace(path)
    agent.wait_imported(path, after=seen)
    assert served(agent) == (200, first.manifest.raw)
    assert agent.complaints() == []


def test_a_touched_archive_changes_nothing(agent):
    image = random_image("touched")
    path = put(agent, "a.tar", {"removed/app:1": image})
    before, seen = agent.images(), agent.now()
    path.touch()
    agent.wait_imported(path, after=seen)
    assert agent.images() == before
    assert not agent.events("tag-moved", "tag-removed")


def test_a_renamed_archive_keeps_its_images_backed(agent):
    image = random_image("renamed")
    path = put(agent, "a.tar", {"removed/app:1": image})
    target = path.with_name("b.tar")
    path.rename(target)
    agent.wait_imported(target)
    agent.wait_state(path, "removed")
    item = agent.images()[APP]
    assert (item["archives"], item["unbacked_since"]) == ([str(target)], None)
    check_served(agent, image)


def test_a_directory_may_come_later_go_and_come_again(tmp_path):
    images = tmp_path / "later/images"
    image, made = random_image("later"), tmp_path / "made.tar"
    oci_archive(made, {"removed/app:1": image})
    with Agent(images, tmp_path / "data") as agent:
        [shown] = agent.status()["directories"]
        assert shown["mode"] == "absent"
        images.mkdir(parents=True)
        path = images / "a.tar"
        shutil.copy(made, path)
        agent.wait_imported(path)

        shutil.rmtree(tmp_path / "later")
        agent.wait_for(lambda: agent.status()["directories"][0]["mode"] == "absent")
        agent.wait_idle()
        assert agent.archives()[path]["state"] == "imported"
        assert agent.images()[APP]["unbacked_since"] is None

        images.mkdir(parents=True)
        agent.wait_state(path, "removed")
        check_served(agent, image)
        seen = agent.now()
        shutil.copy(made, path)
        agent.wait_imported(path, after=seen)
        assert agent.images()[APP]["unbacked_since"] is None
        assert agent.complaints() == []


def test_a_hundred_archives_at_once_are_all_imported(agent, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    names = {}
    for number in range(100):
        image = random_image(number, layers=1, layer_bytes=4_000, media="docker")
        packed = ("none", "gzip", "zstd")[number % 3]
        name = f"many/app-{number}:1"
        names |= docker_archive(made / f"{number}.tar", {name: image}, compression=packed)
    for path in made.iterdir():
        path.rename(agent.watched / path.name)
    paths = [agent.watched / f"{number}.tar" for number in range(100)]
    agent.wait_for(lambda: agent.status()["archives"].get("imported") == 100)
    assert {name: item["digest"] for name, item in agent.images().items()} == {
        name: str(digest) for name, digest in names.items()
    }
    assert len(agent.events("imported")) == 100
    for path in paths:
        path.unlink()
    agent.wait_for(lambda: agent.status()["archives"] == {"removed": 100})
    assert agent.status()["unbacked"] == 100
    assert agent.complaints() == []


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """An archive that takes a while to read."""
    path = tmp_path_factory.mktemp("big") / "big.tar.gz"
    big_archive(path, BIG_BYTES, compression="gzip", name="removed/big:1")
    return path


def left_in_ingest(agent):
    return [path for path in (agent.data / "ingest").rglob("*") if path.is_file()]


def drop_big(agent, big):
    path = agent.watched / "big.tar.gz"
    os.link(big, path)
    agent.wait_for(lambda: agent.status()["imports"], what="the big archive is being read")
    return path


def test_an_archive_removed_while_it_is_imported_leaves_nothing(agent, big):
    path = drop_big(agent, big)
    path.unlink()
    agent.wait_state(path, "removed")
    agent.wait_for(lambda: not agent.status()["imports"])
    agent.wait_for(lambda: not left_in_ingest(agent))
    found = agent.images()
    assert all(item["unbacked_since"] for item in found.values())
    assert agent.archives()[path]["state"] == "removed"
    seen = agent.now()
    os.link(big, path)
    agent.wait_imported(path, after=seen)
    assert agent.images()["docker.io/removed/big:1"]["unbacked_since"] is None
    assert agent.complaints() == []


def test_an_archive_replaced_while_it_is_imported_is_the_new_one(agent, big, tmp_path):
    path = drop_big(agent, big)
    image, made = random_image("small"), tmp_path / "small.tar"
    oci_archive(made, {"removed/app:1": image})
    made.replace(path)
    agent.wait_for(lambda: APP in agent.images())
    agent.wait_for(lambda: not left_in_ingest(agent))
    agent.wait_state(path, "imported")
    assert agent.archives()[path]["images"] == [APP]
    assert agent.images()[APP]["unbacked_since"] is None
    assert agent.complaints() == []


def test_an_archive_written_over_while_it_is_imported_is_the_new_one(agent, big, tmp_path):
    """In place, as `cp` does: what is read changes under the reader's hands."""
    path = agent.watched / "big.tar.gz"
    shutil.copy(big, path)
    agent.wait_for(lambda: agent.status()["imports"])
    image, made = random_image("small"), tmp_path / "small.tar"
    oci_archive(made, {"removed/app:1": image})
    path.write_bytes(made.read_bytes())
    agent.wait_for(lambda: APP in agent.images())
    agent.wait_state(path, "imported")
    assert agent.archives()[path]["images"] == [APP]
    assert not agent.events("rejected")


def test_a_small_archive_is_imported_while_a_big_one_is(agent, big):
    drop_big(agent, big)
    put(agent, "small.tar", {"removed/app:1": random_image("small")})
    check_served(agent, random_image("small"))
    agent.wait_imported(agent.watched / "big.tar.gz")


def test_a_stop_while_a_big_archive_is_imported_is_clean(agent, big):
    path = drop_big(agent, big)
    agent.stop()
    assert agent.complaints() == []
    agent.start()
    agent.wait_imported(path)


def test_a_directory_that_is_empty_at_the_start_deletes_nothing(tmp_path):
    """Its file system may not be mounted: the images stay, and are backed again when it is."""
    images = tmp_path / "images"
    images.mkdir()
    archive, away = images / "a.tar", tmp_path / "away.tar"
    docker_archive(archive, {"example.com/a:1": random_image(1)})
    with Agent(images, tmp_path / "data", tables={"on_removal": "delete"}) as agent:
        agent.wait_imported(archive)
        agent.stop()
        archive.rename(away)
        agent.start()
        agent.wait_for(lambda: agent.archives()[archive]["state"] == "removed")
        assert agent.images()["example.com/a:1"]["unbacked_since"]
        assert agent.get("/v2/example.com/a/manifests/1")[0] == 200
        away.rename(archive)
        agent.wait_imported(archive)
        assert agent.images()["example.com/a:1"]["unbacked_since"] is None
        archive.unlink()
        agent.wait_for(lambda: not agent.images())
