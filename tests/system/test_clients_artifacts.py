"""oras, crane, cosign and notation: artifacts, signatures and attestations beside the images.

They are those of two later Debian releases. docs/clients.md has the table of all clients.
"""

import json
import re
from typing import Any

import pytest

from airside.oci.model import OCI_INDEX
from support.agent import Agent
from support.images import (
    TestImage,
    docker_archive,
    oci_archive,
    random_image,
    random_index,
)
from support.tools import Tools, digests_in

pytestmark = pytest.mark.system

SBOM = "application/vnd.test.sbom"
PLAIN = "--plain-http"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def get(agent: Agent, path: str) -> Any:
    status, body = agent.get(f"/v2/{path}")
    assert status == 200, (path, body)
    return json.loads(body)


def drop(agent: Agent, name: str) -> TestImage:
    """An image that comes by an archive."""
    image = random_image(name)
    archive = agent.watched / f"{name.replace('/', '-')}.tar"
    oci_archive(archive, {f"{agent.registry}/{name}:1": image})
    agent.wait_imported(archive)
    return image


def test_oras_pushes_attaches_discovers_copies_and_deletes(
    shared_agent: Agent, tools: Tools, suite: str
) -> None:
    registry, name = shared_agent.registry, f"oras/{suite}"

    def oras(*words: object) -> str:
        return tools.of(suite, "oras", *words)

    (tools.directory / "chart.tgz").write_bytes(b"a chart")
    (tools.directory / "config.json").write_text("{}")
    (tools.directory / "bom.json").write_text("{}")
    chart = ("--config", f"config.json:{HELM_CONFIG}", f"chart.tgz:{HELM_CHART}")
    oras("push", PLAIN, f"{registry}/{name}:1.2.3_build,latest", *chart)
    oras("attach", PLAIN, "--artifact-type", SBOM, f"{registry}/{name}:latest", "bom.json")
    assert SBOM in oras("discover", PLAIN, "-o", "tree", f"{registry}/{name}:latest")
    subject = shared_agent.images()[f"{name}:latest"]["digest"]
    [attached] = get(shared_agent, f"{name}/referrers/{subject}")["manifests"]
    referrer = attached["digest"]
    assert referrer in oras("discover", PLAIN, "-o", "json", f"{registry}/{name}:latest")
    oras("tag", PLAIN, f"{registry}/{name}:latest", "again")
    assert oras("repo", "tags", PLAIN, f"{registry}/{name}").split() == [
        "1.2.3_build",
        "again",
        "latest",
    ]
    assert name in oras("repo", "ls", PLAIN, registry).split()
    both = ("--from-plain-http", "--to-plain-http", "--recursive")
    oras("cp", *both, f"{registry}/{name}:latest", f"{registry}/{name}/copied:1")
    [copied] = get(shared_agent, f"{name}/copied/referrers/{subject}")["manifests"]
    assert (copied["digest"], copied["artifactType"]) == (referrer, SBOM)
    oras("pull", PLAIN, "-o", "pulled", f"{registry}/{name}/copied:1")
    assert (tools.directory / "pulled" / "chart.tgz").read_bytes() == b"a chart"
    blob = oras("blob", "push", PLAIN, f"{registry}/{name}", "config.json")
    [digest] = re.findall(r"sha256:\w{64}", blob)
    assert oras("blob", "fetch", PLAIN, "--output", "-", f"{registry}/{name}@{digest}") == "{}"
    oras("manifest", "delete", PLAIN, "--force", f"{registry}/{name}@{referrer}")
    assert get(shared_agent, f"{name}/referrers/{subject}")["manifests"] == []
    oras("manifest", "delete", PLAIN, "--force", f"{registry}/{name}:latest")  # by its digest
    assert not [found for found in shared_agent.images() if found.startswith(f"{name}:")]


def test_oras_attaches_to_an_image_of_an_archive(
    shared_agent: Agent, tools: Tools, suite: str
) -> None:
    image = drop(shared_agent, f"oras-{suite}/dropped")
    (tools.directory / "bom.json").write_text(suite)
    target = f"{shared_agent.registry}/oras-{suite}/dropped:1"
    tools.of(suite, "oras", "attach", PLAIN, "--artifact-type", SBOM, target, "bom.json")
    found = get(shared_agent, f"oras-{suite}/dropped/referrers/{image.digest}")
    assert [each["artifactType"] for each in found["manifests"]] == [SBOM]


@pytest.mark.parametrize("suite", ["forky"])
def test_crane_pushes_copies_changes_and_deletes(
    shared_agent: Agent, tools: Tools, suite: str
) -> None:
    registry = shared_agent.registry
    app, index = f"{registry}/crane/app", random_index("crane")

    def crane(*words: object) -> str:
        return tools.of(suite, "crane", *words)

    docker_archive(tools.directory / "app.tar", {"app:1": random_image("crane")})
    pushed = crane("push", "app.tar", f"{app}:1").strip()
    assert pushed == f"{app}@{crane('digest', f'{app}:1').strip()}"
    crane("validate", "--remote", f"{app}:1")
    crane("tag", f"{app}:1", "two")
    crane("mutate", f"{app}:1", "--label", "a=b", "-t", f"{app}:mutated")
    crane("append", "-b", f"{app}:1", "-f", "app.tar", "-t", f"{app}:appended")
    crane("index", "append", "-m", f"{app}:1", "-m", f"{app}:mutated", "-t", f"{app}:index")
    assert crane("ls", app).split() == ["1", "appended", "index", "mutated", "two"]
    crane("copy", "--all-tags", app, f"{registry}/crane/copied")
    copied = {tag: crane("digest", f"{registry}/crane/copied:{tag}") for tag in ("1", "index")}
    assert copied == {tag: crane("digest", f"{app}:{tag}") for tag in copied}
    crane("pull", f"{registry}/crane/copied:1", "pulled.tar", "--format=oci")
    archive = shared_agent.watched / "crane-multi.tar"
    oci_archive(archive, {"docker.io/library/crane-multi:1": index})
    shared_agent.wait_imported(archive)
    crane("copy", f"{registry}/library/crane-multi:1", f"{registry}/crane/multi:1")  # mounted
    assert shared_agent.images()["crane/multi:1"]["digest"] == str(index.digest)
    one = ("--platform", "linux/arm64", "-t", f"{registry}/crane/multi:arm64")
    crane("index", "filter", f"{registry}/crane/multi:1", *one)
    found = get(shared_agent, "crane/multi/manifests/arm64")
    assert digests_in(json.dumps(found)) == [str(index.image("linux/arm64").digest)]
    crane("delete", f"{app}:two")
    crane("delete", f"{app}@{crane('digest', f'{app}:mutated').strip()}")
    assert crane("ls", app).split() == ["1", "appended", "index"]
    assert {"crane/app", "crane/copied", "crane/multi"} <= set(crane("catalog", registry).split())


def test_cosign_signs_an_image_of_an_archive(shared_agent: Agent, tools: Tools, suite: str) -> None:
    """As tags `sha256-…` where it is older, as referrers where it is newer; both where it can."""
    name = f"cosign-{suite}/app"
    image = drop(shared_agent, name)
    target = f"{shared_agent.registry}/{name}@{image.digest}"

    def cosign(command: str, *words: object, **environ: str) -> str:
        return tools.of(
            suite, "cosign", command, "--allow-http-registry", *words, target, **environ
        )

    (tools.directory / "predicate.json").write_text('{"what": "built"}')
    tools.of(suite, "cosign", "generate-key-pair")
    offline = ["--key", "cosign.key", "--yes", "--tlog-upload=false"]
    offline += ["--use-signing-config=false"] if suite == "forky" else []
    check = ("--key", "cosign.pub", "--insecure-ignore-tlog=true")
    cosign("sign", *offline)
    assert str(image.digest) in cosign("verify", *check)
    cosign("attest", *offline, "--type", "custom", "--predicate", "predicate.json")
    assert "payload" in cosign("verify-attestation", *check, "--type", "custom")
    cosign("sign", *offline, "--registry-referrers-mode=oci-1-1", COSIGN_EXPERIMENTAL="1")
    fallback = str(image.digest).replace(":", "-")
    tags = set(get(shared_agent, f"{name}/tags/list")["tags"]) - {"1"}
    assert tags == ({f"{fallback}.sig", f"{fallback}.att"} if suite == "trixie" else set())
    referrers = get(shared_agent, f"{name}/referrers/{image.digest}")["manifests"]
    assert len(referrers) == (1 if suite == "trixie" else 3)
    copied = f"{shared_agent.registry}/{name}/copied:1"
    tools.of(suite, "cosign", "copy", "--allow-http-registry", target, copied)
    if suite == "trixie":  # the newer one copies no referrers, and says so
        tools.of(suite, "cosign", "verify", "--allow-http-registry", *check, copied)
    cosign("clean", "--force")
    assert set(get(shared_agent, f"{name}/tags/list")["tags"]) == {"1"}
    assert shared_agent.archives()[shared_agent.watched / f"cosign-{suite}-app.tar"]


def test_the_tag_of_referrers_for_older_registries_is_an_ordinary_one(
    shared_agent: Agent, tools: Tools, suite: str
) -> None:
    """A client that knows no referrers API puts an index of them under `sha256-…`."""
    name = f"fallback-{suite}"
    image = drop(shared_agent, f"{name}/app")
    target = f"{shared_agent.registry}/{name}/app"
    (tools.directory / "bom.json").write_text("{}")
    flags = (PLAIN, "--artifact-type", SBOM, "--distribution-spec", "v1.1-referrers-tag")
    tools.of(suite, "oras", "attach", *flags, f"{target}:1", "bom.json")
    tag = str(image.digest).replace(":", "-")
    assert set(get(shared_agent, f"{name}/app/tags/list")["tags"]) == {"1", tag}
    found = get(shared_agent, f"{name}/app/manifests/{tag}")
    assert found["mediaType"] == OCI_INDEX
    assert (
        found["manifests"] == get(shared_agent, f"{name}/app/referrers/{image.digest}")["manifests"]
    )
    discover = (*flags[:1], *flags[3:], "-o", "json")
    assert found["manifests"][0]["digest"] in tools.of(
        suite, "oras", "discover", *discover, f"{target}:1"
    )


@pytest.mark.parametrize("suite", ["forky"])
def test_notation_signs_and_verifies(shared_agent: Agent, tools: Tools, suite: str) -> None:
    image = drop(shared_agent, "notation/app")
    target = f"{shared_agent.registry}/notation/app@{image.digest}"
    tools.of(suite, "notation", "cert", "generate-test", "--default", "airside.test")
    tools.of(suite, "notation", "sign", "--insecure-registry", target)
    policy = {
        "version": "1.0",
        "trustPolicies": [
            {
                "name": "all",
                "registryScopes": ["*"],
                "signatureVerification": {"level": "strict"},
                "trustStores": ["ca:airside.test"],
                "trustedIdentities": ["*"],
            }
        ],
    }
    (tools.directory / "policy.json").write_text(json.dumps(policy))
    tools.of(suite, "notation", "policy", "import", "policy.json")
    tools.of(suite, "notation", "verify", "--insecure-registry", target)
    [signature] = get(shared_agent, f"notation/app/referrers/{image.digest}")["manifests"]
    assert signature["artifactType"] == "application/vnd.cncf.notary.signature"
    assert signature["digest"] in tools.of(suite, "notation", "ls", "--insecure-registry", target)
