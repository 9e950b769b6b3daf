"""The Helm chart, rendered by Helm itself, and what is made of it for Kustomize and K3s."""

import itertools
import subprocess
import tomllib

import jsonschema
import kubernetes_validate
import pytest
import yaml

import airside
from support import debian
from support.waiting import LIMIT_SECONDS

pytest.importorskip("helm_python", reason="helm-python-sdk has a wheel for amd64 only")

import manifests
import package_chart
from helm_python import chart, errors

FILES = sorted(path.stem for path in (manifests.CHART / "values").glob("*.yaml"))
OLDEST, NEWEST = "1.25", "1.36"
KUBECTL = {"bookworm": "kubernetes-client", "trixie": "kubectl"}
"""Debian's kubectl 1.20 and 1.32, by release."""
EVERYTHING = {
    "image": {"digest": "sha256:" + 64 * "a", "pullSecrets": ["login"]},
    "secret": "airside-files",
    "registry": {"listen": "0.0.0.0:5443", "scheme": "HTTPS"},
    "config": 'tls_cert = "/etc/airside-secret/tls.pem"\n\n[limits]\nnames = 5\n',
    "images": {"path": "/srv/images", "mountPropagation": ""},
    "mirror": {"only": True, "strict": True, "registries": ["docker.io", "quay.io"]},
    "metrics": {"podMonitor": {"create": True, "labels": {"release": "prometheus"}}},
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
    },
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"example.org/a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux", "site": "north"},
}
CASES = {"defaults": {}, "everything": EVERYTHING} | {
    name: manifests.values_of(name) for name in FILES
}
_CRDS = {"monitoring.coreos.com/v1"}


def objects(values, **options):
    return {(o["kind"], o["metadata"]["name"]): o for o in manifests.render(values, **options)}


def daemon_set(values=None):
    return objects(values or {})["DaemonSet", "airside"]


def pod(values=None):
    return daemon_set(values)["spec"]["template"]["spec"]


def agent(values=None):
    return pod(values)["containers"][0]


def settings(values=None):
    return tomllib.loads(objects(values or {})["ConfigMap", "airside"]["data"]["airside.toml"])


@pytest.mark.parametrize("case", CASES)
def test_helm_lints_the_chart_without_a_warning(case):
    report = chart.lint(manifests.CHART, CASES[case], strict=True, kube_version="v1.36.0")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize(
    ("case", "version"),
    [*itertools.product(CASES, (OLDEST, NEWEST)), ("everything", "1.29"), ("everything", "1.33")],
)
def test_each_object_is_valid_by_the_strict_schema_of_kubernetes(case, version):
    for found in manifests.render(CASES[case]):
        if found["apiVersion"] not in _CRDS:
            kubernetes_validate.validate(found, version, strict=True)


def test_the_schemas_refuse_a_misspelt_field():
    found = daemon_set()
    found["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, OLDEST, strict=True)


@pytest.mark.parametrize(
    "values",
    [
        {"mirrors": {}},
        {"mirror": {"mode": "maybe"}},
        {"data": "relative"},
        {"registry": {"listen": "::1:5050"}},
        {"containerd": {"root": "/with a space"}},
        {"bootstrap": {"archives": ["$(reboot)"]}},
    ],
)
def test_values_that_cannot_be_meant_are_refused(values):
    with chart.Chart.load(manifests.CHART) as loaded, pytest.raises(errors.HelmValuesError):
        loaded.validate_schema(values)


def test_data_follow_containerds_root_and_nothing_outside_of_it_is_taken():
    assert settings({"containerd": {"root": "/srv/c"}})["data"] == "/srv/c/airside"
    assert settings({"data": "/var/lib/containerd/x/y"})["data"] == "/var/lib/containerd/x/y"
    for outside in ("/srv/airside", "/var/lib/containerd2/airside", "/var/lib/containerd"):
        with pytest.raises(errors.HelmError, match=r"must be below containerd\.root"):
            objects({"data": outside})


def test_files_that_the_settings_name_come_from_a_secret_for_root_alone():
    spec = pod(EVERYTHING)
    [volume] = [v for v in spec["volumes"] if v["name"] == "secret"]
    assert volume["secret"] == {"secretName": "airside-files", "defaultMode": 0o400}
    for container in (*spec["initContainers"], *spec["containers"]):
        [mount] = [m for m in container["volumeMounts"] if m["name"] == "secret"]
        assert settings(EVERYTHING)["tls_cert"].startswith(f"{mount['mountPath']}/")
    assert spec["imagePullSecrets"] == [{"name": "login"}]
    assert "imagePullSecrets" not in pod()


def test_the_schema_of_the_values_is_one():
    with chart.Chart.load(manifests.CHART) as loaded:
        jsonschema.Draft7Validator.check_schema(loaded.schema)


@pytest.mark.parametrize("case", CASES)
def test_the_containers_have_least_privilege(case):
    spec = pod(CASES[case])
    assert "hostPID" not in spec
    assert "hostIPC" not in spec
    assert spec["automountServiceAccountToken"] is False
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "runAsGroup": 0,
            "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


@pytest.mark.parametrize("case", CASES)
def test_the_pods_go_to_every_node_and_one_at_a_time(case):
    found = daemon_set(CASES[case])["spec"]
    rolling = found["updateStrategy"]["rollingUpdate"]
    assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (0, 1)
    spec = found["template"]["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["hostNetwork"] is True


@pytest.mark.parametrize("case", CASES)
def test_one_mount_at_containerds_own_path_has_its_root_and_the_data(case):
    values = CASES[case]
    spec, data = pod(values), settings(values)["data"]
    host = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    root = host["containerd-root"]
    assert mounts[root]["name"] == "containerd-root"
    assert not mounts[root].get("readOnly")
    assert [path for path in mounts if f"{data}/".startswith(f"{path}/")] == [root]


@pytest.mark.parametrize("case", CASES)
def test_the_sockets_directory_is_mounted_and_not_the_file(case):
    spec = pod(CASES[case])
    [volume] = [v for v in spec["volumes"] if v["name"] == "containerd-socket"]
    assert volume["hostPath"]["type"] == "Directory"
    assert not volume["hostPath"]["path"].endswith(".sock")
    [socket] = settings(CASES[case])["runtime"]
    assert socket.startswith(f"/host{volume['hostPath']['path']}/")


@pytest.mark.parametrize("case", CASES)
def test_each_mount_has_its_volume_and_each_volume_is_mounted(case):
    spec = pod(CASES[case])
    containers = (*spec["initContainers"], *spec["containers"])
    used = {m["name"] for c in containers for m in c["volumeMounts"]}
    assert used == {v["name"] for v in spec["volumes"]}


def test_images_are_read_only_and_propagate_where_their_mount_is_shared():
    def images(values):
        return next(m for m in agent(values)["volumeMounts"] if m["name"] == "images")

    assert images({})["readOnly"] is True
    assert images({})["mountPropagation"] == "HostToContainer"
    assert "mountPropagation" not in images({"images": {"mountPropagation": ""}})


@pytest.mark.parametrize("case", CASES)
def test_the_agents_settings_are_valid(case, tmp_path):
    from airside.core.config import load_settings  # noqa: PLC0415 - used here alone

    found = objects(CASES[case])["ConfigMap", "airside"]["data"]["airside.toml"]
    file = tmp_path / "airside.toml"
    file.write_text(found.replace("/etc/airside-secret/tls.pem", ""))
    if case == "everything":
        found = found.replace('listen = "0.0.0.0:5443"', 'listen = "127.0.0.1:5443"')
        file.write_text(found)
    loaded = load_settings(file=file, environ={}, flags={}).settings
    assert str(loaded.data) == settings(CASES[case])["data"]
    assert [str(each.path) for each in loaded.images] == [
        CASES[case].get("images", {}).get("path", "/var/lib/airside/images")
    ]


def test_the_probes_ask_the_registry_on_the_node_and_readiness_asks_for_the_runtime():
    found = agent()
    for name, path in (("startupProbe", "healthz"), ("livenessProbe", "healthz")):
        assert found[name]["httpGet"]["path"] == f"/{path}"
    assert found["readinessProbe"]["httpGet"] == {
        "host": "127.0.0.1",
        "port": "registry",
        "path": "/readyz",
        "scheme": "HTTP",
    }


@pytest.mark.parametrize(
    ("listen", "host"),
    [("0.0.0.0:5443", "127.0.0.1"), ("[::]:5443", "::1"), ("10.1.2.3:5443", "10.1.2.3")],
)
def test_the_probes_follow_the_address_of_the_registry(listen, host):
    found = agent({"registry": {"listen": listen, "scheme": "HTTPS"}})
    assert found["readinessProbe"]["httpGet"]["host"] == host
    assert found["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert found["ports"][0]["containerPort"] == 5443


@pytest.mark.parametrize(
    ("mode", "args"),
    [
        ("write", ["mirror", "write", "--config=/etc/airside/airside.toml", "--all"]),
        ("remove", ["mirror", "remove"]),
    ],
)
def test_an_init_container_writes_the_mirror_or_removes_it(mode, args):
    [found] = pod({"mirror": {"mode": mode}})["initContainers"]
    assert found["args"] == [*args, "--notes-file=/dev/termination-log"]


def test_without_a_mirror_none_of_containerds_settings_is_mounted():
    spec = pod({"mirror": {"mode": "off"}})
    assert not spec.get("initContainers")
    assert not [v for v in spec["volumes"] if v["name"].startswith("mirror")]
    assert "lifecycle" not in spec["containers"][0]


def test_a_stop_removes_the_mirror_and_a_start_writes_it_where_that_needs_no_restart():
    stop = {"exec": {"command": ["airside", "mirror", "remove"]}}
    start = agent(EVERYTHING)["lifecycle"]["postStart"]["exec"]["command"]
    [init] = pod(EVERYTHING)["initContainers"]
    assert start == ["airside", *init["args"][:-1], "--data=/run"]
    assert agent()["lifecycle"]["preStop"] == stop
    assert "lifecycle" not in agent(manifests.values_of("k3s"))
    assert "lifecycle" not in agent(manifests.values_of("rke2"))


def test_the_namespace_allows_what_the_pods_need_and_can_be_somebody_elses():
    found = objects({})["Namespace", "airside-system"]
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    others = objects({"namespace": {"name": "kube-system", "create": False}})
    assert not [name for kind, name in others if kind == "Namespace"]
    assert {o["metadata"]["namespace"] for o in others.values()} == {"kube-system"}


def test_a_change_of_the_settings_rolls_the_pods():
    def checksum(values):
        annotations = daemon_set(values)["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/config"]

    assert checksum({}) != checksum({"config": "retention = 2\n"})
    assert checksum({}) == checksum({"podAnnotations": {"a": "b"}})


def test_the_pod_monitor_has_the_shape_of_its_crd():
    found = objects(EVERYTHING)["PodMonitor", "airside"]
    assert found["metadata"]["labels"]["release"] == "prometheus"
    spec = found["spec"]
    assert set(spec) == {"selector", "namespaceSelector", "podMetricsEndpoints"}
    labels = daemon_set(EVERYTHING)["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    [endpoint] = spec["podMetricsEndpoints"]
    assert set(endpoint) == {"port", "path", "scheme", "interval", "relabelings"}
    assert endpoint["port"] in [p["name"] for p in agent(EVERYTHING)["ports"]]
    assert (endpoint["port"], endpoint["scheme"]) == ("registry", "https")


def test_metrics_of_an_address_of_their_own_are_scraped_there():
    values = {"metrics": {"listen": "0.0.0.0:9105", "podMonitor": {"create": True}}}
    [endpoint] = objects(values)["PodMonitor", "airside"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["scheme"]) == ("metrics", "http")
    assert {p["name"]: p["containerPort"] for p in agent(values)["ports"]}["metrics"] == 9105
    assert settings(values)["metrics_listen"] == "0.0.0.0:9105"
    [rule] = objects(values)["NetworkPolicy", "airside"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [5050, 9105]


def test_the_network_policy_selects_the_pods_and_closes_the_way_out():
    found = objects({})["NetworkPolicy", "airside"]["spec"]
    labels = daemon_set()["spec"]["template"]["metadata"]["labels"]
    assert found["podSelector"]["matchLabels"].items() <= labels.items()
    assert found["egress"] == []
    assert found["ingress"] == [{"ports": [{"protocol": "TCP", "port": 5050}]}]


def test_the_charts_version_is_the_programs():
    with chart.Chart.load(manifests.CHART) as loaded:
        assert loaded.metadata["version"] == loaded.metadata["appVersion"] == airside.__version__


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("case", ["defaults", *FILES])
def test_systemd_finds_no_fault_in_the_unit_for_the_host(case, tmp_path):
    values = {**CASES[case]}
    values["bootstrap"] = {**values.get("bootstrap", {}), "ctr": "/bin/true"}
    unit = objects(values)["ConfigMap", "airside-bootstrap"]["data"]["airside-bootstrap.service"]
    file = tmp_path / "airside-bootstrap.service"
    file.write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    faults = [line for line in done.stderr.splitlines() if file.name in line]
    assert (done.returncode, faults) == (0, []), done.stderr


# the packed chart


def test_the_packed_chart_is_the_same_bytes_each_time_and_helm_renders_it_alike():
    packed = package_chart.packed()
    assert package_chart.packed() == packed
    with chart.Chart.load_archive(packed) as one, chart.Chart.load(manifests.CHART) as other:
        assert one.render(name="a") == other.render(name="a")
        assert one.schema == other.schema
        assert {f["name"] for f in one.files} == {f["name"] for f in other.files}


# Kustomize and K3s


def test_the_manifests_of_the_repository_are_those_of_the_chart():
    wanted = {**manifests.kustomize_files(), manifests.AUTO_DEPLOY: manifests.auto_deploy()}
    wrong = [str(p) for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    assert wrong == [], "run `make manifests`"
    assert set(manifests.KUSTOMIZE.rglob("*.yaml")) <= set(wanted)


def kustomized(kubectl, directory):
    done = subprocess.run(
        [kubectl, "kustomize", manifests.KUSTOMIZE / directory],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def in_order(found):
    return sorted(found, key=lambda o: (o["kind"], o["metadata"]["name"]))


@pytest.mark.parametrize(
    ("suite", "name"),
    # 1.20 knows neither directories in `resources` nor `patches` with a target
    [("bookworm", "base"), *(("trixie", name) for name in ("base", *manifests.DISTRIBUTIONS))],
)
def test_kubectl_makes_the_same_of_kustomize_as_helm_of_the_chart(suite, name):
    kubectl = debian.unpacked(suite, KUBECTL[suite]) / "usr/bin/kubectl"
    wanted = manifests.without_helm(manifests.render(manifests.values_of(name)))
    assert in_order(kustomized(kubectl, name)) == in_order(wanted)


def test_the_auto_deploy_manifest_of_k3s_is_what_the_chart_makes_with_its_values():
    wanted = manifests.without_helm(manifests.render(manifests.values_of("k3s")))
    found = list(yaml.safe_load_all(manifests.AUTO_DEPLOY.read_text()))
    assert found == wanted
    assert found[0]["kind"] == "Namespace"
