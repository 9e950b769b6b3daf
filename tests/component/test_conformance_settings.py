"""What settings change of pushing and deleting, and what of both outlives the agent."""

import json
from pathlib import Path

from support.agent import Agent
from support.distribution import KIND, LAYER, MANIFEST, Content, Registry, Reply, digest_of
from support.pushed import Repository, assert_all_served, delete, push

ABSENT = digest_of(b"this was never pushed")


def agent_with(tmp_path: Path, **environ: str) -> Agent:
    (tmp_path / "images").mkdir()
    named = {f"AIRSIDE_{name.upper()}": value for name, value in environ.items()}
    return Agent(tmp_path / "images", tmp_path / "data", environ=named)


def repository(agent: Agent, name: str = "conformance/settings") -> Repository:
    return Repository(Registry(agent.registry), name)


def without_a_layer(content: Content) -> None:
    layers = [content.blob(b"a layer", LAYER), {"mediaType": LAYER, "digest": ABSENT, "size": 9}]
    content.image("sparse-image", layers=layers)


def without_a_config(content: Content) -> None:
    config = {"mediaType": "application/json", "digest": ABSENT, "size": 9}
    content.image("bare", layers=[content.blob(b"a layer", LAYER)], config=config)


def without_a_child(content: Content) -> None:
    absent = {"mediaType": MANIFEST, "digest": ABSENT, "size": 9}
    content.index("sparse-index", of=[content.image().descriptor, absent])


def test_absent_parts_are_taken_by_setting(tmp_path: Path) -> None:
    with agent_with(tmp_path, push_sparse="true") as agent:
        here = repository(agent)
        for fill in (without_a_layer, without_a_config, without_a_child):
            content = Content()
            fill(content)
            push(here, content)
            assert_all_served(here, content)
            for what in (f"blobs/{ABSENT}", f"manifests/{ABSENT}"):
                assert here.ask("GET", what).status == 404
            delete(here, content)
        assert agent.logged("error", "critical") == []


def filled() -> Content:
    content = Content()
    subject = content.index("image").descriptor
    content.artifact("of-it", artifactType=KIND, subject=subject)
    return content


def everything_in(content: Content) -> list[str]:
    names = [*content.tags, *(found.digest for found in content.documents)]
    return [*(f"manifests/{name}" for name in names), *(f"blobs/{name}" for name in content.blobs)]


def assert_refused(reply: Reply) -> None:
    assert (reply.status, reply.code) == (405, "UNSUPPORTED"), reply


def test_what_was_pushed_and_deleted_outlives_the_agent(tmp_path: Path) -> None:
    """And an agent that neither takes nor deletes says so, and serves what was pushed before."""
    kept, gone, untagged = filled(), filled(), Content("sha512")
    untagged.index()
    with agent_with(tmp_path) as agent:
        here, other = repository(agent), repository(agent, "conformance/deleted")
        for content in (kept, untagged):
            push(here, content)
        push(other, gone)
        delete(other, gone)
        upload = here.ask("POST", "blobs/uploads/", b"").location
        agent.kill()
        agent.environ = {"AIRSIDE_PUSH": "none", "AIRSIDE_DELETE": "none"}
        agent.start()
        here, other = repository(agent), repository(agent, "conformance/deleted")
        for what in everything_in(gone):
            assert other.ask("GET", what).status == 404
        assert here.registry.ask("GET", upload).status == 404
        for what in everything_in(kept):
            assert_refused(here.ask("DELETE", what))
        assert_refused(here.ask("POST", "blobs/uploads/", b""))
        assert_refused(here.put(kept.documents[0], "another"))
        for content in (kept, untagged):
            assert_all_served(here, content)
        assert "another" not in here.tags()
    listed = json.loads((tmp_path / "data/oci/index.json").read_bytes())["manifests"]
    assert {found.digest for found in kept.tags.values()} <= {each["digest"] for each in listed}
