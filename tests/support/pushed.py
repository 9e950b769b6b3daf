"""Pushing a whole `Content` to a repository, and what must hold of it there until it is deleted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.distribution import INDEX, MANIFEST, Content, Described, Query, Registry, Reply

ACCEPT = (("Accept", INDEX), ("Accept", MANIFEST))


@dataclass(frozen=True)
class Repository:
    """One repository of a registry."""

    registry: Registry
    name: str

    def ask(
        self,
        method: str,
        what: str,
        body: bytes | None = None,
        *lines: tuple[str, str],
        query: Query = (),
        streamed: bool = False,
    ) -> Reply:
        """Ask for `manifests/…`, `blobs/…` and so on."""
        target = f"/v2/{self.name}/{what}"
        return self.registry.ask(method, target, body, *lines, query=query, streamed=streamed)

    def put_blobs(self, content: Content) -> None:
        for digest, data in content.blobs.items():
            reply = self.ask("POST", "blobs/uploads/", data, query=[("digest", digest)])
            assert reply.status == 201, reply

    def put(self, found: Described, at: str, *tags: str) -> Reply:
        """Push a document, its length untold as Go's clients do."""
        query, line = [("tag", tag) for tag in tags], ("Content-Type", found.media_type)
        return self.ask("PUT", f"manifests/{at}", found.raw, line, query=query, streamed=True)

    def tags(self, last: str = "") -> list[str]:
        reply = self.ask("GET", "tags/list", query=[("last", last)] if last else [])
        return list(json.loads(reply.body)["tags"]) if reply.status == 200 else []

    def referrers(self, digest: str, kind: str = "") -> list[Mapping[str, Any]]:
        """The list of a subject's referrers, sorted by digest."""
        query = [("artifactType", kind)] if kind else []
        reply = self.ask("GET", f"referrers/{digest}", query=query)
        assert (reply.status, reply.header("Content-Type")) == (200, INDEX)
        assert reply.header("OCI-Filters-Applied") == ("artifactType" if kind else "")
        value = json.loads(reply.body)
        assert (value["schemaVersion"], value["mediaType"]) == (2, INDEX)
        return sorted(value["manifests"], key=lambda each: str(each["digest"]))


def assert_put(here: Repository, found: Described, at: str, *tags: str) -> Reply:
    reply = here.put(found, at, *tags)
    assert (reply.status, reply.header("Docker-Content-Digest")) == (201, found.digest), reply
    assert reply.header("OCI-Subject") == found.subject
    assert_served(here, found, reply.location.removeprefix(f"/v2/{here.name}/"))
    return reply


def push(here: Repository, content: Content) -> None:
    """Blobs, then documents by digest, then by tag."""
    here.put_blobs(content)
    for found in content.documents:
        assert_put(here, found, found.digest)
    for tag, found in content.tags.items():
        assert_put(here, found, tag)


def assert_served(here: Repository, found: Described, what: str) -> None:
    for method, body in (("HEAD", b""), ("GET", found.raw)):
        reply = here.ask(method, what, None, *ACCEPT)
        assert (reply.status, reply.body) == (200, body)
        assert reply.header("Content-Type") == found.media_type
        assert reply.header("Content-Length") == str(len(found.raw))
        assert reply.header("Docker-Content-Digest") == found.digest


def assert_all_served(here: Repository, content: Content) -> None:
    """Documents by digest and tag, blobs, lists of tags and referrers."""
    for found in content.documents:
        assert_served(here, found, f"manifests/{found.digest}")
    for tag, found in content.tags.items():
        assert_served(here, found, f"manifests/{tag}")
    for digest, data in content.blobs.items():
        reply = here.ask("GET", f"blobs/{digest}")
        assert (reply.status, reply.body) == (200, data)
    _assert_tags(here, content)
    _assert_referrers(here, content)


def _assert_tags(here: Repository, content: Content) -> None:
    tags = here.tags()
    assert tags == sorted(tags)
    assert set(content.tags) <= set(tags)
    for number, last in enumerate(tags, start=1):
        assert here.tags(last) == tags[number:]


def _assert_referrers(here: Repository, content: Content) -> None:
    for subject in {found.subject for found in content.documents if found.subject}:
        found = [each for each in content.documents if each.subject == subject]
        found.sort(key=lambda each: each.digest)
        assert here.referrers(subject) == [each.listed for each in found]
        for kind in {each.artifact_type for each in found} - {""}:
            fitting = [each.listed for each in found if each.artifact_type == kind]
            assert here.referrers(subject, kind) == fitting
        assert here.referrers(subject, "application/of-nobody") == []


def delete(here: Repository, content: Content) -> None:
    """Tags, then documents from the top down, then blobs: each is gone at once."""
    for tag, found in content.tags.items():
        assert_gone(here, f"manifests/{tag}", "MANIFEST_UNKNOWN")
        assert_served(here, found, f"manifests/{found.digest}")
    for found in reversed(content.documents):
        assert_gone(here, f"manifests/{found.digest}", "MANIFEST_UNKNOWN")
    for digest in content.blobs:
        assert_gone(here, f"blobs/{digest}", "BLOB_UNKNOWN")
    assert not set(content.tags) & set(here.tags())
    for subject in {found.subject for found in content.documents if found.subject}:
        assert here.referrers(subject) == []


def assert_gone(here: Repository, what: str, code: str) -> None:
    """Delete it: it is not here from now on, and can't be deleted again."""
    assert here.ask("DELETE", what).status == 202, what
    assert here.ask("HEAD", what, None, *ACCEPT).status == 404, what
    again = here.ask("DELETE", what)
    assert (again.status, again.code in {code, "NAME_UNKNOWN"}) == (404, True), again
