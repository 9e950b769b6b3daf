import base64

import pytest

from airside.oci.reference import Repository
from airside.registry.rules.access import Need, parse_needs
from airside.registry.rules.credentials import (
    CATALOG,
    Bearer,
    Password,
    Scope,
    Session,
    basic_challenge,
    bearer_challenge,
    covers,
    fingerprint,
    open_session,
    parse_authorization,
    parse_scopes,
    reads_from,
    scopes_of,
    sign,
    stamp_of,
)
from airside.registry.rules.names import Name
from airside.registry.rules.requests import ListCatalog, Page

KEY = b"k" * 32


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("", None),
        (basic(":"), None),  # as skopeo without credentials
        (basic("ann:pass:word"), Password("ann", "pass:word")),
        (basic("ünal:pässword"), Password("ünal", "pässword")),
        (basic("any:airside_x"), Bearer("airside_x")),
        ("bearer  abc", Bearer("abc")),
    ],
)
def test_what_a_header_shows(header, shown):
    assert parse_authorization(header) == shown


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !", basic("nocolon"), "Basic /w==", "Bearer", "Digest x", "x" * 9000],
)
def test_headers_that_cannot_be_read(header):
    with pytest.raises(ValueError, match="Authorization"):
        parse_authorization(header)


def test_no_secret_is_in_any_text_form():
    assert "secret" not in repr(Password("ann", "secret")).replace("secret=", "")
    assert "airside_x" not in repr(Bearer("airside_x"))
    assert fingerprint("airside_x") == fingerprint("airside_x") != fingerprint("airside_y")


def test_scopes_as_clients_ask_for_them():
    found = parse_scopes(["repository:team/app:pull,push registry:catalog:*", "repository:b:pull"])
    assert [str(scope) for scope in found] == [
        *("repository:team/app:pull,push", "registry:catalog:*", "repository:b:pull")
    ]
    for bad in ("repository", "repository:a", 'repository:"a":pull', " ".join(["a:b:c"] * 33)):
        with pytest.raises(ValueError, match="scope"):
            parse_scopes([bad])


def test_a_session_is_good_for_its_scopes_only():
    scopes = parse_scopes(["repository:a:pull,push", "repository:b:*"])
    assert covers(scopes, (Need("push", Name("a")), Need("pull", Name("b"))))
    assert not covers(scopes, (Need("delete", Name("a")),))
    assert not covers(scopes, (Need("push", Name("a")), Need("pull", Name("c"))))
    assert not covers(scopes, ListCatalog("", Page()))
    assert covers((CATALOG,), ListCatalog("", Page()))
    assert covers((), parse_needs("GET", "/v2/"))


def test_what_a_session_may_mount_from():
    scopes = parse_scopes(["repository:a/b:pull", "repository:x.example_5000/c:*"])
    for host, path, fits in (("", "a/b", True), ("docker.io", "a/b", True), ("", "a", False)):
        assert reads_from(scopes, Repository(host, path)) is fits
    assert reads_from(scopes, Repository("x.example:5000", "c"))
    assert not reads_from(parse_scopes(["repository:a:push"]), Repository("", "a"))


def test_the_scopes_that_a_request_asks_for_are_enough_for_it():
    for method, target in (
        ("GET", "/v2/a/manifests/1"),
        ("POST", f"/v2/a/blobs/uploads/?mount=sha256:{'0' * 64}&from=b/c"),
        ("DELETE", "/v2/a/manifests/1"),
        ("GET", "/v2/_catalog"),
    ):
        asked = parse_needs(method, target)
        assert covers(parse_scopes(map(str, scopes_of(asked))), asked)
    assert scopes_of(parse_needs("PUT", "/v2/a/manifests/1")) == (
        Scope("repository", "a", ("pull", "push")),
    )


def session(until=100):
    stamp = stamp_of(KEY, "kept")
    return Session("password", "ann", stamp, until, parse_scopes(["repository:a:pull"]))


def test_a_signed_session_is_read_until_its_time_is_over():
    text = sign(KEY, session())
    assert open_session(KEY, text, 99.9) == session()
    assert open_session(KEY, text, 100) is None


def test_a_session_that_somebody_else_signed_or_changed_is_none():
    text = sign(KEY, session())
    assert open_session(b"x" * 32, text, 0) is None
    for changed in ("", "airsession.", "airsession.é.é", text[:-1], text.replace(".", "..", 1)):
        assert open_session(KEY, changed, 0) is None
    for at in range(len("airsession."), len(text), 7):
        other = "A" if text[at] != "A" else "B"
        assert open_session(KEY, text[:at] + other + text[at + 1 :], 0) is None


def test_challenges():
    assert basic_challenge() == 'Basic realm="airside"'
    scopes = parse_scopes(["repository:a:pull", "repository:b:pull,push"])
    assert bearer_challenge("https://x.example", scopes, error="invalid_token") == (
        'Bearer realm="https://x.example/token",service="airside",'
        'scope="repository:a:pull repository:b:pull,push",error="invalid_token"'
    )
    assert bearer_challenge("http://x") == 'Bearer realm="http://x/token",service="airside"'
