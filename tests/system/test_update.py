"""The scenario that the agent was made for: archives of a distribution dropped, then updated."""

import os
import shutil

import pytest

from support.agent import Agent
from support.images import expected_blobs, rke2_like_set
from support.skopeo import pull

pytestmark = [pytest.mark.system, pytest.mark.needs("skopeo")]

PAUSE = "docker.io/rancher/mirrored-pause:3.6"


def listed(agent):
    """Reference → digest, as `airside images` lists them."""
    return {reference: item["digest"] for reference, item in agent.images().items()}


def as_text(references):
    return {reference: str(digest) for reference, digest in references.items()}


def check_pulls(agent, made, directory):
    for number, (name, image) in enumerate(made.images.items()):
        got = pull(agent.registry, name, directory / str(number))
        assert got == {made.references[name], *(b.digest for b in image.blobs[1:])}
        assert len(got) == len(expected_blobs(image))


def test_the_list_of_images_follows_each_drop_and_update(tmp_path):
    made = rke2_like_set(tmp_path / "made")
    images = tmp_path / "var/lib/rancher/k3s/agent/images"
    images.mkdir(parents=True)
    canal, harvester = images / made.canal.path.name, images / made.harvester.path.name
    with Agent(images, tmp_path / "data") as agent:
        assert listed(agent) == {}

        shutil.copy(made.canal.path, canal)
        agent.wait_imported(canal)
        assert listed(agent) == as_text(made.canal.references)
        check_pulls(agent, made.canal, tmp_path / "canal")

        shutil.copy(made.harvester.path, harvester)
        agent.wait_imported(harvester)
        assert listed(agent) == as_text(made.canal.references | made.harvester.references)
        check_pulls(agent, made.harvester, tmp_path / "harvester")
        check_pulls(agent, made.canal, tmp_path / "canal-again")
        assert all(item["unbacked_since"] is None for item in agent.images().values())
        seen = agent.now()

        shutil.copy(made.update.path, canal)
        agent.wait_imported(canal, after=seen)
        everything = made.canal.references | made.harvester.references | made.update.references
        assert listed(agent) == as_text(everything)
        check_pulls(agent, made.update, tmp_path / "update")
        check_pulls(agent, made.harvester, tmp_path / "harvester-again")

        check_moved(agent, made, seen, tmp_path)
        check_unbacked(agent, made, canal, tmp_path)
        assert agent.archives()[canal]["images"] == list(made.update.references)
        assert agent.complaints() == []


def check_moved(agent, made, seen, directory):
    """The tag that the update has too has moved; what it was is pulled by digest."""
    before, after = made.canal.references[PAUSE], made.update.references[PAUSE]
    [moved] = agent.events("tag-moved", after=seen)
    assert (moved["reference"], moved["digest"]) == (PAUSE, str(after))
    assert moved["detail"] == str(before)
    old = made.canal.images[PAUSE]
    got = pull(agent.registry, f"{PAUSE.removesuffix(':3.6')}@{before}", directory / "old")
    assert got == {before, *(blob.digest for blob in old.blobs[1:])}


def check_unbacked(agent, made, canal, directory):
    """Tags that the update lacks are backed by nothing any more, and served all the same."""
    gone = set(made.canal.references) - set(made.update.references)
    assert len(gone) == 2
    images = agent.images()
    assert {name for name, item in images.items() if item["unbacked_since"]} == gone
    assert agent.status()["unbacked"] == 2
    for name in gone:
        assert images[name]["archives"] == []
        assert made.canal.references[name] in pull(
            agent.registry, name, directory / name.rpartition("/")[2]
        )
    assert images[PAUSE]["archives"] == [str(canal)]


def test_an_update_reads_only_what_it_must_and_stores_no_layer_twice(tmp_path):
    made = rke2_like_set(tmp_path / "made")
    images = tmp_path / "images"
    images.mkdir()
    canal = images / made.canal.path.name
    with Agent(images, tmp_path / "data") as agent:
        shutil.copy(made.canal.path, canal)
        agent.wait_imported(canal)
        base = made.canal.images[PAUSE].layers[0].digest
        blob = tmp_path / "data/oci/blobs/sha256" / base.hex
        before = blob.stat()
        seen = agent.now()
        shutil.copy(made.update.path, canal)
        agent.wait_imported(canal, after=seen)
        assert blob.stat() == before
        made_images = [*made.canal.images.values(), *made.update.images.values()]
        expected = {blob.digest for image in made_images for blob in image.blobs[1:]}
        expected |= {*made.canal.references.values(), *made.update.references.values()}
        assert {path.name for path in blob.parent.iterdir()} == {d.hex for d in expected}


def test_a_rollback_with_an_older_date_is_an_update_too(tmp_path):
    made = rke2_like_set(tmp_path / "made", layer_bytes=40_000)
    images = tmp_path / "images"
    images.mkdir()
    canal = images / made.canal.path.name
    with Agent(images, tmp_path / "data") as agent:
        shutil.copy(made.update.path, canal)
        agent.wait_imported(canal)
        assert agent.images()[PAUSE]["digest"] == str(made.update.references[PAUSE])
        os.utime(made.canal.path, (1_000_000_000, 1_000_000_000))
        shutil.copy2(made.canal.path, canal)
        agent.wait_for(lambda: agent.images()[PAUSE]["digest"] == str(made.canal.references[PAUSE]))
        assert agent.complaints() == []
