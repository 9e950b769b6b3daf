"""A dropped chart is served to Helm itself, which makes the same artifact of it by a push."""

import json
from pathlib import Path

import package_chart
import pytest

import airside
from support.agent import Agent

pytest.importorskip("helm_python", reason="helm-python-sdk has a wheel for amd64 only")

from helm_python import registry

pytestmark = pytest.mark.system


def test_helm_pulls_a_dropped_chart_and_pushes_the_same_artifact(agent: Agent, tmp_path: Path):
    version, raw = airside.__version__, package_chart.packed()
    name = f"airside-{version}.tgz"
    (agent.watched / ".chart").write_bytes(raw)
    (agent.watched / ".chart").rename(agent.watched / name)
    agent.wait_imported(agent.watched / name)
    credentials = tmp_path / "credentials.json"
    with registry.RegistryClient(plain_http=True, credentials_file=credentials) as client:
        place = f"oci://{agent.registry}/charts/airside"
        assert client.tags(place) == [version]
        client.pull(place, version=version, destination=tmp_path, plain_http=True)
        assert (tmp_path / name).read_bytes() == raw
        client.push(tmp_path / name, f"oci://{agent.registry}/pushed", plain_http=True)
    ours, theirs = (
        json.loads(agent.get(f"/v2/{where}/airside/manifests/{version}")[1])
        for where in ("charts", "pushed")
    )
    assert (ours["config"], ours["layers"]) == (theirs["config"], theirs["layers"])
    assert not agent.complaints()
