"""Which failures of a pull are a registry's answer."""

import pytest

from airside.containerd.image_puller import classified
from airside.core.errors import PullRefusedError

PULL = "containerd: ImageService.PullImage: "
START = 'failed to pull and unpack image "docker.io/library/app:1": failed to resolve reference '


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("NOT_FOUND", START + '"docker.io/library/app:1": docker.io/library/app:1: not found'),
        ("UNKNOWN", START + "pull access denied, repository does not exist or may require auth"),
        ("UNKNOWN", START + "unexpected status code [manifests 1]: 401 Unauthorized"),
        ("UNKNOWN", START + "unexpected status from HEAD request: 403 Forbidden"),
        ("NOT_FOUND", "no match for platform in manifest: not found"),
        ("INVALID_ARGUMENT", "something about the request"),
    ],
)
def test_what_a_registry_answered_is_a_refusal(status, said):
    error = classified(PULL + said, status)
    assert isinstance(error, PullRefusedError)
    assert error.message == f"containerd: {said}"
    assert error.context["status"] == status


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("UNKNOWN", START + "dial tcp 192.0.2.1:443: connect: connection refused"),
        ("UNKNOWN", START + "dial tcp: lookup registry.example: no such host"),
        ("NOT_FOUND", START + "app:1: not found; dial tcp 192.0.2.1:443: i/o timeout"),
        ("UNKNOWN", START + "unexpected status from HEAD request: 503 Service Unavailable"),
        ("UNAVAILABLE", "error reading server preface: EOF"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("UNKNOWN", "failed to extract layer: no space left on device"),
    ],
)
def test_what_never_reached_it_or_failed_here_is_none(status, said):
    assert not isinstance(classified(PULL + said, status), PullRefusedError)


def test_what_containerd_says_is_cut_where_it_is_long():
    assert len(classified(PULL + "x" * 5000, "UNKNOWN").message) == 1000
