"""Which images kubelet's files name."""

import json
from pathlib import Path

from airside.containerd.pod_files import images_in_pod_files
from airside.oci.digest import digest_of

DIGEST = digest_of(b"x")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_static_pods_of_every_place_and_form(tmp_path: Path) -> None:
    put(
        tmp_path / "etc/kubernetes/manifests/etcd.yaml",
        f"""
spec:
  containers:
  - image: registry.k8s.io/etcd:3.5   # of kubeadm
    name: etcd
  - name: "b"
    "image": 'nginx@{DIGEST}'
    imagePullPolicy: IfNotPresent
  # image: registry.example/commented:1
  initContainers: [{{name: c, image: busybox}}]
""",
    )
    put(
        tmp_path / "var/lib/rancher/k3s/agent/pod-manifests/x.json",
        json.dumps({"spec": {"containers": [{"image": f"a.example:5000/x:1@{DIGEST}"}]}}),
    )
    put(tmp_path / "etc/kubernetes/manifests/.hidden.yaml", "image: registry.example/hidden:1")
    put(tmp_path / "var/lib/kubelet/config.yaml", "kind: X\nstaticPodPath: /opt/pods\n")
    put(tmp_path / "opt/pods/p.yaml", "  image: {{ .Template }}\n  image: registry.example/p:2")
    (tmp_path / "etc/kubernetes/manifests/directory.yaml").mkdir()
    (tmp_path / "etc/kubernetes/manifests/gone.yaml").symlink_to("nowhere")
    assert images_in_pod_files(tmp_path) == {
        "registry.k8s.io/etcd:3.5",
        f"docker.io/library/nginx@{DIGEST}",
        "docker.io/library/busybox:latest",
        "a.example:5000/x:1",
        f"a.example:5000/x@{DIGEST}",
        "registry.example/p:2",
    }


def test_pulls_that_run(tmp_path: Path) -> None:
    pulling = tmp_path / "var/lib/kubelet/image_manager/pulling"
    record = {"kind": "ImagePullIntent", "image": "registry.example/app:1"}
    put(pulling / "sha256-1", json.dumps(record))
    for number, text in enumerate(("", "[]", "{}", "x", '{"image": ":"}')):
        put(pulling / f"sha256-bad{number}", text)
    assert images_in_pod_files(tmp_path) == {"registry.example/app:1"}


def test_a_host_without_kubelet_wants_nothing(tmp_path: Path) -> None:
    assert images_in_pod_files(tmp_path / "absent") == frozenset()
