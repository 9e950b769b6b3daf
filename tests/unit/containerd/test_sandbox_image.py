"""Which names can only be those of a sandbox image, and what is wanted."""

import pytest

from airside.containerd.sandbox_image import is_sandbox_name, wants


@pytest.mark.parametrize(
    "name",
    [
        "registry.k8s.io/pause:3.10",
        "k8s.gcr.io/pause-amd64:3.1",
        "docker.io/rancher/mirrored-pause:3.6",
        "registry.example:5000/pause@sha256:" + "0" * 64,
        "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5",
    ],
)
def test_the_sandbox_images_of_distributions_are_known_by_name(name: str) -> None:
    assert is_sandbox_name(name)


@pytest.mark.parametrize(
    "name", ["docker.io/library/app:pause", "docker.io/pause/app:1", "pause:5000/app", "unpaused"]
)
def test_other_images_are_not_taken_for_one(name: str) -> None:
    assert not is_sandbox_name(name)


def test_an_image_is_wanted_by_any_name_or_by_its_id() -> None:
    names, image_id = ("docker.io/library/app:1", "docker.io/library/app@sha256:a"), "sha256:b"
    assert not wants(frozenset({"docker.io/library/other:1", "sha256:c"}), names, image_id)
    for wanted in (*names, image_id):
        assert wants(frozenset({wanted}), names, image_id)
