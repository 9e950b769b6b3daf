"""The running agent with TLS, passwords and rules; its commands with such an agent."""

import hashlib
import json
import subprocess

import pytest

from airside.archive.sample import write_sample
from support.agent import Agent
from support.command import airside
from support.guarded import Authority, htpasswd, replace_files
from support.images import oci_archive, random_image
from support.skopeo import digests_of, run, skopeo

pytestmark = [pytest.mark.system, pytest.mark.needs("openssl")]

BEFORE, AFTER = "hunter-7731", "swordfish-4402"
TOKEN = "airside_" + "s" * 43
ACCESS = f"""
[users."*"]
rules = [{{ repositories = ["**"], actions = ["pull"] }}]
[tokens.ci]
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
rules = [{{ repositories = ["docker.io/**"], actions = ["pull"] }}]
"""


def told(*words):
    return json.loads(airside(*words).stdout)


def curl(agent, ca, *words):
    url = f"https://{agent.registry}/v2/"
    found = subprocess.run(
        [*("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca), *words, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return found.stdout


@pytest.mark.needs("curl")
@pytest.mark.needs("skopeo")
def test_an_agent_with_tls_and_logins_takes_up_new_files_while_it_runs(tmp_path):
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    pair = (tmp_path / "tls.crt", tmp_path / "tls.key")
    replace_files(first.server(), pair)
    passwords, access = tmp_path / "htpasswd", tmp_path / "access.toml"
    passwords.write_text(htpasswd(ann=BEFORE))
    access.write_text(ACCESS)
    environ = {
        "AIRSIDE_TLS_CERT": str(pair[0]),
        "AIRSIDE_TLS_KEY": str(pair[1]),
        "AIRSIDE_HTPASSWD": str(passwords),
        "AIRSIDE_ACCESS": str(access),
    }
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", environ=environ) as agent:
        archive = agent.watched / "hello.tar.zst"
        write_sample(archive)
        agent.wait_imported(archive)
        assert agent.status()["access"] == {
            "tls": True,
            "users": 1,
            "tokens": 1,
            "certificates": False,
            "anonymous": [],
            "read_only": False,
        }
        assert curl(agent, first.cert) == "401"
        assert curl(agent, first.cert, "-u", f"ann:{BEFORE}") == "200"
        certs = first.directory  # its ca.crt, and no client's pair
        for made in certs.glob("localhost.*"):
            made.rename(tmp_path / made.name)
        (certs / "ca.key").unlink()
        words = ("--preserve-digests", "--all", "--src-cert-dir", certs, f"--src-creds=ci:{TOKEN}")
        source = f"docker://{agent.registry}/airside/hello:1"
        skopeo("copy", *words, source, f"dir:{tmp_path / 'out'}")
        assert agent.images()["docker.io/airside/hello:1"]["digest"] in map(
            str, digests_of(tmp_path / "out")
        )

        checks = told("doctor", "--json", "--data", agent.data, "--runtime", "none")["items"]
        registry = next(item for item in checks if item["id"] == "registry")
        assert (registry["severity"], registry["subject"][:8]) == ("ok", "https://")
        words = ("--all", "--dry-run", "--json", "--certs-dir", tmp_path / "certs.d")
        mirror = told("mirror", "write", "--data", agent.data, *words)
        assert mirror["address"] == f"https://{agent.registry}"
        assert any("login" in note for note in mirror["notes"])

        passwords.write_text(htpasswd(ann=AFTER))
        agent.wait_for(lambda: curl(agent, first.cert, "-u", f"ann:{AFTER}") == "200")
        assert curl(agent, first.cert, "-u", f"ann:{BEFORE}") == "401"
        replace_files(second.server(), pair)
        agent.wait_for(lambda: curl(agent, second.cert, "-u", f"ann:{AFTER}") == "200")
        assert curl(agent, first.cert, "-u", f"ann:{AFTER}") == "000"

        lines = [json.loads(line) for line in agent.log.splitlines()]
        failed = [line for line in lines if line.get("event") == "login failed"]
        assert {(line["user"], line["client"], line["status"]) for line in failed} == {
            ("ann", "127.0.0.1", 401)
        }
        assert not [secret for secret in (BEFORE, AFTER, TOKEN) if secret in agent.log]


PUSHERS = """
[users.ann]
rules = [{ repositories = ["team/**"], actions = ["pull", "push", "delete"] }]
[users.bob]
rules = [{ repositories = ["other/**"], actions = ["pull", "push"] }]
[anonymous]
rules = [{ repositories = ["public/**"], actions = ["pull", "push"] }]
"""


@pytest.mark.needs("curl")
@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("anonymous", ["none", "auto"])
def test_who_may_push_and_what_may_be_mounted(tmp_path, anonymous):
    passwords, access = tmp_path / "htpasswd", tmp_path / "access.toml"
    passwords.write_text(htpasswd(ann=BEFORE, bob=AFTER))
    access.write_text(PUSHERS)
    image = random_image("pushed", compression="gzip")
    oci_archive(tmp_path / "image.tar", {"docker.io/library/x:1": image})
    environ = {
        "AIRSIDE_HTPASSWD": str(passwords),
        "AIRSIDE_ACCESS": str(access),
        "AIRSIDE_ANONYMOUS": anonymous,
    }
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", environ=environ) as agent:
        registry = agent.registry

        def push(user, secret, name):
            login = [f"--dest-creds={user}:{secret}"] if user else ["--dest-no-creds"]
            words = ("copy", "--preserve-digests", "--dest-tls-verify=false", *login)
            source = f"oci-archive:{tmp_path / 'image.tar'}"
            return subprocess.run(
                ["skopeo", "--insecure-policy", *words, source, f"docker://{registry}/{name}"],
                capture_output=True,
                check=False,
                timeout=60,
            ).returncode

        def status(method, path, user, secret):
            words = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method)
            if method == "HEAD":
                words = (*words[:-2], "-I")
            return run("curl", *words, "-u", f"{user}:{secret}", f"http://{registry}{path}")

        assert push("ann", BEFORE, "team/app:1") == 0
        assert push("bob", AFTER, "team/app:2") != 0
        assert push("bob", "wrong", "other/app:1") != 0
        assert (push("", "", "public/app:1") == 0) is (anonymous == "auto")
        assert push("", "", "other/app:2") != 0
        assert set(agent.images()) - {"public/app:1"} == {"team/app:1"}
        layer = image.layers[0].digest
        mount = f"/v2/other/app/blobs/uploads/?mount={layer}"
        assert status("POST", f"{mount}&from=team/app", "bob", AFTER) == "202"  # to be uploaded
        assert status("POST", mount, "bob", AFTER) == "202"
        inside = f"/v2/team/more/blobs/uploads/?mount={layer}&from=team/app"
        assert status("POST", inside, "ann", BEFORE) == "201"
        assert status("HEAD", f"/v2/other/app/blobs/{layer}", "bob", AFTER) == "404"
        assert push("bob", AFTER, "other/app:1") == 0
        assert status("DELETE", "/v2/team/app/manifests/1", "bob", AFTER) == "403"
        assert status("DELETE", "/v2/other/app/manifests/1", "bob", AFTER) == "403"
        assert status("DELETE", "/v2/team/app/manifests/1", "ann", BEFORE) == "202"
        assert set(agent.images()) - {"public/app:1"} == {"other/app:1"}
        lines = [json.loads(line) for line in agent.log.splitlines()]
        told = [line for line in lines if line["logger"] == "airside.audit"]
        writers = {(line["event"], line["user"], line["repository"]) for line in told}
        assert {("push", "ann", "team/app"), ("push", "bob", "other/app")} <= writers
        assert {("delete", "ann", "team/app"), ("denied", "bob", "team/app")} <= writers
        assert not [secret for secret in (BEFORE, AFTER) if secret in agent.log]


def test_an_address_that_others_reach_is_refused_without_tls(tmp_path):
    (tmp_path / "images").mkdir()
    agent = Agent(tmp_path / "images", tmp_path / "data", listen="0.0.0.0:0")
    agent.launch()
    assert agent.wait_exit() == 2
    assert "tls_cert" in agent.log
    assert "insecure = true" in agent.log
