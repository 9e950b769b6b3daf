import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.settings import Settings
from airside.registry.rules.methods import allowed_methods
from airside.registry.rules.web_pages import (
    PageRequest,
    known_names,
    parse_authority,
    parse_origin,
)

SETTINGS = Settings(
    listen="127.0.0.1:5050",
    public_url="https://registry.example:8443/base",
    allowed_hosts=("front.site:81", "plain.site"),
    registry_names=("pushed.site:5050",),
)
NAMES = known_names(SETTINGS, is_loopback=True)
GET = PageRequest("GET", "/v2/_catalog", ("127.0.0.1:5050",))
POST = replace(GET, method="POST", path="/v2/a/blobs/uploads/")

KNOWN = [
    *("127.0.0.1:5050", "127.0.0.1", "127.9.9.9:1", "[::1]:5050", "[::1%25lo]:5050", "[0:0::1]"),
    *("localhost", "LocalHost:5050", "localhost.:5050", "localhost:8080", "localhost:"),
    *("registry.example", "registry.example:8443", "REGISTRY.EXAMPLE.", "pushed.site:5050"),
    *("front.site", "front.site:81", "plain.site:5050"),
]
UNKNOWN = [
    *("", ":5050", "evil.example", "evil.example:5050", "127.0.0.1.evil.example:5050"),
    *("localhost.evil.example", "evil.localhost", "localhost..", "a@127.0.0.1", "127.0.0.1@evil"),
    *("127.0.0.1:5050:5050", "127.1", "2130706433", "0.0.0.0:5050", "[::]:5050", "192.0.2.1:5050"),
    *("[::1", "::1", "[::1]x", "127.0.0.1 evil.example", "127.0.0.1,evil.example", "127.0.0.1/x"),
    *("registry.example.evil.example", "xregistry.example", "site", "*", "127.0.0.1:5050\udcff"),
]


def status(request, names=NAMES):
    answer = names.refusal(request)
    return 200 if answer is None else answer.status


@pytest.mark.parametrize("host", KNOWN)
def test_the_names_of_the_registry_are_answered_whatever_their_port_or_case(host):
    assert status(replace(GET, hosts=(host,))) == 200
    assert status(replace(GET, authority=host)) == 200


@pytest.mark.parametrize("host", UNKNOWN)
def test_every_other_name_is_refused_with_the_setting_that_would_allow_it(host):
    for request in (replace(GET, hosts=(host,)), replace(POST, authority=host)):
        answer = NAMES.refusal(request)
        assert answer.status == 421
        [error] = json.loads(answer.body)["errors"]
        assert error["code"] == "DENIED"
        assert "allowed_hosts" in error["message"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/v2/", "/token", "/metrics", "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "CONNECT"])
def test_no_path_or_method_is_answered_under_another_name(path, method):
    asked = PageRequest(method, path, ("evil.example:5050",))
    assert status(asked) == 421


def test_a_request_has_one_name():
    assert status(replace(GET, hosts=())) == 400
    assert status(replace(GET, hosts=("127.0.0.1", "127.0.0.1"))) == 400
    assert status(replace(GET, hosts=("127.0.0.1", "evil.example"))) == 400


@pytest.mark.parametrize(
    ("settings", "is_loopback", "is_checked"),
    [
        (Settings(), True, True),
        (Settings(listen="0.0.0.0:5050", insecure=True), False, False),
        (Settings(listen="0.0.0.0:5050", insecure=True, allowed_hosts=("a",)), False, True),
        (Settings(tls_cert="/cert"), True, False),
        (Settings(listen="0.0.0.0:5050", tls_cert="/cert"), False, False),
        (Settings(allowed_hosts=("*",)), True, False),
    ],
)
def test_names_are_checked_on_loopback_without_tls_and_where_names_are_set(
    settings, is_loopback, is_checked
):
    names = known_names(settings, is_loopback=is_loopback)
    assert (status(replace(GET, hosts=("evil.example",)), names) == 421) == is_checked


def test_a_registry_on_the_network_is_known_by_every_address():
    settings = Settings(listen="0.0.0.0:5050", insecure=True, allowed_hosts=("registry.site",))
    names = known_names(settings, is_loopback=False)
    for host in ("192.0.2.1:5050", "[2001:db8::1]:5050", "127.0.0.1", "registry.site:5050"):
        assert status(replace(GET, hosts=(host,)), names) == 200
    for host in ("evil.example", "192.0.2.1.evil.example", "0.0.0.0.evil.example"):
        assert status(replace(GET, hosts=(host,)), names) == 421


OWN_ORIGINS = [
    *("http://127.0.0.1:5050", "HTTP://127.0.0.1:5050", "https://registry.example:8443"),
    *("http://front.site:81", "https://plain.site", "http://plain.site:80", "http://plain.site"),
]
FOREIGN_ORIGINS = [
    *("null", "", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:3000"),
    *("https://127.0.0.1:5050", "http://localhost:5050", "http://registry.example:8443"),
    *("https://registry.example", "http://front.site", "http://plain.site:8080", "file://"),
    *("chrome-extension://abc", "http://127.0.0.1:5050.evil.example", "127.0.0.1:5050"),
    "http://127.0.0.1:5050 http://evil.example",
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_pages_of_other_origins_write_nothing(method):
    asked = replace(POST, method=method)
    assert [o for o in OWN_ORIGINS if status(replace(asked, origins=(o,))) != 200] == []
    assert [o for o in FOREIGN_ORIGINS if status(replace(asked, origins=(o,))) != 403] == []
    both = ("http://127.0.0.1:5050", "http://evil.example")
    assert status(replace(asked, origins=both)) == 403
    on_tls = known_names(Settings(listen="0.0.0.0:5050", tls_cert="/cert"), is_loopback=False)
    away = replace(asked, hosts=("r.example",), scheme="https")
    assert status(replace(away, origins=("https://r.example",)), on_tls) == 200
    assert status(replace(away, origins=("http://r.example",)), on_tls) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_what_the_browser_calls_foreign_is_refused_also_to_read(method):
    asked = replace(POST, method=method)
    for site in ("cross-site", "same-site", "Cross-Site", "", "something-new"):
        assert status(replace(asked, sites=(site,))) == 403
    for site in ("same-origin", "none"):
        assert status(replace(asked, sites=(site,))) == 200


def test_a_link_that_somebody_follows_leads_to_the_page_alone():
    tab = (("navigate",), ("document",))
    asked = replace(GET, path="/ui/image", sites=("cross-site",), fetches=tab)
    assert status(asked) == 200
    assert status(replace(asked, path="/ui")) == 200
    for changes in (
        {"path": "/uix"},
        {"path": "/v2/_catalog"},
        {"path": "/metrics"},
        {"method": "POST"},
        {"method": "HEAD"},
        {"fetches": (("navigate",), ("iframe",))},
        {"fetches": (("no-cors",), ("image",))},
        {"fetches": (("navigate", "cors"), ("document",))},
        {"fetches": ((), ())},
    ):
        assert status(replace(asked, **changes)) == 403, changes


def test_a_refusal_names_the_setting_only_where_it_would_help():
    by_origin = NAMES.refusal(replace(POST, origins=("http://ui.example",)))
    assert b"'http://ui.example'" in by_origin.body
    assert b"allowed_hosts" in by_origin.body
    by_site = NAMES.refusal(replace(POST, sites=("same-site",)))
    assert b"Sec-Fetch-Site: 'same-site'" in by_site.body
    assert b"allowed_hosts" not in by_site.body


def test_what_tells_nothing_is_answered_to_pages_too():
    for path in ("/", "/healthz"):
        assert status(replace(GET, path=path, sites=("cross-site",))) == 200
        assert status(replace(POST, path=path, sites=("cross-site",))) == 403
    assert status(replace(GET, method="OPTIONS", sites=("cross-site",))) == 200
    assert status(replace(GET, origins=("http://evil.example",))) == 200  # unreadable: no CORS


@given(st.text(st.characters(exclude_categories=())), st.text(alphabet="127.0:[]%localhst@/ "))
def test_any_text_is_parsed_without_an_error(text, near):
    for each in (text, near):
        parse_authority(each)
        parse_origin(f"http://{each}")
        assert status(replace(GET, hosts=(each,))) in {200, 421}


@pytest.mark.parametrize(
    ("target", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v2/", "GET, HEAD, OPTIONS"),
        ("/v2/_catalog?n=1", "GET, HEAD, OPTIONS"),
        ("/v2/a/b/tags/list", "GET, HEAD, OPTIONS"),
        ("/v2/a/b/manifests/1?ns=docker.io", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/v2/a/blobs/sha256:00", "GET, HEAD, DELETE, OPTIONS"),
        ("/v2/a/blobs/uploads/", "POST, OPTIONS"),
        ("/v2/a/blobs/uploads", "POST, OPTIONS"),
        ("/v2/a/blobs/uploads/x", "GET, PATCH, PUT, DELETE, OPTIONS"),
        ("*", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ],
)
def test_each_endpoint_has_its_methods(target, methods):
    assert ", ".join(allowed_methods(target, is_writable=True)) == methods
    reading = allowed_methods(target, is_writable=False)
    assert not {"POST", "PUT", "PATCH", "DELETE"} & set(reading)
