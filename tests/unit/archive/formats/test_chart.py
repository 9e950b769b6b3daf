"""Helm charts as files: the documents of their artifact, and what is refused."""

import json

import pytest

from airside.archive.formats.chart import CHART_CONTENT, is_chart_member, plan_chart
from airside.archive.formats.plan import Facts
from airside.core.errors import ArchiveFormatError
from airside.oci.digest import digest_of

FACTS = Facts(digest_of(b"the file"), 8, b"\x1f\x8b\x08")
SOUND = b"apiVersion: v2\nname: shop\nversion: 1.2.3\n"


def plan(text: bytes):
    return plan_chart("chart.tgz", FACTS, text)


def config(text: bytes):
    [raw] = plan(text).made.values()
    return json.loads(raw)


def test_the_layer_is_the_file_and_the_name_has_the_version():
    found = plan(SOUND + b"description: sells\nhome: https://shop.example\n")
    [image] = found.images
    assert str(image.references[0]) == "docker.io/charts/shop:1.2.3"
    document = found.documents[image.root]
    assert [(d.media_type, d.digest) for d in document.content.layers] == [
        (CHART_CONTENT, FACTS.digest)
    ]
    assert found.blobs == {FACTS.digest: "chart.tgz"}
    assert document.annotations == {
        "org.opencontainers.image.description": "sells",
        "org.opencontainers.image.title": "shop",
        "org.opencontainers.image.url": "https://shop.example",
        "org.opencontainers.image.version": "1.2.3",
    }
    assert document.kind_of_artifact == "application/vnd.cncf.helm.config.v1+json"
    assert not document.is_image


def test_the_plus_of_a_version_is_an_underscore_in_the_tag():
    [image] = plan(b"name: shop\nversion: 1.2.3+k3s1\n").images
    assert image.references[0].tag == "1.2.3_k3s1"


def test_scalars_stay_the_text_that_they_are():
    found = config(SOUND + b"appVersion: 1.10\nkeywords: [yes, 2026-11-30]\n")
    assert (found["appVersion"], found["keywords"]) == ("1.10", ["yes", "2026-11-30"])


def test_only_what_helm_knows_goes_into_the_config_in_helms_order():
    text = (
        b"version: 1.0.0\nname: shop\nunknown: x\ndeprecated: true\nicon: ''\n"
        b"dependencies: [{name: db, version: 1.x, enabled: 'true', other: y}, text]\n"
        b"annotations: {b: '2', a: '1'}\n"
    )
    [raw] = plan(text).made.values()
    assert raw == (
        b'{"name":"shop","version":"1.0.0","deprecated":true,"annotations":{"a":"1","b":"2"},'
        b'"dependencies":[{"name":"db","version":"1.x","enabled":true}]}'
    )


def test_json_is_escaped_as_go_escapes_it():
    [raw] = plan(SOUND + "description: a<b & ü\n".encode()).made.values()
    assert b"a\\u003cb \\u0026 " in raw
    assert "ü".encode() in raw


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"name: shop\n", "no version"),
        (b"version: 1.0.0\n", "no name"),
        (b"name: [a]\nversion: 1.0.0\n", "no name"),
        (b"name: shop\nversion: latest\n", "semver"),
        (b"name: ../etc\nversion: 1.0.0\n", "slash"),
        (b"name: library/shop\nversion: 1.0.0\n", "slash"),
        (b"name: Shop\nversion: 1.0.0\n", "no name of a repository"),
        (b"- a\n", "no map"),
        (b"", "no map"),
        (b"a: &x [1]\nb: *x\n", "alias"),
        (b"name: 'shop\n", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 20_000, "cannot be read"),
        (b'name: shop\nversion: 1.0.0\ndescription: "\\ud800"\n', "not Unicode"),
    ],
)
def test_what_is_no_metadata_of_a_chart_is_refused_with_the_reason(text, reason):
    with pytest.raises(ArchiveFormatError, match=reason):
        plan(text)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("shop/Chart.yaml", True),
        ("Chart.yaml", False),
        ("shop/charts/db/Chart.yaml", False),
        ("shop/values.yaml", False),
    ],
)
def test_the_metadata_of_a_chart_are_one_directory_down(name, is_one):
    assert is_chart_member(name) is is_one
