"""What `explain` tells of names that only a runtime has, of lists, and of mirror settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.cli.main import main
from airside.containerd.mirror.apply import apply, plan_write
from airside.containerd.mirror.locations import HostsNode, RegistriesNode, find_nodes
from airside.core.errors import ContainerdError
from airside.core.host_root import HOST_ROOT
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.diagnostics.external_state import mirrors_of
from support.connected import connect_pullers
from support.images import docker_archive, random_image
from support.nodes import import_now, settings_at
from support.pullers import FakePuller
from support.runtimes import Held, MemoryRuntime

NAME = "docker.io/library/pulled:1"
SOCKET = "/run/test.sock"
AT = "127.0.0.1:5050"


def holding() -> MemoryRuntime:
    held, image = Held(), random_image("pulled")
    for blob in image.blobs:
        held.add(blob.raw)
    held.images[NAME] = image.digest
    return MemoryRuntime(held)


def told(node: Node, runtime: MemoryRuntime | None, what: str = NAME, **changes: Any) -> Any:
    settings = settings_at(node.settings.data, **changes)
    contents = [] if runtime is None else [(SOCKET, runtime)]
    return explain(node.catalog, what, place_of(settings, AT, lambda: contents))


@pytest.mark.parametrize(
    ("policy", "served", "word"),
    [
        ("open", False, "no record of kubelet"),
        ("true", True, "not to that containerd itself"),
        ("self", True, ""),
        ("digests", True, "by digest only"),
        ("false", False, "read_through is false"),
    ],
)
def test_a_name_that_only_a_runtime_has_tells_what_read_through_does(
    node: Node, policy: str, *, served: bool, word: str
) -> None:
    found = told(node, holding(), read_through=policy)
    [there] = found["runtimes"]
    assert (found["kind"], found["reference"], found["read_through"]) == ("runtime", NAME, policy)
    assert (there["socket"], there["served"]) == (SOCKET, served)
    assert word in there["reason"]
    by_digest = told(
        node, holding(), f"docker.io/library/pulled@{there['digest']}", read_through="true"
    )
    assert by_digest["runtimes"][0]["reason"] == ""


def test_an_image_that_is_not_whole_or_whose_runtime_is_away_is_not_served(node: Node) -> None:
    runtime = holding()
    runtime.held.drop(random_image("pulled").layers[0].digest)
    [there] = told(node, runtime)["runtimes"]
    assert not there["served"]
    assert str(random_image("pulled").layers[0].digest) in there["reason"]
    runtime.error = ContainerdError("away", status="UNAVAILABLE")
    assert told(node, runtime)["kind"] == "absent"


def test_what_the_catalog_has_is_not_asked_of_runtimes(node: Node, tmp_path: Path) -> None:
    docker_archive(tmp_path / "a.tar", {NAME: random_image("ours")})
    import_now(node, tmp_path / "a.tar")
    runtime = holding()
    assert told(node, runtime)["kind"] == "image"
    assert runtime.questions == 0


def test_a_list_tells_which_runtime_pulled_a_name(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, puller = tmp_path / "needed.txt", FakePuller()
    listed.write_text(f"{NAME}\n")
    connect_pullers(node, [puller])
    assert import_now(node, listed).state == "imported"
    found = told(node, None)
    assert found["kind"] == "runtime"
    [row] = found["lists"]
    assert (row["path"], row["pulled"], row["reason"]) == (str(listed), True, "")
    assert row["runtime"] == puller.runtime.partition(" ")[0]
    assert told(node, MemoryRuntime(Held()))["lists"] == [row]  # it is gone from there
    assert told(node, MemoryRuntime(Held()))["kind"] == "absent"
    assert main(["explain", "--data", str(node.settings.data), NAME]) == 0
    text = capsys.readouterr().out
    assert f"{listed}: pulled by {row['runtime']}" in text
    assert main(["explain", "--json", "--data", str(node.settings.data), NAME]) == 0
    assert json.loads(capsys.readouterr().out)["lists"] == [row]


def test_mirror_settings_are_told_of_each_runtime(tmp_path: Path) -> None:
    certs = tmp_path / "etc/containerd/certs.d"
    containerd = HostsNode("containerd", (certs,))

    def is_set(host: str) -> list[tuple[str, bool | None]]:
        return [
            (each["runtime"], each["set"])
            for each in mirrors_of(host, f"http://{AT}", find_nodes(tmp_path))
        ]

    assert is_set("docker.io") == [("containerd", False)]
    apply(plan_write([containerd], f"http://{AT}", ["docker.io"]))
    assert is_set("docker.io") == [("containerd", True)]
    assert is_set("quay.io") == [("containerd", False)]
    apply(plan_write([containerd], f"http://{AT}", None))
    assert is_set("quay.io") == [("containerd", True)]
    (certs / "ghcr.io").mkdir()  # a directory of its own: the default does not count there
    (certs / "ghcr.io/hosts.toml").write_text('server = "https://ghcr.io"\n')
    assert is_set("ghcr.io") == [("containerd", False)]
    (certs / "docker.io/hosts.toml").write_text("= no TOML")
    [broken] = mirrors_of("docker.io", f"http://{AT}", find_nodes(tmp_path))
    assert broken["set"] is False
    assert "docker.io/hosts.toml: it is not valid TOML" in broken["reason"]


def test_mirror_settings_of_k3s_are_told(tmp_path: Path) -> None:
    file = tmp_path / "etc/rancher/k3s/registries.yaml"
    file.parent.mkdir(parents=True)
    for host, every in (("docker.io", False), ("quay.io", True)):
        assert [each["set"] for each in mirrors_of(host, f"http://{AT}", find_nodes(tmp_path))] == [
            False
        ]
        k3s = RegistriesNode("k3s", file)
        apply(plan_write([k3s], f"http://{AT}", None if every else [host]))
        assert [each["set"] for each in mirrors_of(host, f"http://{AT}", find_nodes(tmp_path))] == [
            True
        ]


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_image_that_kubelet_asks_a_registry_for_says_why(
    node: Node,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    mirrored: bool,
) -> None:
    monkeypatch.setenv(HOST_ROOT, str(tmp_path / "host"))
    image = random_image("ours")
    docker_archive(tmp_path / "a.tar", {NAME: image})
    import_now(node, tmp_path / "a.tar")
    assert told(node, None)["kubelet"] is None
    manager = tmp_path / "host/var/lib/kubelet/image_manager"
    for name in ("pulled", "pulling"):
        (manager / name).mkdir(parents=True)
    assert told(node, None)["kubelet"]["asks"] is False
    if mirrored:
        certs = tmp_path / "host/etc/containerd/certs.d"
        apply(plan_write([HostsNode("containerd", (certs,))], f"http://{AT}", None))
    record = {"kind": "ImagePulledRecord", "imageRef": str(image.config.digest)}
    (manager / "pulled/sha256-x").write_text(json.dumps(record))
    found = told(node, None)["kubelet"]
    assert (found["policy"], found["asks"]) == ("NeverVerifyPreloadedImages", True)
    assert found["records"] == [str(manager / "pulled/sha256-x")]
    assert "no credentials for this name" in found["reason"]
    assert ("stop kubelet, delete" in found["advice"]) is not mirrored
    assert main(["explain", "--data", str(node.settings.data), NAME]) == 0
    assert "asks a registry although the image is present" in capsys.readouterr().out
