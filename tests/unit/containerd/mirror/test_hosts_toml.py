import tomllib

import pytest

from airside.containerd.mirror.hosts_toml import (
    asked,
    directory_names,
    registry_of,
    with_mirror,
)
from airside.containerd.mirror.managed_block import Foreign, without_ours
from airside.core.errors import ConflictError

URL = "http://127.0.0.1:5050"
OURS = {"capabilities": ["pull", "resolve"], "dial_timeout": "1s"}

FOREIGN = {
    "a server": 'server = "https://registry-1.docker.io"\n',
    "a server, no line end": 'server = "https://registry-1.docker.io"',
    "only comments": "# nothing yet\n",
    "hosts": '[host."https://a"]\n  capabilities = ["pull"]\n[host."https://b"]\n',
    "a comment above": 'server = "x"\n# the old mirror\n[host."https://a"]\n',
    "other quotes": "[ 'host' . 'https://a' ]\nskip_verify = true",
    "a sub-table first": '[host."https://a".header]\nx = "1"\n[host."https://a"]\nca = "c"\n',
    "the table of all hosts": '[host]\n[host."https://a"]\n',
    "a header": '[header]\nx = ["1"]\n',
    "dotted keys": 'host."https://a".capabilities = ["pull"]\n',
    "lines of Windows": 'server = "x"\r\n[host."https://a"]\r\n',
    "a text that looks like a table": 'server = """\n[host."x"]\n"""\n',
    "us as the server": f'server = "{URL}"\n',
}


@pytest.mark.parametrize("name", FOREIGN)
def test_our_host_is_put_first_and_taken_out_again(name):
    text = FOREIGN[name]
    try:
        after = with_mirror(Foreign(text), URL)
    except ConflictError as exc:
        assert name in ("a text that looks like a table", "dotted keys")
        assert "by hand" in exc.context["hint"]  # noqa: PT017
        return
    said, says = tomllib.loads(text), tomllib.loads(after)
    assert list(says["host"].items()) == [(URL, OURS), *said.get("host", {}).items()]
    assert {k: v for k, v in says.items() if k != "host"} == {
        k: v for k, v in said.items() if k != "host"
    }
    assert without_ours(after).text == text


def test_a_comment_stays_with_its_table():
    after = with_mirror(Foreign(FOREIGN["a comment above"]), URL)
    assert '# <<< airside mirror\n# the old mirror\n[host."https://a"]' in after


def test_a_new_file_has_nothing_but_our_host():
    after = with_mirror(Foreign(""), URL, made=1)
    assert tomllib.loads(after) == {"host": {URL: OURS}}
    assert without_ours(after) == Foreign("", (), 1)


@pytest.mark.parametrize(
    "url",
    [
        *(URL, f"{URL}/", f"{URL}/v2", f"{URL}/v2/", f"{URL}/./v2", f"{URL}//"),
        *("http://localhost:5050", "http://LocalHost:05050/v2", "http://0.0.0.0:5050"),
        "http://[::ffff:127.0.0.1]:5050",
    ],
)
@pytest.mark.parametrize("capabilities", ["", 'capabilities = ["resolve", "Pull", "push"]'])
def test_what_somebody_else_wrote_as_we_would_is_kept(url, capabilities):
    text = f'[host."{url}"]\n{capabilities}\n[host."https://b"]\n'
    assert with_mirror(Foreign(text), URL) is None


@pytest.mark.parametrize(
    "text",
    [
        f'[host."https://a"]\n[host."{URL}"]\n',
        f'[host."{URL}"]\ncapabilities = ["pull"]\n',
        f'[host."{URL}"]\ncapabilities = 5\n',
        "server = \n",
        "host = 5\n",
        "host.a = 5\n",
        'host = { "https://a" = {} }\n',
    ],
)
def test_what_cannot_be_added_to_safely_is_refused(text):
    with pytest.raises(ConflictError) as caught:
        with_mirror(Foreign(text), URL)
    assert caught.value.context["hint"]


def test_certificates_beside_are_named_since_containerd_would_no_longer_look_for_them():
    beside = ["b.cert", "ca.crt", "a.key", "a.cert", "notes.txt", "z.crt"]
    after = with_mirror(Foreign(""), URL, made=0, files=beside)
    assert tomllib.loads(after) == {
        "ca": ["ca.crt", "z.crt"],
        "client": [["a.cert", "a.key"], ["b.cert", "b.cert"]],
        "host": {URL: OURS},
    }


def test_a_hosts_file_of_others_says_itself_which_certificates():
    after = with_mirror(Foreign("# mine\n"), URL, files=["ca.crt"])
    assert "ca" not in tomllib.loads(after)


def test_directories_are_those_of_containerd():
    assert directory_names("docker.io") == ("docker.io",)
    assert directory_names("r.example:5000") == ("r.example_5000_", "r.example:5000")
    assert directory_names("[::1]:5000") == ("[::1]_5000_", "[::1]:5000")
    for name in directory_names("r.example:5000"):
        assert registry_of(name) == "r.example:5000"
    assert registry_of("docker.io") == "docker.io"
    assert registry_of("_default") == "_default"


@pytest.mark.parametrize(
    "other",
    [
        *("https://127.0.0.1:5050", "127.0.0.1:5050", "HTTP://127.0.0.1:5050"),
        *(
            "http://127.0.0.1:5051",
            "http://127.0.0.1",
            "http://[::1]:5050",
            "http://127.0.0.2:5050",
        ),
        f"{URL}/v2/docker.io",
    ],
)
def test_another_registry_is_not_taken_for_ours(other):
    after = with_mirror(Foreign(f'[host."{other}"]\n'), URL)
    assert list(tomllib.loads(after)["host"]) == [URL, other]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("http://[::1]:5050", "http://[0:0:0:0:0:0:0:1]:5050/v2"),
        ("http://[::1]:5050", "http://localhost:5050"),
        ("http://r.example", "http://R.example.:80/"),
        ("https://r.example", "r.example:443"),
        ("https://r.example/airside", "https://r.example/airside/v2"),
    ],
)
def test_a_registry_in_another_spelling_is_not_added_again(ours, theirs):
    assert with_mirror(Foreign(f'[host."{theirs}"]\n'), ours, reader=(2, 0)) is None
    with pytest.raises(ConflictError, match="not first"):
        with_mirror(Foreign(f'[host."https://a"]\n[host."{theirs}"]\n'), ours, reader=(2, 0))


@pytest.mark.parametrize("reader", [None, (1, 6, 20), (1, 7, 24)])
def test_an_ipv6_literal_is_refused_unless_containerd_is_known_to_read_it(reader):
    """containerd 1.6 and 1.7 ignore the whole file, the hosts of others in it too."""
    with pytest.raises(ConflictError) as caught:
        with_mirror(Foreign(FOREIGN["hosts"]), "http://[::1]:5050", reader=reader)
    assert "--address" in caught.value.context["hint"]
    assert with_mirror(Foreign(FOREIGN["hosts"]), "http://[::1]:5050", reader=(2, 0))


@pytest.mark.parametrize(
    ("text", "unread_by"),
    [
        ('[host."http://[fd00::1]:5000"]\n', [(1, 6, 20), (1, 7, 24)]),
        ('[host."https://a"]\ncapabilities = ["pull", "referrers"]\n', [(1, 7), (2, 1)]),
        ('[host."https://a"]\ncapabilities = ["pull", "x"]\n', [None, (1, 7), (2, 1), (2, 2)]),
        ('[host."https://a"]\nca = 5\n', [None, (1, 7), (2, 1)]),
        ('skip_verify = "yes"\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a"]\nca = ["a.crt", 5]\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a"]\nclient = [["a.cert"]]\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a".header]\nx-retries = 5\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a:port"]\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a registry"]\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a"]\n[host."https://b/%zz"]\n', [None, (1, 7), (2, 1)]),
        ('server = "https://[::1:5000"\n', [None, (1, 7), (2, 1)]),
        ('[host."https://a"]\ndial_timeout = 5\n', [(2, 0), (2, 1)]),
        ('[host."https://a"]\ndial_timeout = "soon"\n', [(2, 0), (2, 1)]),
    ],
)
def test_nothing_is_added_to_a_file_that_containerd_ignores(text, unread_by):
    for reader in unread_by:
        with pytest.raises(ConflictError) as caught:
            with_mirror(Foreign(text), URL, reader=reader)
        assert caught.value.context["hint"]


@pytest.mark.parametrize(
    ("text", "reader"),
    [
        ('[host."http://[fd00::1]:5000"]\n', None),
        ('[host."http://[fd00::1]:5000"]\n', (2, 0)),
        ('[host."https://a"]\ncapabilities = ["pull", "referrers"]\n', (2, 2)),
        ('[host."https://a"]\ndial_timeout = "soon"\n', (1, 7)),
        ('[host."https://a"]\ndial_timeout = "1m2.5s"\nunknown = 5\n', (2, 1)),
        ('[host."https://a"]\ndial_timeout = ""\n', (2, 1)),
        ('[host."https://a"]\ncapabilities = ["Pull", "RESOLVE"]\n', (1, 7)),
        ('[host."https://a"]\nclient = [["a.cert", "a.key"], "b.pem"]\n', (2, 1)),
        ('[host."https://a:"]\n[host."registry_1:5000/p?q=%zz"]\n[host.""]\n', (2, 1)),
        ('[host."https://a".header]\nx-a = "1"\nx-b = ["2", "3"]\n', (1, 7)),
        ('server = "http://[fd00::1]:5000"\n', (1, 6, 20)),
    ],
)
def test_what_this_containerd_reads_is_added_to(text, reader):
    assert without_ours(with_mirror(Foreign(text), URL, reader=reader)).text == text


# An end to the search


AS_SERVER = {"server": URL, **OURS}


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("name", [*FOREIGN, "nothing"])
def test_our_host_ends_the_search_and_is_taken_out_again(name, end):
    text = FOREIGN.get(name, "")
    text = text.replace("\r", "").replace("\n", end) if end else text.rstrip("\r\n")
    try:
        after = with_mirror(Foreign(text), URL, only=True, reader=(1, 6, 20))
    except ConflictError as exc:
        assert name in ("a text that looks like a table", "dotted keys", "a header")
        assert exc.context["hint"]  # noqa: PT017
        return
    said, says = tomllib.loads(text), tomllib.loads(after)
    hosts = said.get("host", {})
    assert list(says["host"].items()) == [*({URL: OURS} if hosts else {}).items(), *hosts.items()]
    assert {k: v for k, v in says.items() if k != "host"} == {
        **{k: v for k, v in said.items() if k != "host"},
        **(AS_SERVER if name != "us as the server" else {}),
    }
    assert asked(after, (1, 6, 20))[-1] == (URL, False)
    assert without_ours(after).text == text


@pytest.mark.parametrize(
    "text",
    [
        f'server = "{URL}/"\n[host]\n',
        f'server = "{URL}/v2"\n[host."http://localhost:5050"]\n[host."https://b"]\n',
    ],
)
def test_an_end_that_somebody_else_wrote_is_kept(text):
    assert with_mirror(Foreign(text), URL, only=True) is None


@pytest.mark.parametrize(
    "root",
    [
        *('server = "a"\noverride_path = true', 'server = "a"\ncapabilities = ["push"]'),
        *('[header]\nx = "1"', 'server = """\nx"""'),
    ],
)
def test_what_others_set_for_their_server_does_not_come_to_apply_to_ours(root):
    text = f"{root}\n"
    with pytest.raises(ConflictError) as caught:
        with_mirror(Foreign(text), URL, only=True)
    assert caught.value.context["hint"]
    assert with_mirror(Foreign(text), URL)


def test_certificates_of_the_registry_itself_are_not_those_of_our_server():
    text = 'server = "https://a"\nca = "a.crt"\n'
    assert with_mirror(Foreign(text), URL, only=True)
    with pytest.raises(ConflictError, match="its ca is for another server"):
        with_mirror(Foreign(text), "https://airside.example", only=True)
    assert "ca" not in tomllib.loads(with_mirror(Foreign(""), URL, only=True, files=["x.crt"]))


@pytest.mark.parametrize("reader", [None, (1, 6, 20), (1, 7, 24), (2, 1)])
def test_an_ipv6_literal_that_is_the_only_address_is_read_by_all(reader):
    url = "http://[::1]:5050"
    after = with_mirror(Foreign(FOREIGN["a server"]), url, only=True, reader=reader)
    assert tomllib.loads(after)["server"] == url
    assert tomllib.loads(after)["host"] == {}
    if reader != (2, 1):
        with pytest.raises(ConflictError, match="IPv6"):
            with_mirror(Foreign(FOREIGN["hosts"]), url, only=True, reader=reader)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", [("", False)]),
        (
            'server = "https://b"\n[host."https://a"]\n',
            [("https://a", False), ("https://b", False)],
        ),
        ('[host."https://a"]\noverride_path = true\n', [("https://a", True), ("", False)]),
        ('[host."https://a"]\ncapabilities = ["push"]\n', [("", False)]),
    ],
)
def test_the_search_order_is_that_of_the_file(text, order):
    assert asked(text, None) == order
