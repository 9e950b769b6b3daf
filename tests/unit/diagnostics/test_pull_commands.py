import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.diagnostics.pull_commands import (
    Pulled,
    mirror_url,
    name_in,
    pull_commands,
    reachable,
    served_names,
)
from airside.oci.platform import parse_platform
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


def commands(name, address=AT, **what):
    found = {}
    for client, command in pull_commands(name, address, Pulled(**what)):
        found.setdefault(client, []).append(command)
    return found


CHART = "application/vnd.cncf.helm.config.v1+json"
APP = parse_reference("registry.example/charts/app:1.2.3")


def test_an_artifact_is_pulled_by_those_who_know_it():
    found = commands(APP, artifact_type=CHART)
    where = f"oci://{AT}/registry.example/charts/app"
    assert found["helm"] == [f"helm pull --plain-http {where} --version 1.2.3"]
    assert "docker" not in found
    assert {"oras", "skopeo", "curl"} <= found.keys()
    assert "helm" not in commands(APP)


def test_helm_writes_a_plus_where_the_tag_cannot():
    [command] = commands(parse_reference("r.example/app:1.2_3"), artifact_type=CHART)["helm"]
    assert command.endswith(" --version 1.2+3")


def test_a_chart_without_a_tag_is_not_asked_of_helm():
    bare = parse_reference("r.example/app@sha256:" + "0" * 64)
    assert "helm" not in commands(bare, artifact_type=CHART)


def test_files_are_pulled_by_their_names_and_other_artifacts_as_a_layout():
    served = f"{AT}/{APP}"
    [pull] = commands(APP, artifact_type="x/y", files=True)["oras"]
    assert pull == f"oras pull --plain-http {served}"
    [copy] = commands(APP, artifact_type="x/y")["oras"]
    assert copy == f"oras copy --from-plain-http {served} --to-oci-layout DIR:1.2.3"


def test_what_is_for_another_node_is_asked_for_by_its_platform():
    arm = parse_platform("linux/arm/v7")
    found = commands(APP, platform=arm, other=True)
    for client in ("ctr", "nerdctl", "docker", "podman"):
        assert " --platform linux/arm/v7 " in found[client][0]
    assert "crictl" not in found
    assert "--platform" not in str(commands(APP, platform=arm))


def test_of_a_sparse_index_skopeo_copies_what_is_here():
    [command] = commands(APP, platform=parse_platform("linux/arm/v7"), sparse=True)["skopeo"]
    flags = "--override-os linux --override-arch arm --override-variant v7"
    assert command.startswith(f"skopeo {flags} copy --src-tls-verify=false ")
    assert " --all " in commands(APP)["skopeo"][0]


def test_skopeo_keeps_digests_where_a_layout_may_hold_the_documents():
    assert " --preserve-digests " in commands(APP, oci=True)["skopeo"][0]
    assert "--preserve-digests" not in commands(APP)["skopeo"][0]


def test_docker_is_told_of_a_registry_that_is_not_on_its_own_host():
    assert len(commands(APP)["docker"]) == 1
    assert '"insecure-registries": ["10.0.0.5:5050"]' in commands(APP, "10.0.0.5:5050")["docker"][0]


def test_what_has_no_host_is_pulled_by_the_registrys_address():
    bare = type(APP)(
        Repository("", "unnamed/x"), "", parse_reference("x@sha256:" + "0" * 64).digest
    )
    found = commands(bare)
    assert found["crictl"] == [f"crictl pull {AT}/{bare}"]
    assert found["containerd"] == [f"airside mirror write --registry {AT}"]


def test_containerd_is_told_of_a_registry_that_is_elsewhere():
    [command] = commands(APP, "127.0.0.1:6060")["containerd"]
    assert command == "airside mirror write --registry registry.example --address 127.0.0.1:6060"


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("0.0.0.0:5050", "127.0.0.1:5050"),
        ("[::]:5050", "[::1]:5050"),
        ("127.0.0.1:5050", "127.0.0.1:5050"),
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("", ""),
    ],
)
def test_commands_name_an_address_that_can_be_reached(listen, found):
    assert reachable(listen) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("docker://r.example/app:1", "r.example/app:1"),
        ("oci://r.example/chart:1", "r.example/chart:1"),
        ("https://r.example/app:1", "r.example/app:1"),
        (f"http://{AT}/v2/library/app/manifests/1", f"{AT}/library/app:1"),
        (f"http://{AT}/v2/app/manifests/1?ns=r.example:5000", "r.example:5000/app:1"),
        ("http://r/v2/a/b/manifests/sha256:ab", "r/a/b@sha256:ab"),
        ("r.example/v2/manifests:1", "r.example/v2/manifests:1"),
    ],
)
def test_a_name_is_found_in_what_clients_write(text, name):
    assert name_in(text) == name


@given(st.text())
def test_looking_for_a_name_in_any_text_fails_nowhere(text):
    assert isinstance(name_in(text), str)
    assert isinstance(reachable(text), str)


def test_another_directory_of_hosts_files_is_named():
    found = dict(pull_commands(APP, AT, Pulled(), "/run/certs"))
    assert found["containerd"] == (
        "airside mirror write --registry registry.example --certs-dir /run/certs"
    )
    assert "--hosts-dir /run/certs " in found["ctr"]
