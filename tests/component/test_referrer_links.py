"""Referrers of an image that many repositories have."""

import json

import pytest

from airside.catalog import documents
from airside.core.settings import MIB
from airside.oci.digest import digest_of
from airside.oci.model import OCI_MANIFEST, Descriptor
from airside.oci.reference import Repository
from airside.registry.rules.lookup import answer_referrers
from airside.registry.rules.names import Name
from airside.registry.rules.requests import ListReferrers, parse_request
from support import hostile_archives as hostile
from support.images import TestBlob
from support.nodes import import_now, node_at
from support.pushing import push_blob, push_manifest

NAMES, REFERRERS = 8, 6


@pytest.mark.parametrize("most", [documents.MOST_REFERRER_LINKS, 10])
def test_referrers_belong_to_each_repository_up_to_a_number_at_once(tmp_path, monkeypatch, most):
    monkeypatch.setattr(documents, "MOST_REFERRER_LINKS", most)
    image, referrers = hostile.many_referrers(NAMES, REFERRERS)
    hostile.write_tar(tmp_path / "image.tar", image)
    hostile.write_tar(tmp_path / "referrers.tar", referrers)
    subject = digest_of(hostile.image()[0])
    with node_at(tmp_path / "data") as node:
        import_now(node, tmp_path / "image.tar")
        import_now(node, tmp_path / "referrers.tar")
        found = [
            len(node.catalog.referrers(Repository("example.com", f"s{number}"), subject).items)
            for number in range(NAMES)
        ]
        assert sum(found) == min(NAMES * REFERRERS, most)


def test_a_large_list_of_referrers_is_served_in_pages(tmp_path):
    about, name = hostile.config(), Name("team/app")
    subject = hostile.described(hostile.image()[0], OCI_MANIFEST)
    raws = [
        hostile.manifest_of(about, subject=subject, annotations={"n": f"{n}" + "x" * 400_000})
        for n in range(6)
    ]
    elsewhere = Descriptor(OCI_MANIFEST, digest_of(b"elsewhere"), 9)
    with node_at(tmp_path / "data") as node:
        push_blob(node, name, about)
        push_blob(node, name, hostile.LAYER)
        for raw in raws:
            push_manifest(node, name, TestBlob(raw, OCI_MANIFEST), digest_of(raw))
        target, seen, pages = f"/v2/team/app/referrers/{subject['digest']}?ns=", [], 0
        while target:
            intent = parse_request("GET", target)
            assert isinstance(intent, ListReferrers)
            answer = answer_referrers(node.catalog, intent, "docker.io", [elsewhere])
            assert len(answer.body) < 2 * MIB
            seen += [each["digest"] for each in json.loads(answer.body)["manifests"]]
            link = dict(answer.headers).get("Link", "")
            target = link.removeprefix("<").removesuffix('>; rel="next"')
            pages += 1
    assert pages == 3
    assert sorted(seen) == sorted(map(str, [*map(digest_of, raws), elsewhere.digest]))
