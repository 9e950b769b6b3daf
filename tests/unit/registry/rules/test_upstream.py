import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.config import load_settings
from airside.core.errors import (
    ConfigError,
    DigestMismatchError,
    ManifestInvalidError,
    UpstreamError,
)
from airside.core.upstream_config import Upstream, parse_upstream
from airside.oci.digest import digest_of
from airside.oci.model import OCI_MANIFEST
from airside.oci.reference import Repository
from airside.registry.rules.names import Name
from airside.registry.rules.upstream import (
    Challenge,
    Credentials,
    checked_document,
    is_same_origin,
    is_short,
    parse_challenge,
    parse_credentials,
    parse_length,
    parse_token,
    redirect_target,
    resumes_at,
    scope_of,
    target_of,
    token_url,
    upstream_repository,
)

URL = "https://registry.example"


@pytest.mark.parametrize(
    ("name", "repository", "short"),
    [
        (Name("app"), Repository("docker.io", "library/app"), True),
        (Name("team/app"), Repository("docker.io", "team/app"), True),
        (Name("team/app", "quay.io"), Repository("quay.io", "team/app"), False),
        (Name("docker.io/app"), Repository("docker.io", "library/app"), False),
        (Name("registry.example_5000/a"), Repository("registry.example:5000", "a"), False),
    ],
)
def test_a_name_means_one_repository_upstream(name, repository, short):
    assert upstream_repository(name, "docker.io") == repository
    assert is_short(name) == short


def test_a_path_of_the_url_goes_before_names():
    assert target_of(URL, "a/b", "manifests", "1") == f"{URL}/v2/a/b/manifests/1"
    proxied = "https://harbor.example/hub/"
    assert target_of(proxied, "a", "blobs", "sha256:1") == (
        "https://harbor.example/v2/hub/a/blobs/sha256:1"
    )
    assert scope_of(proxied, "a") == "repository:hub/a:pull"
    assert scope_of(URL, "a/b") == "repository:a/b:pull"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', Challenge("basic", "x")),
        (
            'Bearer realm="https://a.example/t",service="s",scope="repository:a:pull,push"',
            Challenge("bearer", "https://a.example/t", "s", "repository:a:pull,push"),
        ),
        ('bearer REALM = "a\\"b" , service=plain', Challenge("bearer", 'a"b', "plain")),
        ("Negotiate abc", None),
        ("", None),
        ("Bearer", None),
    ],
)
def test_challenges(header, expected):
    assert parse_challenge(header) == expected


@given(st.text(max_size=200))
def test_no_challenge_raises(header):
    parse_challenge(header)


def test_a_token_is_asked_for_where_the_registry_says_if_that_is_encrypted():
    challenge = Challenge("bearer", "https://auth.example/token?x=1", "hub")
    assert token_url(challenge, "repository:a:pull", URL) == (
        "https://auth.example/token?x=1&service=hub&scope=repository%3Aa%3Apull"
    )
    assert token_url(Challenge("bearer", "http://127.0.0.1:1/t"), "s", "http://127.0.0.1:2")
    assert token_url(Challenge("bearer", "http://in.example/t"), "s", "http://in.example/")
    for realm in ("http://auth.example/token", "ftp://auth.example", "", "/token", "https://"):
        with pytest.raises(UpstreamError):
            token_url(Challenge("bearer", realm), "s", URL)


def test_tokens():
    token = parse_token(json.dumps({"token": "abc", "expires_in": 100}).encode(), 1000.0)
    assert token.authorization == "Bearer abc"
    assert token.is_valid(1094.0)
    assert not token.is_valid(1096.0)
    assert parse_token(b'{"access_token": "x"}', 0.0).expires_at == 55.0
    for raw in (b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token":"\xc3\xa9"}'):
        with pytest.raises(UpstreamError):
            parse_token(raw, 0.0)
    assert "abc" not in repr(token)


def test_redirects():
    assert redirect_target(f"{URL}/v2/a", "/b?sig=%2F") == f"{URL}/b?sig=%2F"
    assert redirect_target(URL, "https://storage.example/b") == "https://storage.example/b"
    for location in ("", "http://storage.example/b", "file:///etc/passwd", "https://u:p@h/"):
        with pytest.raises(UpstreamError):
            redirect_target(URL, location)


def test_what_is_of_one_origin():
    assert is_same_origin(URL, "https://registry.example:443/x")
    for other in ("http://registry.example", "https://registry.example:444", "https://other"):
        assert not is_same_origin(URL, other)


def test_lengths_and_resumptions():
    assert parse_length("12") == 12
    assert [parse_length(text) for text in (None, "", "-1", "1.5", "٣")] == [None] * 5
    assert resumes_at("bytes 5-9/10", 5, 10)
    assert not any(resumes_at(h, 5, 10) for h in (None, "bytes 0-9/10", "bytes 5-9/*"))


def test_credentials():
    found = parse_credentials({"username": "me", "password": "word"}, "file")
    assert found.basic == "Basic bWU6d29yZA=="
    assert "word" not in repr(found)
    assert parse_credentials({"token": "t"}, "file") == Credentials(token="t")
    for table in (
        {},
        {"username": ""},
        {"token": "t", "username": "u"},
        {"user": "u"},
        {"token": 1},
    ):
        with pytest.raises(UpstreamError):
            parse_credentials(table, "file")


def test_a_manifest_is_checked_against_its_digest():
    config = {"mediaType": "application/x", "digest": f"sha256:{'1' * 64}", "size": 1}
    raw = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
    digest = digest_of(raw)
    assert checked_document(raw, OCI_MANIFEST, digest).digest == digest
    assert checked_document(raw, OCI_MANIFEST, None).digest == digest
    with pytest.raises(DigestMismatchError):
        checked_document(raw + b" ", OCI_MANIFEST, digest)
    for wrong in (b"", b"{}", b"<html>"):
        with pytest.raises(ManifestInvalidError):
            checked_document(wrong, "text/html", None)


# --- the table


def test_tables_and_their_short_form():
    found = parse_upstream({"registry": "index.docker.io", "ca": "/etc/ca.pem"}, "file")
    assert found == Upstream("docker.io", "https://registry-1.docker.io", None, Path("/etc/ca.pem"))
    assert parse_upstream("quay.io", "x") == Upstream("quay.io", "https://quay.io")
    short = "docker.io=http://mirror.example:5000/hub/"
    assert parse_upstream(short, "x").url == "http://mirror.example:5000/hub"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"registry": "a/b"},
        {"registry": 1},
        {"registry": "a", "url": "ftp://a"},
        {"registry": "a", "url": "https://"},
        {"registry": "a", "url": "https://u:p@a"},
        {"registry": "a", "url": "https://a/?x"},
        {"registry": "a", "url": "https://a:x"},
        {"registry": "a", "user": "u"},
        {"registry": "a", "offline": "yes"},
        {"registry": "a", "ca": 1},
        {"registry": "a", "url": "http://a.example", "credentials": "/file"},
        7,
    ],
)
def test_tables_that_are_wrong(wrong):
    with pytest.raises(ConfigError):
        parse_upstream(wrong, "file: upstream")


def test_settings_have_upstreams_from_file_and_environment(tmp_path):
    file = tmp_path / "airside.toml"
    file.write_text('offline = true\n[[upstream]]\nregistry = "docker.io"\noffline = true\n')
    found = load_settings(file=file, environ={}, flags={}).settings
    assert found.offline
    assert found.upstream == (Upstream("docker.io", "https://registry-1.docker.io", offline=True),)
    environ = {"AIRSIDE_UPSTREAM": "quay.io,docker.io=http://127.0.0.1:5000"}
    found = load_settings(file=None, environ=environ, flags={}).settings
    assert [u.url for u in found.upstream] == ["https://quay.io", "http://127.0.0.1:5000"]
    with pytest.raises(ConfigError):
        load_settings(file=None, environ={"AIRSIDE_UPSTREAM": "quay.io,quay.io"}, flags={})
