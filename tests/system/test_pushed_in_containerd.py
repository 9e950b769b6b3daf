"""What is pushed is in containerd under this registry's names, follows its tag, and goes with it.

One version of containerd: what it is told is as for archives, which all of them are tested with.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.oci.model import OCI_INDEX
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd
from support.images import oci_archive, random_index
from support.kubelet import Kubelet, import_pause
from support.tools import Tools

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("runc", "unshare", "mount", "skopeo"),
    pytest.mark.parametrize("containerd_version", ["1.7"], indirect=True),
]

TO = "--dest-tls-verify=false"
PLAIN = "--tls-verify=false"


@pytest.fixture
def publishing(tmp_path: Path, containerd: Containerd) -> Iterator[Agent]:
    (tmp_path / "images").mkdir()
    flags = ["--runtime", str(containerd.socket)]
    quick = {"AIRSIDE_RECONCILE_SECONDS": "3600"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    places = (tmp_path / "images", tmp_path / "data")
    with Agent(*places, environ=quick, flags=flags, listen=listen) as agent:
        yield agent


def explained(agent: Agent, what: str) -> str:
    return airside("explain", "--data", agent.data, what).stdout


def published(agent: Agent, reference: str) -> dict[str, Any]:
    """Wait until it is in the runtime as the catalog has it; gives what `images` shows."""

    def found() -> dict[str, Any] | None:
        image = agent.images().get(reference, {"runtimes": [], "digest": ""})
        as_it_is = [
            r
            for r in image["runtimes"]
            if r["state"] == "published" and r["digest"] == image["digest"]
        ]
        return image if as_it_is else None

    return dict(agent.wait_for(found, what=f"{reference} is published"))


def test_a_pushed_image_runs_moves_and_goes(
    publishing: Agent, containerd: Containerd, tools: Tools
) -> None:
    import_pause(containerd)
    port = publishing.registry.rpartition(":")[2]
    names = [f"{host}:{port}/team/app:1" for host in ("127.0.0.1", "localhost")]
    target = f"docker://{names[0]}"
    sample, later = tools.directory / "hello.tar", tools.directory / "later.tar"
    write_sample(sample)
    oci_archive(later, {"docker.io/library/later:1": random_index("later")})
    tools.skopeo("copy", "-q", "--all", TO, f"oci-archive:{sample}:{SAMPLE_NAME}", target)
    first = published(publishing, "team/app:1")["digest"]
    with Kubelet(containerd) as kubelet:
        for name in names:
            image = kubelet.wait_image(name, lambda found: found.pinned)
            assert set(names) <= set(image.tags)
            assert f"{name.rpartition(':')[0]}@{first}" in image.digests
            assert kubelet.run(name, policy="Never") == MESSAGE.decode()
        assert "pushed by 127.0.0.1" in explained(publishing, "team/app:1")
        tools.skopeo("copy", "-q", "--all", TO, f"oci-archive:{later}", target)
        second = published(publishing, "team/app:1")["digest"]
        assert second != first
        for name in names:
            kubelet.wait_image(name, lambda found: str(second) in " ".join(found.digests))
        tools.skopeo("delete", PLAIN, target)
        publishing.wait_for(
            lambda: not [i for i in kubelet.cri.images() if set(i.tags) & set(names)],
            what="the names are gone",
        )
    gone = explained(publishing, names[0])
    assert "team/app:1 is absent" in gone
    assert "last event: deleted" in gone
    assert "by 127.0.0.1" in gone


def test_containerd_pushes_and_what_is_no_image_is_left_alone(
    publishing: Agent, containerd: Containerd, tools: Tools
) -> None:
    archive = tools.directory / "hello.tar"
    write_sample(archive, format="docker")
    containerd.did("images", "import", *containerd.local, archive, namespace="other")
    target = f"{publishing.registry}/team/ctr:1"
    containerd.did("images", "push", "--plain-http", target, SAMPLE_NAME, namespace="other")
    digest = published(publishing, "team/ctr:1")["digest"]
    assert digest in containerd.did("images", "ls", f"name=={SAMPLE_NAME}", namespace="other")
    (tools.directory / "chart.tgz").write_bytes(b"a chart")
    chart = f"{publishing.registry}/team/chart:1"
    push = ("push", "--plain-http", "--artifact-type", "application/vnd.test", chart)
    tools.of("trixie", "oras", *push, "chart.tgz")
    tools.of("trixie", "oras", "attach", *push[1:4], target, "chart.tgz")
    tools.of("trixie", "oras", "pull", "--plain-http", "-o", "out", chart)
    [runtime] = publishing.images()["team/chart:1"]["runtimes"] or [{"state": ""}]
    assert runtime["state"] != "published"
    assert OCI_INDEX in publishing.get(f"/v2/team/ctr/referrers/{digest}")[1].decode()
    assert "complete" in containerd.did("images", "check", f"name=={target}")
    assert publishing.complaints() == []
