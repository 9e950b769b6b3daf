"""Which pods wait for an image, by the containers of CRI."""

import pytest

from airside.containerd.services.containers import ContainerRecord
from airside.containerd.starting_pods import has_starting_pod


def container(pod: str, kind: str) -> ContainerRecord:
    labels = {"io.kubernetes.pod.uid": pod, "io.cri-containerd.kind": kind}
    return ContainerRecord(f"{pod}-{kind}", "image", "overlayfs", "key", labels)


@pytest.mark.parametrize(
    ("containers", "starts"),
    [
        ([], False),
        ([("a", "sandbox")], True),
        ([("a", "sandbox"), ("a", "container")], False),
        ([("a", "container"), ("a", "sandbox"), ("b", "sandbox")], True),
        ([("a", "container")], False),
    ],
)
def test_a_sandbox_without_a_container_is_a_pod_that_starts(
    containers: list[tuple[str, str]], *, starts: bool
) -> None:
    assert has_starting_pod([container(*each) for each in containers]) == starts


def test_containers_of_others_are_no_pods() -> None:
    assert not has_starting_pod([ContainerRecord("nerdctl", "image", "overlayfs", "key")])
