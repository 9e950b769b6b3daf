"""Which requests of containerd go through a proxy, as Go decides."""

import pytest

from airside.diagnostics.doctor.judge.proxies import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "excepted", "is_proxied"),
    [
        ("http://127.0.0.1:5050", "", False),
        ("http://[::1]:5050", "", False),
        ("http://localhost:5050", "", False),
        ("http://10.0.0.1:5050", "", True),
        ("http://10.0.0.1:5050", "10.0.0.0/8", False),
        ("http://10.0.0.1:5050", "10.0.0.1", False),
        ("http://10.0.0.1:5050", "a.example, 10.0.0.1:5050", False),
        ("http://10.0.0.1:5050", "10.0.0.1:80", True),
        ("http://[fd00::1]:5050", "fd00::/8", False),
        ("http://[fd00::1]:5050", "10.0.0.0/8", True),
        ("http://airside.example:5050", "example", False),
        ("http://airside.example:5050", ".example", False),
        ("http://airside.example:5050", ".airside.example", True),
        ("http://airside.example:5050", "other.example,ide.example", True),
        ("http://airside.example:5050", "*", False),
        ("https://airside.example", "", False),
    ],
)
def test_a_proxy_is_for_other_hosts_than_those_excepted(
    url: str, excepted: str, *, is_proxied: bool
) -> None:
    for names in (("HTTP_PROXY", "NO_PROXY"), ("http_proxy", "no_proxy")):
        environment = dict(zip(names, (PROXY, excepted), strict=True))
        assert proxy_for(url, environment) == (PROXY if is_proxied else "")


def test_each_scheme_has_its_proxy() -> None:
    assert proxy_for("https://a.example", {"HTTPS_PROXY": PROXY}) == PROXY
    assert proxy_for("http://a.example", {"HTTPS_PROXY": PROXY}) == ""
