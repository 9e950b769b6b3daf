import pytest

from airside.clients import mirror_url, pull_commands, served_names
from airside.oci.reference import Repository, parse_reference

AT = "127.0.0.1:5050"


@pytest.mark.parametrize(
    ("name", "served", "mirror"),
    [
        (
            "busybox:1",
            [f"{AT}/docker.io/library/busybox:1", f"{AT}/library/busybox:1"],
            f"http://{AT}/v2/library/busybox/manifests/1?ns=docker.io",
        ),
        (
            "registry.example:5000/app:1",
            [f"{AT}/registry.example_5000/app:1", f"{AT}/app:1"],
            f"http://{AT}/v2/app/manifests/1?ns=registry.example:5000",
        ),
    ],
)
def test_names_are_served_whole_and_short(name, served, mirror):
    reference = parse_reference(name)
    assert served_names(reference, AT) == served
    assert mirror_url(reference, AT) == mirror


def test_without_a_host_there_is_one_name():
    reference = parse_reference("x@sha256:" + "0" * 64)
    bare = type(reference)(Repository("", "unnamed/x"), "", reference.digest)
    assert served_names(bare, AT) == [f"{AT}/unnamed/x@{reference.digest}"]


def test_an_artifact_is_pulled_by_those_who_know_it():
    chart = parse_reference("registry.example/charts/app:1.2.3")
    found = dict(pull_commands(chart, AT, "application/vnd.cncf.helm.config.v1+json"))
    where = f"oci://{AT}/registry.example/charts/app"
    assert found["helm"] == f"helm pull --plain-http {where} --version 1.2.3"
    assert "docker" not in found
    assert {"oras", "skopeo", "curl"} <= found.keys()
    assert "helm" not in dict(pull_commands(chart, AT, ""))
