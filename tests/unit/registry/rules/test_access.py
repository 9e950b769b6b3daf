import pytest

from airside.oci.model import OCI_MANIFEST, parse_document
from airside.oci.reference import Repository
from airside.registry.rules.access import (
    ACTIONS,
    Need,
    Rights,
    Rule,
    judge,
    parse_needs,
    rights_to,
)
from airside.registry.rules.answers import Answer
from airside.registry.rules.lookup import answer, find_blob
from airside.registry.rules.names import Name
from airside.registry.rules.requests import GetBlob, ListCatalog, Ping
from airside.registry.rules.visibility import visible
from support.memory import MemoryStore, MemoryView

DIGEST = "sha256:" + "a" * 64
SECRET = Repository("registry.example", "team/secret")
OPEN = Repository("docker.io", "team/secret")


def rights(pattern, *actions):
    return Rights((Rule((pattern,), frozenset(actions or ("pull",))),))


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("registry.example/team/**", "registry.example/team/a/b", True),
        ("registry.example/team/**", "evil/registry.example/team/a", False),
        ("registry.example/a", "registryXexample/a", False),
        ("team/**", "docker.io/team/a", False),
        ("a", "a\n", False),
    ],
)
def test_patterns_match_the_whole_full_name(pattern, name, fits):
    host, _, path = name.partition("/")
    repository = Repository(host, path) if path else Repository("", name)
    assert rights(pattern).may("pull", repository) is fits


def test_rights_are_what_any_rule_gives():
    both = Rights((*rights("a/**").rules, *rights("b/**", "push").rules))
    assert both.may("pull", Repository("", "a/x"))
    assert not both.may("push", Repository("", "a/x"))
    assert both.may("push", Repository("", "b/x"))
    assert not both.may("delete", Repository("", "b/x"))
    assert not both.may_everywhere("pull")
    assert not Rights().may("pull", Repository("", "a"))
    assert all(rights_to(*ACTIONS).may_everywhere(action) for action in ACTIONS)


def test_answers_may_be_shared_by_those_who_see_the_same():
    assert rights_to("pull").view_key == ""
    assert rights("a/**").view_key == rights("a/**", "pull", "push").view_key != ""
    assert rights("a/**").view_key != rights("b/**").view_key
    assert Rights().view_key not in {"", rights("a/**").view_key}


@pytest.mark.parametrize(
    ("method", "target", "action", "name"),
    [
        ("GET", "/v2/a/b/manifests/1", "pull", Name("a/b")),
        ("HEAD", f"/v2/a/blobs/{DIGEST}?ns=Docker.io", "pull", None),
        ("GET", f"/v2/a/blobs/{DIGEST}?ns=index.docker.io", "pull", Name("a", "docker.io")),
        ("GET", "/v2/a/tags/list", "pull", Name("a")),
        ("GET", f"/v2/a/referrers/{DIGEST}", "pull", Name("a")),
        ("POST", "/v2/a/blobs/uploads/", "push", Name("a")),
        ("POST", "/v2/a/blobs/uploads", "push", Name("a")),
        ("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", "push", Name("a")),
        ("PATCH", "/v2/a/b/blobs/uploads/id", "push", Name("a/b")),
        ("PUT", f"/v2/a/blobs/uploads/id?digest={DIGEST}", "push", Name("a")),
        ("GET", "/v2/a/blobs/uploads/id", "push", Name("a")),
        ("HEAD", "/v2/a/%62lobs/upload%73/id", "push", Name("a")),
        ("DELETE", "/v2/a/blobs/uploads/id", "push", Name("a")),
        ("PUT", "/v2/a/manifests/1?ns=x.example:5000", "push", Name("a", "x.example:5000")),
        ("PUT", "/v2/a/manifests/b/manifests/1", "push", Name("a/manifests/b")),
        ("DELETE", "/v2/a/manifests/1", "delete", Name("a")),
        ("DELETE", f"/v2/a/blobs/{DIGEST}", "delete", Name("a")),
        ("DELETE", "/v2/%61/manifests/1", "delete", Name("a")),
    ],
)
def test_what_a_request_needs(method, target, action, name):
    if name is None:
        assert parse_needs(method, target)[0].action == action
        return
    assert parse_needs(method, target) == (Need(action, name, writes=action != "pull"),)


def test_a_mount_also_needs_to_pull_from_where_it_comes():
    target = f"/v2/a/blobs/uploads/?mount={DIGEST}&from=b%2Fc&ns=x.example"
    here, there = Name("a", "x.example"), Name("b/c", "x.example")
    assert parse_needs("POST", target) == (Need("push", here), Need("pull", there))
    without = parse_needs("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}")
    assert without == (Need("push", Name("a")),)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/v2/A/manifests/1"),
        ("PUT", "/v2/a/manifests/"),
        ("PUT", "/v2/a/other/1"),
        ("PUT", "/v2/a/uploads/1"),
        ("PUT", "/v2//manifests/1"),
        ("POST", "/"),
        ("DELETE", "/v2/_catalog"),
        ("PUT", "/v2/a/manifests/1?ns=//"),
        ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}&from=../etc"),
        ("GET", "/v2/A/manifests/1"),
        ("TRACE", "/v2/a/manifests/1"),
    ],
)
def test_what_is_not_understood_is_refused_for_everybody(method, target):
    refusal = parse_needs(method, target)
    assert isinstance(refusal, Answer)
    assert 400 <= refusal.status < 500


def test_the_registry_itself():
    assert parse_needs("GET", "/v2/") == Ping()
    assert isinstance(parse_needs("GET", "/v2/_catalog?n=3"), ListCatalog)


def manifest(text="{}"):
    raw = (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"x","digest":'
        f'"{DIGEST}","size":2}},"layers":[],"annotations":{{"x":"{len(text)}"}}}}'
    )
    return parse_document(raw.encode(), OCI_MANIFEST, "test")


@pytest.fixture
def view():
    found = MemoryView()
    found.put(SECRET, manifest(), "1")
    return found


def test_a_short_path_is_judged_by_what_it_means(view):
    short = Need("pull", Name("team/secret"), writes=False)
    exact = Need("pull", Name("team/secret", "registry.example"), writes=False)
    whole = Need("pull", Name("registry.example/team/secret"), writes=False)
    for need in (short, exact, whole):
        assert judge(view, rights("other/**"), need, "docker.io") == "denied"
        assert judge(view, rights_to("pull"), need, "docker.io") == "allowed"
    assert judge(view, rights("registry.example/**"), exact, "docker.io") == "allowed"
    assert judge(view, rights("registry.example/**"), short, "docker.io") == "partly"
    assert judge(view, rights("docker.io/**"), short, "docker.io") == "partly"


def test_a_push_needs_where_it_goes_and_a_deletion_all_that_it_may_touch(view):
    team = rights("team/**", *ACTIONS)
    push, delete = (Need(action, Name("team/secret")) for action in ("push", "delete"))
    assert judge(view, team, push, "docker.io") == "allowed"
    assert judge(view, team, delete, "docker.io") == "denied"
    assert judge(view, rights("registry.example/**", *ACTIONS), delete, "docker.io") == "allowed"
    assert judge(view, rights("docker.io/**", *ACTIONS), push, "docker.io") == "denied"
    nowhere = Need("delete", Name("team/new"))
    assert judge(view, team, nowhere, "docker.io") == "allowed"
    assert judge(view, rights("x/**", "delete"), nowhere, "docker.io") == "denied"


def test_who_may_not_pull_sees_nothing_whatever_the_path(view):
    view.put(OPEN, manifest("longer"), "1", "2")
    store = MemoryStore()
    config = store.add(b"{}")
    view.put_blob(SECRET, config)
    seen = visible(view, rights("docker.io/**"))
    for path in ("team/secret", "registry.example/team/secret"):
        found = answer(seen, parsed(f"/v2/{path}/manifests/1"))
        assert (found.body == manifest("longer").raw) == (path == "team/secret")
    for path in ("team/secret", "registry.example/team/secret"):
        blob = find_blob(seen, store.stat, GetBlob(Name(path), config))
        assert isinstance(blob, Answer)
        assert blob.status == 404
    assert find_blob(view, store.stat, GetBlob(Name("registry.example/team/secret"), config)) == 2
    assert (
        answer(seen, parsed("/v2/_catalog")).body == b'{"repositories":["docker.io/team/secret"]}'
    )
    assert b'"1","2"' in answer(seen, parsed("/v2/team/secret/tags/list")).body
    hidden = answer(visible(view, Rights()), parsed("/v2/team/secret/tags/list"))
    assert (hidden.status, b"registry.example" in hidden.body) == (404, False)
    referrers = answer(seen, parsed(f"/v2/registry.example/team/secret/referrers/{DIGEST}"))
    assert b'"manifests":[]' in referrers.body


def parsed(target):
    from airside.registry.rules.requests import parse_request  # noqa: PLC0415

    return parse_request("GET", target)
