"""What the agent knows survives its end, however it ends; what is imported by hand stays."""

import pytest

from support.agent import Agent
from support.images import (
    docker_archive,
    flip_bit,
    oci_archive,
    random_image,
    random_index,
    rke2_like_set,
    truncate,
)

pytestmark = pytest.mark.system


def state_of(agent):
    """Everything that the faces show, but for what must differ."""
    status = agent.status()
    for key in ("pid", "listen", "uptime_seconds", "space", "activity", "fallback"):
        del status[key]
    return agent.images(), agent.archives(), status


def fill(agent, tmp_path):
    """Archives in most states: imported, partial, rejected, replaced, removed."""
    made = rke2_like_set(tmp_path / "made", layer_bytes=20_000)
    watched = agent.watched
    canal = watched / made.canal.path.name
    made.canal.path.rename(canal)
    made.harvester.path.rename(watched / made.harvester.path.name)
    agent.wait_imported(canal, watched / made.harvester.path.name)
    seen = agent.now()
    made.update.path.replace(canal)
    agent.wait_imported(canal, after=seen)

    lacking = random_image("lacking")
    images = {"state/whole:1": random_index("whole"), "state/lacking:1": lacking}
    oci_archive(watched / "partial.tar", images, drop_blobs=[lacking.layers[0].digest])
    bad = tmp_path / "rejected.tar"
    docker_archive(bad, {"state/bad:1": random_image("bad", media="docker")})
    flip_bit(bad, 100)
    bad.rename(watched / bad.name)
    oci_archive(watched / "gone.tar", {"state/gone:1": random_image("gone")})
    oci_archive(watched / "unnamed.tar", {(): random_image("unnamed")})
    agent.wait_imported(watched / "gone.tar", watched / "unnamed.tar")
    agent.wait_state(watched / "partial.tar", "partial")
    agent.wait_state(watched / "rejected.tar", "rejected")
    (watched / "gone.tar").unlink()
    agent.wait_state(watched / "gone.tar", "removed")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_a_restart_all_is_as_it_was_and_nothing_is_read(agent, tmp_path, end):
    fill(agent, tmp_path)
    agent.wait_idle()  # index.json is written a moment after an import is recorded
    before, seen = state_of(agent), agent.now()
    index = (agent.data / "oci/index.json").read_bytes()
    getattr(agent, end)()
    agent.start()
    agent.wait_idle()
    assert state_of(agent) == before
    assert agent.events(after=seen) == []
    assert (agent.data / "oci/index.json").read_bytes() == index
    assert agent.complaints() == []


def test_what_changed_while_the_agent_was_down_is_seen_at_its_start(agent):
    images = {name: random_image(name) for name in ("same", "old", "new", "gone", "late", "half")}
    watched = agent.watched
    for name in ("same", "old", "gone"):
        oci_archive(watched / f"{name}.tar", {f"down/{name}:1": images[name]})
        agent.wait_imported(watched / f"{name}.tar")
    oci_archive(watched / "half.tar", {"down/half:1": images["half"]})
    agent.wait_imported(watched / "half.tar")
    agent.stop()
    oci_archive(watched / "old.tar", {"down/old:1": images["new"]})
    oci_archive(watched / "late.tar", {"down/late:1": images["late"]})
    (watched / "gone.tar").unlink()
    truncate(watched / "half.tar", -30_000)
    agent.start()
    agent.wait_imported(watched / "late.tar")
    agent.wait_state(watched / "gone.tar", "removed")
    agent.wait_state(watched / "half.tar", "incomplete")
    agent.wait_for(
        lambda: agent.images()["docker.io/down/old:1"]["digest"] == str(images["new"].digest)
    )
    assert len(agent.events("imported", path=watched / "same.tar")) == 1
    shown = agent.images()
    assert {name for name, item in shown.items() if item["unbacked_since"]} == {
        "docker.io/down/gone:1"
    }
    assert agent.get("/v2/down/half/manifests/1") == (200, images["half"].manifest.raw)
    assert agent.get("/v2/down/gone/manifests/1") == (200, images["gone"].manifest.raw)


def test_what_was_imported_by_hand_stays(agent, tmp_path):
    image, path = random_image("by hand"), tmp_path / "elsewhere.tar"
    oci_archive(path, {"manual/app:1": image})
    answer = agent.import_file(path)
    assert answer["result"]["state"] == "imported"
    assert answer["result"]["images"] == ["docker.io/manual/app:1"]
    path.unlink()
    for end in (agent.stop, agent.kill):
        end()
        agent.start()
        agent.wait_idle()
        item = agent.images()["docker.io/manual/app:1"]
        assert item["unbacked_since"] is None
        assert item["source"] == "import"
        assert agent.get("/v2/manual/app/manifests/1") == (200, image.manifest.raw)
        assert agent.archives()[path]["state"] == "imported"


def test_an_import_by_hand_that_fails_says_why(agent, tmp_path):
    bad = tmp_path / "bad.tar"
    docker_archive(bad, {"manual/bad:1": random_image("bad", media="docker")})
    flip_bit(bad, 100)
    result = agent.import_file(bad)["result"]
    assert (result["state"], bool(result["reason"])) == ("rejected", True)
    truncate(bad, 10_000)
    assert agent.import_file(bad)["result"]["state"] in {"incomplete", "rejected"}
    assert agent.import_file(tmp_path / "absent.tar")["error"]["code"] == "not_found"
    assert agent.import_file(tmp_path)["error"]["code"] == "archive"
    assert agent.images() == {}


def test_images_of_a_directory_that_is_not_watched_any_more_stay(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        oci_archive(
            directory / "a.tar", {f"watched/{directory.name}:1": random_image(directory.name)}
        )
    with Agent([first, second], tmp_path / "data") as agent:
        agent.wait_imported(first / "a.tar", second / "a.tar")
        before = agent.images()
    with Agent(first, tmp_path / "data") as agent:
        agent.wait_idle()
        assert agent.images() == before
        found = agent.archives()[second / "a.tar"]
        assert found["state"] == "waiting"
        assert "not watched" in found["reason"]
    with Agent([first, second], tmp_path / "data") as agent:
        agent.wait_imported(second / "a.tar")
        assert agent.images() == before


def test_a_second_agent_is_refused_and_the_first_goes_on(agent, tmp_path):
    second = Agent(agent.watched, agent.data)
    second.log_path = tmp_path / "second.log"
    second.launch()
    assert second.wait_exit() == 1
    assert f"is in use by the process {agent.pid}" in second.log
    oci_archive(agent.watched / "a.tar", {"first/app:1": random_image("first")})
    agent.wait_imported(agent.watched / "a.tar")
