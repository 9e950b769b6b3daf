"""Which images kubelet's records call open, and what on the node forbids to believe them."""

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.containerd.pull_records import (
    PullRecords,
    credential_hosts,
    parse_record,
    read_opened,
)
from airside.core.host_root import HOST_ROOT
from airside.oci.digest import parse_digest
from airside.oci.reference import Repository

RECORDS = ("var/lib/kubelet/image_manager/pulled", "var/lib/k0s/kubelet/image_manager/pulled")
ID, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HUB, SITE = Repository("docker.io", "library/app"), Repository("site.example:5000", "team/app")
OPEN = {"nodePodsAccessible": True}
SECRET = {"kubernetesSecrets": [{"uid": "1", "namespace": "a", "name": "b", "credentialHash": "c"}]}
ACCOUNT = {"kubernetesServiceAccounts": [{"uid": "1", "namespace": "a", "name": "b"}]}


def record(image, **mapping):
    return {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1alpha1",
        "lastUpdatedTime": "2026-11-30T12:00:00Z",
        "imageRef": image,
        "credentialMapping": mapping,
    }


def write(root, value, directory=RECORDS[0]):
    raw = json.dumps(value).encode()
    name = "sha256-" + hashlib.sha256(str(value).encode()).hexdigest()
    (root / directory).mkdir(parents=True, exist_ok=True)
    (root / directory / name).write_bytes(raw)


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_an_image_is_open_where_a_record_says_so(tmp_path):
    assert read_opened(tmp_path) == {}
    write(tmp_path, record(ID, **{"app": OPEN, "site.example:5000/team/app": SECRET}))
    write(tmp_path, record(f"site.example:5000/team/app@{OTHER}", **{str(SITE): OPEN}), RECORDS[1])
    opened = read_opened(tmp_path)
    assert opened == {HUB: {parse_digest(ID)}, SITE: {parse_digest(OTHER)}}


@pytest.mark.parametrize(
    "credentials",
    [SECRET, ACCOUNT, {}, {"nodePodsAccessible": False}, {"nodePodsAccessible": "true"},
     {"nodePodsAccessible": 1}, {**OPEN, **SECRET}, {**OPEN, **ACCOUNT},
     {**OPEN, "kubernetesSecretCoordinates": [{"name": "b"}]}],
)  # fmt: skip
def test_an_image_that_came_with_a_secret_is_not_open(tmp_path, credentials):
    write(tmp_path, record(ID, app=credentials))
    assert not read_opened(tmp_path).get(HUB)


def test_a_secret_in_any_record_counts(tmp_path):
    write(tmp_path, record(ID, app=OPEN))
    assert read_opened(tmp_path)[HUB]
    write(tmp_path, record(ID, **{"docker.io/library/app": SECRET}), RECORDS[1])
    assert not read_opened(tmp_path)[HUB]


def test_what_is_malformed_or_no_file_opens_nothing(tmp_path):
    write(tmp_path, record("latest", app=OPEN))
    write(tmp_path, record(ID, UPPER=OPEN))
    write(tmp_path, {**record(ID, app=OPEN), "kind": "ImagePullIntent"})
    write(tmp_path, [record(ID, app=OPEN)])
    write(tmp_path, record(ID, app=None))
    directory = tmp_path / RECORDS[0]
    (directory / "cut").write_bytes(json.dumps(record(ID, app=OPEN)).encode()[:-3])
    (directory / "deep").write_bytes(b"[" * 100_000)
    (directory / "x.tmp").write_text(json.dumps(record(ID, app=OPEN)))
    outside = tmp_path / "outside"
    outside.write_text(json.dumps(record(ID, app=OPEN)))
    (directory / "link").symlink_to(outside)
    os.mkfifo(directory / "fifo")
    assert read_opened(tmp_path) == {}


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(raw):
    assert parse_record(raw) is None


@pytest.mark.parametrize(
    ("path", "text", "hosts"),
    [
        ("root/.dockercfg", '{"https://index.docker.io/v1/": {}}', {"docker.io"}),
        ("var/lib/kubelet/config.json", '{"auths": {"site.example:5000": {}}}', {SITE.host}),
        ("root/.docker/config.json", '{"auths": {"*.example": {}}}', None),
        ("root/.docker/config.json", '{"credsStore": "pass"}', None),
        ("root/.docker/config.json", "nonsense", None),
        ("var/lib/rancher/credentialprovider/config.yaml", "providers:", None),
        ("etc/eks/image-credential-provider/config.json", "{}", None),
        ("proc/77/cmdline", "kubelet\0--image-credential-provider-config=/x\0", None),
        ("proc/77/cmdline", "kubelet\0--config=/x\0", set()),
        ("etc/rancher/k3s/config.yaml", "image-credential-provider-config: /x", None),
        ("etc/rancher/rke2/config.yaml.d/a.yaml",
         "kubelet-arg:\n- image-credential-provider-config=/x", None),
        ("etc/rancher/k3s/config.yaml", "disable: traefik", set()),
        ("var/snap/microk8s/current/args/kubelet", "--image-credential-provider-config=/x", None),
        ("etc/containerd/config.toml", '[plugins."x".registry.configs."a".auth]', None),
        ("etc/containerd/config.toml", '# password = "x"\n[plugins."x".registry.auths]', set()),
        ("etc/rancher/k3s/registries.yaml", "configs:\n  a:\n    auth:\n      username: u", None),
        ("etc/rancher/k3s/registries.yaml", "mirrors:\n  a:\n    endpoint: [http://b]", set()),
        ("etc/containerd/certs.d/a.example/hosts.toml", 'Authorization = "Basic x"', {"a.example"}),
        ("etc/containerd/certs.d/site.example_5000_/hosts.toml", 'Authorization = ""', {SITE.host}),
        ("etc/containerd/certs.d/site.example_5000_/client.key", "BEGIN", {SITE.host}),
        ("etc/containerd/certs.d/a/hosts.toml", 'client = [["/a.crt", "/a.key"]]', {"a"}),
        ("etc/rancher/k3s/registries.yaml", "configs:\n  a:\n    tls:\n      key_file: /k", None),
        ("etc/containerd/config.toml", 'tls_key_file = ""\ntcp_tls_key = ""', set()),
        ("etc/containerd/certs.d/_default/hosts.toml", 'authorization = "Basic x"', None),
    ],
)  # fmt: skip
def test_credentials_of_the_node_are_seen(tmp_path, path, text, hosts):
    """With them a pull has a secret although kubelet's record says that every pod may use it."""
    assert credential_hosts(tmp_path) == set()
    put(tmp_path, path, text)
    assert credential_hosts(tmp_path) == hosts
    write(tmp_path, record(ID, **{"app": OPEN, str(SITE): OPEN}))
    opened = read_opened(tmp_path)
    assert set(opened) == {r for r in (HUB, SITE) if hosts is not None and r.host not in hosts}


def test_records_are_read_again_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setenv(HOST_ROOT, str(tmp_path))
    now = [0.0]
    records = PullRecords(lambda: now[0])
    assert records.opened(HUB) == frozenset()
    write(tmp_path, record(ID, app=OPEN))
    assert records.opened(HUB) == frozenset()
    now[0] = 6.0
    assert records.opened(HUB) == {parse_digest(ID)}
