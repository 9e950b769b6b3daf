import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airside.containerd.mirror.managed_block import Foreign, without_ours
from airside.containerd.mirror.registries_yaml import all_registries, rewritten, with_mirrors
from airside.core.errors import ConflictError

URL = "http://127.0.0.1:5050"
WANTED = ("docker.io", "quay.io", "r.example:5000", "*")
DOCUMENTED = """\
# of the operator
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example:5000"   # ours
    rewrite:
      "^rancher/(.*)": "mirror/$1"

  # Red Hat's
  quay.io:
    endpoint:
    - https://q.example
configs:
  "mirror.example:5000":
    auth:
      username: x
      password: 0123
"""
VALUE = {
    "mirrors": {"docker.io": {"endpoint": ["https://a"]}, "quay.io": {"endpoint": []}, "r": {}},
    "configs": {"a": {"auth": {"password": "p"}}},
}
FOREIGN = {
    "nothing": "",
    "only comments": "# nothing yet",
    "a null": "---\n",
    "block style": DOCUMENTED,
    "block style, no line end": DOCUMENTED.rstrip(),
    "lines of Windows": DOCUMENTED.replace("\n", "\r\n"),
    "no mirrors": "configs:\n  a:\n    auth: {}\n",
    "empty mirrors": "mirrors:   # none\nconfigs:\n",
    "mirrors of braces": "mirrors: {}",
    "mirrors as null": "mirrors: null # none\n",
    "a registry without": "mirrors:\n  docker.io:\n  quay.io: {}\n  r.example:5000: ~\n",
    "a flow list": "mirrors:\n  docker.io:\n    endpoint: [ 'https://a', b ] # two\n",
    "a null list": "mirrors:\n  docker.io:\n    endpoint:\n    rewrite: {a: b}\n",
    "JSON": json.dumps(VALUE),
    "JSON on lines": json.dumps(VALUE, indent=2) + "\n",
    "JSON, wide": json.dumps(VALUE, indent="\t\t"),
    "quoted keys": "'mirrors':\n  \"docker.io\":\n    'endpoint':\n      - a\n",
    "document marks": "---\nmirrors:\n  quay.io:\n    endpoint:\n      - a\n...\n",
}


def says(text):
    return yaml.safe_load(text.replace("\t", " "))


def wanted(text):
    """The expected content of the file."""
    data = says(text) or {}
    mirrors = data["mirrors"] = data.get("mirrors") or {}
    for name in WANTED:
        mirrors[name] = mirrors.get(name) or {}
        mirrors[name]["endpoint"] = [URL, *(mirrors[name].get("endpoint") or [])]
    return data


@pytest.mark.parametrize("name", FOREIGN)
def test_our_endpoint_is_put_first_and_taken_out_again(name):
    text = FOREIGN[name]
    after = with_mirrors(Foreign(text), URL, WANTED, made=0)
    assert says(after) == wanted(text)
    found = without_ours(after)
    assert (found.text, found.made) == (text, 0)
    assert sorted(found.registries) == sorted(WANTED)


def test_lines_are_only_added_in_block_style():
    after = with_mirrors(Foreign(DOCUMENTED), URL, WANTED)
    assert "# |" not in after
    assert set(DOCUMENTED.splitlines()) <= set(after.splitlines())


def test_a_folded_value_beside_is_not_torn_apart():
    text = "{configs: {a: {b: one\n    two}}, mirrors: {}}\n"
    with pytest.raises(ConflictError, match="no endpoint can be added"):
        with_mirrors(Foreign(text), URL, WANTED)


names = st.sampled_from([*WANTED, "a.b", "true", "5"])
words = st.text(st.sampled_from("ab:/ #{}[],'\"-\t0\u00e4"), max_size=6)
endpoints = st.none() | st.lists(words, max_size=3)
mirrors = st.none() | st.fixed_dictionaries(
    {}, optional={"endpoint": endpoints, "rewrite": st.dictionaries(words, words, max_size=2)}
)
files = st.fixed_dictionaries(
    {},
    optional={
        "mirrors": st.none() | st.dictionaries(names, mirrors, max_size=4),
        "configs": st.none()
        | st.dictionaries(names, st.dictionaries(words, words, max_size=2), max_size=2),
    },
)


@given(files, st.sampled_from([True, False, None]), st.integers(2, 6), st.booleans())
def test_any_file_says_what_it_said_and_our_endpoints(value, flow, indent, end):
    text = yaml.safe_dump(value, default_flow_style=flow, indent=indent, width=10_000)
    text = text if end else text.rstrip()
    after = with_mirrors(Foreign(text), URL, WANTED)
    assert says(after) == wanted(text)
    assert without_ours(after).text == text


@pytest.mark.parametrize(
    "text",
    [
        "mirrors:\n  docker.io: [\n",
        "- a\n",
        "mirrors: [a]\n",
        "mirrors:\n  docker.io:\n    endpoint: https://a\n",
        "mirrors: {}\n---\nmirrors: {}\n",
        f"mirrors:\n  docker.io:\n    endpoint: [https://a, '{URL}/v2']\n",
        "x: &e\n  - https://a\nmirrors:\n  docker.io:\n    endpoint: *e\n",
        "x: &e {endpoint: [https://a]}\nmirrors:\n  docker.io:\n    <<: *e\n",
        "mirrors: !!python/object:os.system {}\n",
        "5\n",
    ],
)
def test_what_cannot_be_added_to_safely_is_refused(text):
    with pytest.raises(ConflictError) as caught:
        with_mirrors(Foreign(text), URL, WANTED)
    assert caught.value.context["hint"]


def test_what_somebody_else_wrote_as_we_would_is_kept():
    text = f"mirrors:\n  docker.io:\n    endpoint: ['{URL}/', b]\n"
    assert with_mirrors(Foreign(text), URL, ["docker.io"]) == text


def test_an_entry_that_would_hide_the_one_for_all_is_refused():
    text = 'mirrors:\n  "*":\n    endpoint: [a]\n  quay.io:\n    endpoint: [b]\n'
    with pytest.raises(ConflictError, match="would hide"):
        with_mirrors(Foreign(text), URL, ["docker.io"])
    assert with_mirrors(Foreign(text), URL, ["quay.io"]) != text
    assert with_mirrors(Foreign(text), URL, ["docker.io", "*"]) != text


def test_all_registries_are_the_default_and_those_with_an_entry():
    assert all_registries("") == ["*"]
    assert all_registries(DOCUMENTED) == ["*", "docker.io", "quay.io", "mirror.example:5000"]


def test_rewrites_are_told():
    assert rewritten(DOCUMENTED) == ["docker.io"]
    assert rewritten("") == []


@pytest.mark.parametrize(
    "theirs",
    ["127.0.0.1:5050", "localhost:5050/v2", "http://127.0.0.1:05050/", "http://localhost:5050/v2"],
)
def test_our_endpoint_in_another_spelling_is_not_added_again(theirs):
    """K3s reads an address of this host with a port and no scheme as HTTP."""
    text = f"mirrors:\n  docker.io:\n    endpoint: ['{theirs}', b]\n"
    assert with_mirrors(Foreign(text), URL, ["docker.io"]) == text
    with pytest.raises(ConflictError, match="not the first"):
        with_mirrors(Foreign(text.replace("[", "[a, ")), URL, ["docker.io"])


@pytest.mark.parametrize("reader", [None, (1, 7, 24)])
def test_an_ipv6_literal_is_refused_unless_the_containerd_of_k3s_reads_it(reader):
    """K3s makes it the name of a table, and containerd 1.x then ignores the file."""
    with pytest.raises(ConflictError, match="IPv6"):
        with_mirrors(Foreign(DOCUMENTED), "http://[::1]:5050", WANTED, reader=reader)
    assert with_mirrors(Foreign(DOCUMENTED), "http://[::1]:5050", WANTED, reader=(2, 0))
