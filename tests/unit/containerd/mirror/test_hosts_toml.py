import tomllib

import pytest

from airside.containerd.mirror.hosts_toml import directory_names, registry_of, with_mirror
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


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/v2", f"{URL}/v2/"])
@pytest.mark.parametrize("capabilities", ["", 'capabilities = ["resolve", "pull", "push"]'])
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
