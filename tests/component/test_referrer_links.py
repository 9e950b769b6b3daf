"""Referrers of an image that many repositories have."""

import pytest

from airside.catalog import documents
from airside.oci.digest import digest_of
from airside.oci.reference import Repository
from support import hostile_archives as hostile
from support.nodes import import_now, node_at

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
            len(node.catalog.referrers(Repository("example.com", f"s{number}"), subject))
            for number in range(NAMES)
        ]
        assert sum(found) == min(NAMES * REFERRERS, most)
