"""Two agents on one containerd: one publishes, the other says so, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import SAMPLE_NAME, write_sample
from airside.containerd.agent_claim import AgentClaim, Claimant
from airside.containerd.agent_process import AgentProcess
from airside.containerd.client import Client
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd
from support.images import docker_archive, random_image

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

OTHER_NAME = "docker.io/library/other:1"


def agent_at(directory: Path, containerd: Containerd) -> Agent:
    (directory / "images").mkdir(parents=True, exist_ok=True)
    flags = ["--runtime", str(containerd.socket)]
    return Agent(directory / "images", directory / "data", flags=flags)


def runtime_of(agent: Agent) -> dict[str, Any]:
    [found] = agent.status()["runtimes"] or [{"connected": False}]
    return dict(found)


def released(agent: Agent, *words: str) -> dict[str, str]:
    done = airside("runtime", "release", "--json", "--data", agent.data, *words)
    assert done.returncode == 0, done.stderr
    return {item["name"]: item["state"] for item in json.loads(done.stdout)["items"]}


def names_in(containerd: Containerd) -> set[str]:
    with Client.open(str(containerd.socket)) as client:
        return {image.name for image in client.images.list()}


def test_the_second_agent_says_so_and_follows_the_first(
    newest_containerd: str, tmp_path: Path
) -> None:
    with (
        Containerd(newest_containerd, tmp_path / "c") as made,
        agent_at(tmp_path / "one", made) as one,
    ):
        write_sample(one.watched / "hello.tar")
        one.wait_for(lambda: SAMPLE_NAME in names_in(made), what="published")
        with agent_at(tmp_path / "two", made) as two:
            docker_archive(two.watched / "other.tar", {OTHER_NAME: random_image(1)})
            two.wait_for(lambda: runtime_of(two).get("other_agent"), what="it sees the other")
            two.wait_for(lambda: OTHER_NAME in two.images(), what="imported")
            other = runtime_of(two)["other_agent"]
            assert (other["data"], other["pid"]) == (str(one.data), one.status()["pid"])
            assert other["identity"].startswith("airside-")
            shown = airside("status", "--data", two.data).stdout
            assert str(one.data) in shown
            found = json.loads(airside("doctor", "--json", "--data", two.data).stdout)
            [finding] = [i for i in found["items"] if i["id"] == "agent.runtime"]
            assert finding["severity"] == "problem"
            assert str(one.data) in finding["found"]
            hello = tmp_path / "again.tar"
            write_sample(hello)
            done = airside("import", "--data", two.data, hello)
            assert "another agent publishes to it" in done.stdout
            assert OTHER_NAME not in names_in(made)
            assert runtime_of(one)["other_agent"] is None

            one.kill()
            two.wait_for(lambda: OTHER_NAME in names_in(made), what="the second publishes")
            two.wait_for(lambda: not runtime_of(two)["other_agent"], what="it says so")
            assert SAMPLE_NAME in names_in(made)
            one.start()
            one.wait_for(lambda: runtime_of(one).get("other_agent"), what="it is the second now")
            two.stop()
            one.wait_for(lambda: runtime_of(one)["other_agent"] is None, what="it publishes again")
            one.wait_for(lambda: runtime_of(one)["foreign_names"], what="it keeps what two has")
            assert OTHER_NAME in names_in(made)
            one.kill()
            one.start()  # its own lease and lock are no obstacle
            one.wait_for(lambda: runtime_of(one)["connected"], what="connected")
            one.wait_for(lambda: runtime_of(one)["foreign_names"], what="it publishes")
            assert {SAMPLE_NAME, OTHER_NAME} <= names_in(made)

            two.start()
            two.wait_for(lambda: runtime_of(two).get("other_agent"), what="it sees the first")
            assert airside("runtime", "release", "--data", two.data).returncode == 1
            two.stop()
            assert released(one, "--dry-run", OTHER_NAME) == {OTHER_NAME: "released"}
            assert set(released(one)) >= {OTHER_NAME}
            assert OTHER_NAME not in names_in(made)
            assert SAMPLE_NAME in names_in(made)
            one.wait_for(lambda: not runtime_of(one)["foreign_names"], what="nothing is left")


def test_the_claim_is_a_lease_of_every_containerd(containerd: Containerd, tmp_path: Path) -> None:
    """Without the lock, as where the content directory is not visible."""
    here, elsewhere = AgentProcess.own("boot"), AgentProcess("boot", 1, 17, 4)
    with Client.open(str(containerd.socket)) as client:
        client.namespaces.create()
        one = AgentClaim(client.leases, None, Claimant("airside-1", "/one", elsewhere))
        two = AgentClaim(client.leases, None, Claimant("airside-2", str(tmp_path), here))
        assert one.take() is None
        containerd.collect()
        other = two.take()
        assert other is not None
        assert (other.identity, other.data, other.pid) == ("airside-1", "/one", 17)
        containerd.restart()
        assert two.take() is not None
        successor = AgentClaim(client.leases, None, Claimant("airside-1", "/one", here))
        assert successor.take() is None
        successor.release()
        assert two.take() is None
        containerd.wipe()
        client.namespaces.create()
        assert two.take() is None
        two.release()
        assert client.leases.list() == []
