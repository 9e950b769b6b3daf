"""Which present images kubelet asks a registry for, as its image pull manager decides."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from airside.containerd.kubelet_files import kubelet_roots
from airside.containerd.kubelet_pulls import PullPolicy, read_kubelet_pulls
from airside.oci.digest import parse_digest
from airside.oci.reference import parse_reference

ID, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
OPEN = {"nodePodsAccessible": True}
SECRET = {"kubernetesSecrets": [{"uid": "1", "namespace": "a", "name": "b", "credentialHash": "c"}]}
HUB, SITE = "docker.io/library/app", "site.example:5000/team/app"
MANAGER = "var/lib/kubelet/image_manager"


def put(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def cached(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


def pulled(root: Path, image_id: str, manager: str = MANAGER, **mapping: Any) -> Path:
    value = {"kind": "ImagePulledRecord", "imageRef": image_id, "credentialMapping": mapping}
    (root / manager / "pulling").mkdir(parents=True, exist_ok=True)
    return put(root, f"{manager}/pulled/{cached(image_id)}", json.dumps(value))


def pulling(root: Path, image: str) -> Path:
    (root / MANAGER / "pulled").mkdir(parents=True, exist_ok=True)
    value = {"kind": "ImagePullIntent", "image": image}
    return put(root, f"{MANAGER}/pulling/{cached(image)}", json.dumps(value))


def policy(root: Path, name: str, *allowed: str) -> None:
    text = f"imagePullCredentialsVerificationPolicy: {name}\n"
    if allowed:
        text += "preloadedImagesVerificationAllowlist:\n" + "".join(f'- "{a}"\n' for a in allowed)
    put(root, "var/lib/kubelet/config.yaml", text)


def doubt(root: Path, name: str, image_id: str = ID) -> str | None:
    found = read_kubelet_pulls(root).doubt_of(parse_reference(name), parse_digest(image_id))
    return found.kind if found is not None else None


POLICIES = {
    # what was dropped and never pulled, recorded with a secret, recorded for another name, open
    "": (None, "secret", "record", None),
    "NeverVerify": (None, None, None, None),
    "NeverVerifyPreloadedImages": (None, "secret", "record", None),
    "NeverVerifyAllowlistedImages": ("policy", "secret", "record", None),
    "AlwaysVerify": ("policy", "secret", "record", None),
}


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_asks_as_kubelet_does(tmp_path: Path, name: str) -> None:
    if name:
        policy(tmp_path, name, "listed.example/team/*")
    dropped, secret, other, opened = POLICIES[name]
    pulled(tmp_path, ID, **{HUB: SECRET, "open.example/app": OPEN})
    assert doubt(tmp_path, f"{HUB}:1", OTHER) == dropped
    assert doubt(tmp_path, f"{HUB}:1") == secret
    assert doubt(tmp_path, f"{SITE}:1") == other
    assert doubt(tmp_path, "open.example/app:1") == opened


@pytest.mark.parametrize(
    ("name", "is_listed"),
    [
        ("listed.example/app:1", True),
        ("listed.example/app/more:1", False),
        ("listed.example/team/app:1", True),
        ("listed.example/teams/app:1", False),
        (f"docker.io/library/app@{ID}", True),
    ],
)
def test_an_allowlist_names_repositories_or_all_below(
    tmp_path: Path, name: str, *, is_listed: bool
) -> None:
    policy(
        tmp_path, "NeverVerifyAllowlistedImages", "listed.example/app", "listed.example/team/*", HUB
    )
    pulled(tmp_path, OTHER, **{HUB: SECRET})
    assert doubt(tmp_path, name) == (None if is_listed else "policy")
    assert is_listed is (doubt(tmp_path, name, OTHER) is None)  # recorded or not


@pytest.mark.parametrize("image", ["app:1", "docker.io/library/app:1"])
def test_a_pull_that_was_broken_off_makes_kubelet_ask(tmp_path: Path, image: str) -> None:
    file = pulling(tmp_path, image)
    assert doubt(tmp_path, f"{HUB}:1") == "intent"
    assert doubt(tmp_path, f"{HUB}:2") is None
    pulls = read_kubelet_pulls(tmp_path)
    found = pulls.doubt_of(parse_reference(f"{HUB}:1"), None)
    assert found is not None
    assert found.files == (file,)
    pulled(tmp_path, ID)  # what kubelet makes of it when it starts: no credentials at all
    assert doubt(tmp_path, f"{HUB}:1") == "record"


def test_a_record_that_kubelet_cannot_read_makes_it_ask_under_every_policy(tmp_path: Path) -> None:
    file = pulled(tmp_path, ID)
    file.write_text(file.read_text()[:-5])
    policy(tmp_path, "NeverVerify")
    assert doubt(tmp_path, f"{HUB}:1") == "damaged"
    assert doubt(tmp_path, f"{HUB}:1", OTHER) is None


def test_without_records_the_default_policy_asks_for_nothing(tmp_path: Path) -> None:
    found = read_kubelet_pulls(tmp_path)
    assert (found.is_kept, found.policy, found.unread) == (False, PullPolicy(), None)
    assert doubt(tmp_path, f"{HUB}:1") is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "etc/kubernetes/kubelet.conf.d/90-site.conf",
            "imagePullCredentialsVerificationPolicy: AlwaysVerify\n",
        ),
        (
            "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/x.conf",
            '{"imagePullCredentialsVerificationPolicy": "AlwaysVerify"}',
        ),
    ],
)
def test_a_drop_in_overrides_the_configuration(tmp_path: Path, path: str, text: str) -> None:
    policy(tmp_path, "NeverVerify")
    file = put(tmp_path, path, text)
    assert read_kubelet_pulls(tmp_path).policy == PullPolicy("AlwaysVerify", (), file)
    file.rename(file.with_suffix(".conf.bak"))
    assert read_kubelet_pulls(tmp_path).policy.name == "NeverVerify"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/7/cmdline", "/usr/bin/kubelet\0--config=/x/k\0--config-dir=/x/d\0--root-dir=/x/r\0"),
        ("proc/7/cmdline", "kubelet\0--config\0/x/k\0--config-dir\0/x/d\0--root-dir\0/x/r"),
        (
            "etc/rancher/k3s/config.yaml",
            'kubelet-arg:\n- "config=/x/k"\n- config-dir=/x/d\n- root-dir=/x/r\n',
        ),
        (
            "var/snap/microk8s/current/args/kubelet",
            "--config=/x/k\n--config-dir=/x/d\n--root-dir=/x/r\n",
        ),
        (
            "var/lib/kubelet/kubeadm-flags.env",
            'KUBELET_KUBEADM_ARGS="--config=/x/k --config-dir=/x/d --root-dir=/x/r"\n',
        ),
    ],
)
def test_places_that_flags_name_are_read(tmp_path: Path, path: str, text: str) -> None:
    put(tmp_path, path, text)
    put(tmp_path, "x/k", "imagePullCredentialsVerificationPolicy: NeverVerify\n")
    file = put(
        tmp_path,
        "x/d/1.conf",
        "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"
        "preloadedImagesVerificationAllowlist: [a.example/b, c.example/*]\n",
    )
    record = pulled(tmp_path, ID, "x/r/image_manager", **{HUB: SECRET})
    found = read_kubelet_pulls(tmp_path)
    names = ("a.example/b", "c.example/*")
    assert found.policy == PullPolicy("NeverVerifyAllowlistedImages", names, file)
    assert [path for path, _ in found.records[parse_digest(ID)]] == [record]
    assert kubelet_roots(tmp_path)[0] == tmp_path / "var/lib/kubelet"


def test_a_feature_that_is_off_asks_for_nothing(tmp_path: Path) -> None:
    pulled(tmp_path, ID, **{HUB: SECRET})
    put(
        tmp_path,
        "var/lib/kubelet/config.yaml",
        "featureGates:\n  KubeletEnsureSecretPulledImages: false\n",
    )
    assert doubt(tmp_path, f"{HUB}:1") is None


@pytest.mark.parametrize(("drop_in", "name"), [("true", "AlwaysVerify"), ("false", "NeverVerify")])
def test_the_last_file_that_names_the_feature_turns_it_on_or_off(
    tmp_path: Path, drop_in: str, name: str
) -> None:
    other = "false" if drop_in == "true" else "true"
    gate = "featureGates:\n  KubeletEnsureSecretPulledImages: "
    put(tmp_path, "var/lib/kubelet/config.yaml", f"{gate}{other}\n")
    directory = "etc/kubernetes/kubelet.conf.d"
    put(tmp_path, f"{directory}/10-gate.conf", f"{gate}{drop_in}\n")
    put(
        tmp_path,
        f"{directory}/20-policy.conf",
        "imagePullCredentialsVerificationPolicy: AlwaysVerify\n",
    )
    assert read_kubelet_pulls(tmp_path).policy.name == name


@pytest.mark.parametrize(
    "listed",
    [
        ': [\n  "a.example/b", # ours\n  "c.example/*"\n]\n',
        ":\r\n- a.example/b # ours\r\n# theirs\r\n- 'c.example/*'\r\n",
        ':\n  - "a.example/b"\n  - c.example/*',
    ],
)
def test_an_allowlist_is_read_in_each_style(tmp_path: Path, listed: str) -> None:
    put(tmp_path, "var/lib/kubelet/config.yaml", f"preloadedImagesVerificationAllowlist{listed}")
    assert read_kubelet_pulls(tmp_path).policy.allowlist == ("a.example/b", "c.example/*")
