"""A store that rots under a running agent, alone and with containerd on the same files."""

import contextlib
import hashlib
import http.client
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.oci.digest import Digest
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd
from support.containerd_config import Options
from support.images import oci_archive, random_image
from support.sound import check_sound, pull_all

pytestmark = pytest.mark.system

NAME = "docker.io/library/app:1"


def agent_for(tmp_path: Path, containerd: Containerd | None = None, **environ: str) -> Agent:
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    flags = ["--runtime", str(containerd.socket)] if containerd is not None else []
    quick = {"AIRSIDE_RECONCILE_SECONDS": "3600", **environ}
    return Agent(images, tmp_path / "data", environ=quick, flags=flags)


def ask(agent: Agent, *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with `--json`; gives its exit code and what it says."""
    done = airside(*words, "--json", "--data", agent.data)
    return done.returncode, json.loads(done.stdout or "{}")


def path_of(agent: Agent, digest: Digest) -> Path:
    return agent.data / "oci/blobs" / digest.algorithm / digest.hex


def flip(path: Path) -> None:
    """One bit in place, as a disk does: all names of the file have it."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def wrong_in(directory: Path) -> list[str]:
    """Files that are not what their name says, or have a name that is no digest."""
    return [
        path.name
        for path in directory.iterdir()
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name
    ]


def runtime_of(agent: Agent, name: str = NAME) -> dict[str, Any]:
    """What `airside images` says of an image in the one runtime."""
    return dict((agent.images().get(name, {}).get("runtimes") or [{"state": ""}])[0])


def wait_published(agent: Agent, name: str) -> dict[str, Any]:
    def state() -> dict[str, Any] | None:
        found = runtime_of(agent, name)
        return found if found["state"] == "published" else None

    return dict(agent.wait_for(state, what=f"{name} is published"))


def wait_connected(agent: Agent) -> None:
    """What is said of its images may be of an earlier start."""
    agent.wait_for(
        lambda: [r for r in agent.status()["runtimes"] if r["connected"]], what="connected"
    )


def outcomes(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(item["result"], item["from"]) for item in report["items"]}


# with containerd


@pytest.mark.needs("runc", "unshare", "mount")
def test_a_linked_blob_that_rots_is_right_again_under_both_names(
    containerd: Containerd, tmp_path: Path
) -> None:
    """Every blob of an image, in place; its containers run before, meanwhile and after."""
    content = containerd.content_root / "blobs/sha256"
    write_sample(tmp_path / "hello.tar")
    with agent_for(tmp_path, containerd) as agent:
        (tmp_path / "hello.tar").rename(agent.watched / "hello.tar")
        adopted = wait_published(agent, SAMPLE_NAME)["adopted"]
        assert adopted.keys() == {"link"}
        linked = [path for path in content.iterdir() if path.stat().st_nlink == 2]
        assert len(linked) >= 4, "index, manifest, config, layer"
        for path in linked:
            flip(path)
        assert len(wrong_in(content)) == len(linked)
        code, report = ask(agent, "verify", "--repair")
        assert code == 0, report
        assert report["wrong"] == report["repaired"] == len(linked)
        assert outcomes(report) == {("repaired", "catalog"), ("repaired", "archive")}
        mended = [item["runtimes"][0]["state"] for item in report["items"]]
        assert mended == ["replaced"] * len(linked)
        assert wrong_in(content) == []
        for path in linked:
            assert path.samefile(path_of(agent, Digest("sha256", path.name)))
        assert not (agent.data / "quarantine").exists()
        containerd.collect()
        check = containerd.did("images", "check", f"name=={SAMPLE_NAME}")
        assert "complete" in check
        assert "incomplete" not in check
        assert containerd.run_container(SAMPLE_NAME, "after").stdout.encode() == MESSAGE
        exported = tmp_path / "exported.tar"
        containerd.did("images", "export", *containerd.local, exported, SAMPLE_NAME)
        assert ask(agent, "verify")[1]["items"] == []
        expected = pull_all(agent.registry)
    check_sound(agent.data, expected)


@pytest.mark.needs("containerd", "ctr", "runc")
def test_a_sent_blob_is_repaired_from_containerd_and_what_is_lost_is_told(tmp_path: Path) -> None:
    image = random_image("sent")
    layer, config = image.layers[0].digest, image.config.digest
    options = Options(sharing="isolated")
    with (
        Containerd(None, tmp_path / "containerd", options=options) as made,
        agent_for(tmp_path, made) as agent,
    ):
        content = made.content_root / "blobs/sha256"
        expected = oci_archive(agent.watched / "app.tar", {NAME: image})
        assert wait_published(agent, NAME)["adopted"].keys() == {"stream"}
        (agent.watched / "app.tar").unlink()
        agent.wait_state(agent.watched / "app.tar", "removed")
        for digest in (layer, config):
            flip(path_of(agent, digest))
        flip(content / config.hex)
        code, report = ask(agent, "verify", "--repair")
        assert code == 1
        assert outcomes(report) == {("repaired", "runtime"), ("lost", "")}
        [lost] = [item for item in report["items"] if item["result"] == "lost"]
        assert (lost["digest"], lost["images"]) == (str(config), [NAME])
        assert "push the image again" in lost["advice"]
        assert path_of(agent, layer).exists()
        assert agent.get(f"/v2/library/app/blobs/{config}")[0] == 404
        assert agent.get(f"/v2/library/app/blobs/{layer}")[0] == 200
        assert agent.status()["blobs_quarantined"] == 1
        [told] = ask(agent, "explain", NAME)[1]["lost_blobs"]
        assert told == {"digest": str(config), "state": "quarantined"}
        doctor = ask(agent, "doctor")[1]["items"]
        assert [f["severity"] for f in doctor if f["id"] == "data.blobs"] == ["problem"]
        agent.restart()
        wait_connected(agent)
        agent.wait_for(lambda: runtime_of(agent)["state"] == "incomplete", what="it is looked at")
        assert NAME in made.did("images", "list", "-q"), "what runs is not taken away"
        oci_archive(agent.watched / "again.tar", {NAME: image})
        agent.wait_imported(agent.watched / "again.tar")
        assert ask(agent, "verify", "--repair")[0] == 0
        assert agent.status()["blobs_quarantined"] == 0
    check_sound(agent.data, expected)


@pytest.mark.needs("containerd", "ctr", "runc")
def test_a_kill_in_a_repair_leaves_what_a_start_makes_right(tmp_path: Path) -> None:
    """Nothing wrong is ever in the store, and in the end nothing in containerd.

    At three of them: `tests/component/test_scrub.py` is at the others.
    """
    image = random_image("killed")
    with Containerd(None, tmp_path / "containerd") as made:
        content = made.content_root / "blobs/sha256"
        agent = agent_for(tmp_path, made)
        expected = oci_archive(agent.watched / "app.tar", {NAME: image})
        with agent:
            wait_published(agent, NAME)
        for point in ("scrub.after_mark", "repair.after_commit", "repair.before_replace"):
            agent.fault = f"{point}=kill"
            agent.start()
            wait_connected(agent)
            for digest in (image.digest, image.layers[0].digest):
                flip(path_of(agent, digest))
            with contextlib.suppress(OSError, http.client.HTTPException):
                verified(agent)
            assert agent.wait_exit() == -9, point
            agent.fault = None
            with agent:
                assert wrong_in(agent.data / "oci/blobs/sha256") == [], point
                wait_connected(agent)
                assert verified(agent)["right"], point
                assert pull_all(agent.registry) == expected
            assert wrong_in(content) == [], point
            assert not (agent.data / "quarantine").exists(), point
            check_sound(agent.data, expected)


def verified(agent: Agent) -> dict[str, Any]:
    """Verify and repair, without a command; gives the report."""
    return dict(agent.ask("/v1/verify", method="POST", body={"repair": True})[-1]["result"])


# alone


def test_rot_is_found_and_repaired_in_the_background(tmp_path: Path) -> None:
    image = random_image("rotten")
    environ = {"AIRSIDE_SCRUB_SECONDS": "0.5", "AIRSIDE_SCRUB_BYTES_PER_SECOND": "0"}
    with agent_for(tmp_path, **environ) as agent:
        expected = oci_archive(agent.watched / "app.tar", {NAME: image})
        agent.wait_imported(agent.watched / "app.tar")
        flip(path_of(agent, image.layers[0].digest))
        [event] = agent.wait_for(lambda: agent.events("repaired"), what="it is repaired")
        assert event["detail"] == {"from": "archive", "source": str(agent.watched / "app.tar")}
        agent.wait_for(lambda: (agent.status()["scrub"] or {}).get("ended_at"), what="a pass ended")
        assert agent.status()["scrub"]["by"] == "agent"
    check_sound(agent.data, expected)


def test_a_slow_pass_is_gone_on_with_and_holds_up_no_stop(tmp_path: Path) -> None:
    slow = {"AIRSIDE_SCRUB_SECONDS": "0.2", "AIRSIDE_SCRUB_BYTES_PER_SECOND": "20KiB"}
    images = {f"example.com/slow{n}:1": random_image(n) for n in range(3)}
    agent = agent_for(tmp_path, **slow)
    expected = oci_archive(agent.watched / "app.tar", images)
    with agent:
        agent.wait_imported(agent.watched / "app.tar")
        passes = agent.wait_for(lambda: agent.status()["scrub"], what="a pass has begun")
    with agent:  # leaving it above stopped within STOP_SECONDS
        assert agent.status()["scrub"]["started_at"] == passes["started_at"]
        code, report = ask(agent, "verify")
        assert (code, report["by"]) == (0, "verify"), "who asks does not wait for it"
    code, report = ask(agent, "verify")
    assert code == 0, "without an agent"
    assert report["blobs"] == len(_blobs(agent.data))
    check_sound(agent.data, expected)


def _blobs(data: Path) -> Iterable[Path]:
    return list((data / "oci/blobs").glob("*/*"))
