"""`airside mirror` on directories: what is found, written, removed, and what a kill leaves."""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from airside.cli.main import main
from airside.containerd.mirror.apply import apply, plan_remove, plan_write
from airside.containerd.mirror.locations import HostsNode, RegistriesNode, find_nodes, nodes_of
from airside.containerd.mirror.search_order import searches_of

DOCS = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
URL, ADDRESS = "http://127.0.0.1:5050", "127.0.0.1:5050"
MINE = 'server = "https://quay.io"\n\n# the old one\n[host."https://m.example"]'
K3S = 'mirrors:\n  docker.io:\n    endpoint: ["https://m.example"]\n'


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def certs(tmp_path):
    return tmp_path / "certs.d"


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tree(directory):
    """Every path below, with its content, mode and owner."""
    return {
        str(path.relative_to(directory)): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mode,
            path.stat().st_uid,
        )
        for path in directory.rglob("*")
    }


def states(changes):
    return [(str(c.path.parent.name), c.state) for c in changes]


def write(node, *registries, url=URL):
    return apply(plan_write([node], url, registries or None))


# Round trips


def test_all_is_the_default_and_every_registry_with_a_directory(tmp_path, certs):
    put(certs / "quay.io/hosts.toml", MINE)
    put(certs / "r.example_5000_/ca.crt", "a certificate")
    (certs / "empty.example").mkdir()
    before = tree(tmp_path)
    node = HostsNode("containerd", (certs,))
    assert states(write(node)) == [
        ("_default", "written"),
        ("empty.example", "written"),
        ("quay.io", "changed"),
        ("r.example_5000_", "written"),
    ]
    assert f'[host."{URL}"]' in (certs / "empty.example/hosts.toml").read_text()
    assert 'ca = ["ca.crt"]' in (certs / "r.example_5000_/hosts.toml").read_text()
    written = tree(tmp_path)
    assert {state for _, state in states(write(node))} == {"unchanged"}
    assert tree(tmp_path) == written
    assert states(apply(plan_remove([node])))[-1] == ("_default", "removed")
    assert tree(tmp_path) == before
    assert plan_remove([node]) == []


def test_an_end_to_the_search_is_taken_back_byte_for_byte(tmp_path, certs):
    put(certs / "quay.io/hosts.toml", MINE)
    put(certs / "r.example_5000_/ca.crt", "a certificate")
    before = tree(tmp_path)
    node = HostsNode("containerd", (certs,))
    changes = apply(plan_write([node], URL, None, only=True))
    assert {each.state for each in changes} == {"written", "changed"}
    for each in searches_of(node):
        assert each.begins_with(URL)
        assert each.after(URL) == (("https://m.example",) if each.registry == "quay.io" else ())
    assert [note for each in changes for note in each.notes] == [
        f"{certs}/quay.io/hosts.toml: https://m.example is still asked when Airside lacks an image"
    ]
    assert {c.state for c in apply(plan_write([node], URL, None, only=True))} == {"unchanged"}
    write(node)  # an end no longer
    assert [each.after(URL)[-1] for each in searches_of(node)] == ["", "https://quay.io", ""]
    apply(plan_write([node], URL, None, only=True))
    apply(plan_remove([node]))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", [None, K3S])
def test_an_end_to_the_search_of_k3s_is_a_setting_in_a_file_of_its_own(tmp_path, text):
    path = tmp_path / "etc/registries.yaml"
    if text is not None:
        put(path, text + 'configs:\n  "r.example": {}\n')
    before = tree(tmp_path)
    node = RegistriesNode("k3s", path)
    changes = apply(plan_write([node], URL, None, only=True))
    flag = tmp_path / "etc/config.yaml.d/airside-mirror.yaml"
    assert yaml.safe_load(flag.read_text()) == {"disable-default-registry-endpoint": True}
    found = {each.registry: each.after(URL) for each in searches_of(node)}
    if text is None:
        assert found == {"*": ()}
    else:
        assert found == {"*": (), "docker.io": ("https://m.example",), "r.example": ("",)}
        assert any("still asks r.example itself last" in n for c in changes for n in c.notes)
    assert {c.state for c in apply(plan_write([node], URL, None, only=True))} == {"unchanged"}
    put(flag.with_name("later.yaml"), "disable-default-registry-endpoint: false\n")
    assert all(each.after(URL)[-1:] == ("",) for each in searches_of(node))
    flag.with_name("later.yaml").unlink()
    write(node)
    assert not flag.exists()
    apply(plan_write([node], URL, None, only=True))
    apply(plan_remove([node]))
    assert tree(tmp_path) == before


def test_a_file_of_the_name_of_ours_that_is_not_ours_stays(tmp_path):
    flag = put(tmp_path / "config.yaml.d/airside-mirror.yaml", "token: x\n")
    node = RegistriesNode("k3s", tmp_path / "registries.yaml")
    changes = apply(plan_write([node], URL, None, only=True))
    assert [each.state for each in changes] == ["written", "refused"]
    assert flag.read_text() == "token: x\n"


def test_a_file_that_containerd_1_ignores_already_is_told_where_its_version_is_unknown(certs):
    put(certs / "quay.io/hosts.toml", '[host."http://[fd00::1]:5000"]\n')
    for reader, notes in ((None, 1), ((2, 0), 0)):
        [change] = plan_write([HostsNode("containerd", (certs,), reader)], URL, ["quay.io"])
        assert change.state == "changed"
        assert len(change.notes) == notes
        assert all("for containerd 2.0 and later" in note for note in change.notes)


def test_another_address_moves_what_was_written(certs):
    node = HostsNode("containerd", (certs,))
    put(certs / "quay.io/hosts.toml", MINE)
    write(node)
    assert {s for _, s in states(write(node, url="http://10.0.0.1:5050"))} == {"changed"}
    text = (certs / "quay.io/hosts.toml").read_text()
    assert "10.0.0.1" in text
    assert URL not in text
    apply(plan_remove([node]))
    assert (certs / "quay.io/hosts.toml").read_text() == MINE


def test_directories_that_were_made_go_and_others_stay(tmp_path):
    root = tmp_path / "etc/containerd/certs.d"
    node = HostsNode("containerd", (root,))
    write(node, "docker.io", "r.example:5000")
    put(root / "r.example:5000/ca.crt", "of the operator")
    apply(plan_remove([node]))
    assert list(tmp_path.rglob("*")) == [
        tmp_path / "etc",
        tmp_path / "etc/containerd",
        root,
        root / "r.example:5000",
        root / "r.example:5000/ca.crt",
    ]
    (root / "r.example:5000/ca.crt").unlink()
    (root / "r.example:5000").rmdir()
    root.rmdir()
    write(node, "docker.io", "quay.io")
    apply(plan_remove([node]))
    assert list(tmp_path.rglob("*")) == [tmp_path / "etc", tmp_path / "etc/containerd"]


def test_mode_owner_and_link_of_a_file_stay(tmp_path, certs):
    target = put(tmp_path / "managed/hosts.toml", MINE)
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 1234, 1234)
    (certs / "quay.io").mkdir(parents=True)
    (certs / "quay.io/hosts.toml").symlink_to(target)
    before = target.stat()
    node = HostsNode("containerd", (certs,))
    write(node, "quay.io")
    assert (certs / "quay.io/hosts.toml").is_symlink()
    assert URL in target.read_text()
    after = target.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    apply(plan_remove([node]))
    assert target.read_text() == MINE


def test_k3s_is_told_in_its_own_file(tmp_path):
    path = put(tmp_path / "registries.yaml", K3S)
    before = tree(tmp_path)
    node = RegistriesNode("k3s", path)
    [change] = write(node)
    assert (change.state, change.registries) == ("changed", ("*", "docker.io"))
    [change] = write(node, "quay.io", url="http://10.0.0.1:5050")
    assert sorted(change.registries) == ["*", "docker.io", "quay.io"]
    assert path.read_text().count("10.0.0.1") == 3
    assert URL not in path.read_text()
    [change] = apply(plan_remove([node]))
    assert (change.state, tree(tmp_path)) == ("restored", before)
    path.unlink()
    [change] = write(node, "_default")
    assert (change.state, path.stat().st_mode & 0o777) == ("written", 0o600)
    apply(plan_remove([node]))
    assert tree(tmp_path) == {}


# What is not touched


def test_files_of_others_are_not_touched_by_a_removal(tmp_path, certs):
    put(certs / "quay.io/hosts.toml", MINE)
    put(certs / "loose file", "x")
    before = tree(tmp_path)
    node = HostsNode("containerd", (certs,))
    assert plan_remove([node]) == []
    assert plan_remove([RegistriesNode("k3s", tmp_path / "absent/registries.yaml")]) == []
    assert tree(tmp_path) == before


def test_one_refusal_keeps_no_other_file_from_it(certs):
    put(certs / "bad.example/hosts.toml", "server = ")
    put(certs / "quay.io/hosts.toml", f'[host."{URL}"]\n')
    node = HostsNode("containerd", (certs,))
    assert states(write(node)) == [
        ("_default", "written"),
        ("bad.example", "refused"),
        ("quay.io", "kept"),
    ]
    assert (certs / "bad.example/hosts.toml").read_text() == "server = "


def test_lines_of_ours_that_somebody_changed_are_left(certs):
    node = HostsNode("containerd", (certs,))
    write(node, "docker.io")
    path = certs / "docker.io/hosts.toml"
    path.write_text(path.read_text().replace("1s", "9s"))
    before = path.read_text()
    for changes in (write(node, "docker.io"), apply(plan_remove([node]))):
        [change] = changes
        assert change.state == "refused"
        assert str(path) in change.error.message
    assert path.read_text() == before


def test_a_registry_is_not_taken_from_a_default_of_others(certs):
    put(certs / "_default/hosts.toml", MINE)
    node = HostsNode("containerd", (certs,))
    [change] = write(node, "docker.io")
    assert change.state == "refused"
    assert "--all" in change.error.context["hint"]
    assert not (certs / "docker.io").exists()
    assert states(write(node)) == [("_default", "changed")]
    apply(plan_remove([node]))
    assert (certs / "_default/hosts.toml").read_text() == MINE


def test_our_own_default_hides_nothing(certs):
    node = HostsNode("containerd", (certs,))
    write(node)
    assert states(write(node, "docker.io")) == [("docker.io", "written")]


def test_a_default_hides_no_directory_of_a_later_root(tmp_path):
    first, docker = tmp_path / "containerd", tmp_path / "docker"
    put(docker / "r.example:5000/ca.crt", "of the operator")
    put(first / "quay.io/hosts.toml", MINE)
    node = HostsNode("containerd", (first, docker))
    paths = [c.path.parent for c in write(node)]
    assert paths == [docker / "_default", first / "quay.io", docker / "r.example:5000"]
    put(first / "_default/hosts.toml", "# mine\n")
    paths = [c.path.parent for c in plan_write([node], URL, None)]
    assert paths == [first / "_default", first / "quay.io"]


def test_a_file_that_changed_since_it_was_read_is_not_written(certs):
    path = put(certs / "quay.io/hosts.toml", MINE)
    changes = plan_write([HostsNode("containerd", (certs,))], URL, ["quay.io"])
    path.write_text("# somebody was quicker\n")
    [change] = apply(changes)
    assert change.state == "refused"
    assert path.read_text() == "# somebody was quicker\n"


def test_what_this_user_may_not_look_at_says_so(run, certs, monkeypatch):
    before = Path.stat

    def stat(path, **options):
        if certs in path.parents:
            raise PermissionError(13, "Permission denied")
        return before(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    code, _, err = run("mirror", "write", "--all", "--address", ADDRESS, "--certs-dir", certs)
    assert code == 1
    assert "hint: run the command as root" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="a user that may not write is needed")
def test_what_this_user_may_not_write_is_refused(certs):
    certs.mkdir()
    node = HostsNode("containerd", (certs,))
    changes = plan_write([node], URL, ["docker.io"])
    certs.chmod(0o755)
    os.seteuid(65534)
    try:
        [change] = apply(changes)
    finally:
        os.seteuid(0)
    assert change.state == "refused"
    assert list(certs.iterdir()) == []


def test_a_link_to_nothing_is_refused(certs):
    (certs / "quay.io").mkdir(parents=True)
    (certs / "quay.io/hosts.toml").symlink_to(certs / "absent")
    [change] = write(HostsNode("containerd", (certs,)), "quay.io")
    assert change.state == "refused"
    assert (certs / "quay.io/hosts.toml").is_symlink()


def test_what_is_no_text_is_refused(certs):
    (certs / "quay.io").mkdir(parents=True)
    (certs / "quay.io/hosts.toml").write_bytes(b"\xff\xfe")
    [change] = write(HostsNode("containerd", (certs,)), "quay.io")
    assert change.state == "refused"
    assert "UTF-8" in change.error.message


# Killed at every step

_KILLED = """
import os, pathlib, sys
from airside.containerd.mirror.apply import apply, plan_remove, plan_write
from airside.containerd.mirror.locations import HostsNode
root, what, steps = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
passed = 0
def stepping(name):
    real = getattr(os, name)
    def step(*args, **kwargs):
        global passed
        passed += 1
        if passed > steps:
            os._exit(9)
        return real(*args, **kwargs)
    setattr(os, name, step)
node = HostsNode("containerd", (root,))
url = "http://127.0.0.1:5050"
changes = plan_write([node], url, None) if what == "write" else plan_remove([node])
for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "fchmod", "chmod"):
    stepping(name)
apply(changes)
print(passed)
"""


def killed_after(root, what, steps):
    command = [sys.executable, "-c", _KILLED, str(root), what, str(steps)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", ["write", "remove"])
def test_a_kill_leaves_each_file_old_or_new(tmp_path, what):
    """And no directory without its file: containerd would take it for a registry of no mirrors."""
    steps = 0
    while True:
        root = tmp_path / f"{steps}"
        put(root / "quay.io/hosts.toml", MINE)
        old = tree(root)
        node = HostsNode("containerd", (root,))
        write(node)
        new = tree(root)
        if what == "write":
            apply(plan_remove([node]))
        done = killed_after(root, what, steps)
        found = {k: v for k, v in tree(root).items() if ".airside-mirror-" not in k}
        for path in ("quay.io", "quay.io/hosts.toml", "_default", "_default/hosts.toml"):
            assert found.get(path) in (old.get(path), new.get(path))
        assert ("_default" in found) == ("_default/hosts.toml" in found)
        apply(plan_remove([node]))
        write(node)
        apply(plan_remove([node]))
        assert tree(root) == old
        if done.returncode == 0:
            break
        assert (done.returncode, done.stderr) == (9, "")
        steps += 1
        assert steps < 60
    assert int(done.stdout) == steps > 8


# What this machine has


def test_runtimes_are_told_by_their_directories(tmp_path):
    for path in (
        "etc/rancher/k3s",
        "var/lib/rancher/rke2",
        "var/lib/k0s",
        "var/snap/microk8s/current/args",
        "etc/containerd",
    ):
        (tmp_path / path).mkdir(parents=True)
    found = {node.runtime: node for node in find_nodes(tmp_path)}
    assert found["k3s"].path == tmp_path / "etc/rancher/k3s/registries.yaml"
    assert found["rke2"].path == tmp_path / "etc/rancher/rke2/registries.yaml"
    assert found["k0s"].roots == (tmp_path / "etc/k0s/containerd.d/certs.d",)
    assert "containerd.d/airside.toml" in found["k0s"].warning
    assert found["microk8s"].roots == (tmp_path / "var/snap/microk8s/current/args/certs.d",)
    assert found["containerd"].roots == (tmp_path / "etc/containerd/certs.d",)
    assert len(found) == 5


def test_a_machine_with_nothing_is_one_with_plain_containerd(tmp_path):
    [node] = find_nodes(tmp_path)
    assert (node.runtime, node.roots) == ("containerd", (tmp_path / "etc/containerd/certs.d",))
    assert "config_path" in node.warning


def config(path, directory):
    return put(
        path,
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
        f'config_path = "{directory}"\n',
    )


def test_config_path_is_read_with_its_imports(tmp_path):
    etc = tmp_path / "etc/containerd"
    put(etc / "config.toml", f'version = 2\nimports = ["{etc}/more/*.toml", "config.toml"]\n')
    assert find_nodes(tmp_path)[0].roots == (etc / "certs.d",)
    config(etc / "more/1.toml", "/a:/b")
    put(etc / "more/2.toml", "not TOML")
    [node] = find_nodes(tmp_path)
    assert node.roots == (tmp_path / "a", tmp_path / "b")
    assert replace(node, reader=(2, 0)).warning == ""
    for reader in (None, (2, 1)):
        assert "several directories" in replace(node, reader=reader).warning
        assert 'config_path = "/a"' in replace(node, reader=reader).warning


def test_drop_ins_count_where_there_is_no_main_file(tmp_path):
    config(tmp_path / "etc/containerd/conf.d/1.toml", "/a")
    config(tmp_path / "etc/k0s/containerd.d/1.toml", "/k")
    found = {node.runtime: node for node in find_nodes(tmp_path)}
    assert found["containerd"].roots == (tmp_path / "a",)
    assert (found["k0s"].roots, found["k0s"].warning) == ((tmp_path / "k",), "")


DROP_IN = "etc/k0s/containerd.d/airside.toml"
MANAGED = "# k0s_managed=true\nversion = 2\n"


@pytest.mark.parametrize("config_text", [None, MANAGED], ids=["before its first start", "running"])
def test_k0s_gets_a_drop_in_that_names_the_directory_and_loses_it_again(tmp_path, config_text):
    if config_text:
        put(tmp_path / "etc/k0s/containerd.toml", config_text)
        (tmp_path / "etc/k0s/containerd.d").mkdir()
    before = sorted(tmp_path.rglob("*"))
    changes = apply(plan_write(nodes_of(tmp_path, "k0s"), URL, None))
    assert [change.path.name for change in changes] == ["hosts.toml", "airside.toml"]
    read = tomllib.loads((tmp_path / DROP_IN).read_text())
    registry = read["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    [node] = nodes_of(tmp_path, "k0s")
    assert registry["config_path"] == str(node.roots[0])
    assert node.warning == ""
    again = plan_write([node], URL, None)
    assert {change.state for change in again} == {"unchanged"}
    apply(plan_remove(nodes_of(tmp_path, "k0s")))
    assert sorted(tmp_path.rglob("*")) == before


def test_k0s_gets_no_drop_in_where_it_would_not_merge_it_or_others_named_a_directory(tmp_path):
    ways = {
        "owner": ("etc/k0s/containerd.toml", "version = 2\n"),
        "others": ("etc/k0s/containerd.d/1.toml", MANAGED),
        "pod": ("etc/k0s/containerd.d/README", "the pod sees no containerd.toml"),
    }
    for name, (path, text) in ways.items():
        put(tmp_path / name / path, text)
    put(tmp_path / "others/etc/k0s/containerd.toml", MANAGED)
    config(tmp_path / "others/etc/k0s/containerd.d/1.toml", "/k")
    for name in ways:
        [node] = nodes_of(tmp_path / name, "k0s")
        changes = plan_write([node], URL, None)
        assert [change.path.name for change in changes] == ["hosts.toml"], name
        assert bool(node.warning) == (name != "others")


def test_a_drop_in_of_this_name_with_lines_of_others_is_not_changed(tmp_path):
    put(tmp_path / "etc/k0s/containerd.toml", MANAGED)
    put(tmp_path / DROP_IN, "version = 2\n")
    changes = {c.path.name: c for c in plan_write(nodes_of(tmp_path, "k0s"), URL, None)}
    assert "somebody else wrote into it" in changes["airside.toml"].error.message


def test_paths_in_the_configuration_are_of_the_host_whose_root_is_mounted(tmp_path):
    """An agent in a container must not write into its own /etc."""
    put(tmp_path / "etc/containerd/config.toml", 'version = 2\nimports = ["/etc/c.d/*.toml"]\n')
    config(tmp_path / "etc/c.d/1.toml", "/etc/containerd/hosts")
    assert find_nodes(tmp_path)[0].roots == (tmp_path / "etc/containerd/hosts",)


def test_dockers_certificates_are_searched_where_containerd_would(tmp_path):
    put(tmp_path / "etc/docker/certs.d/r.example:5000/ca.crt")
    [node] = find_nodes(tmp_path)
    roots = (tmp_path / "etc/containerd/certs.d", tmp_path / "etc/docker/certs.d")
    assert node.roots == roots
    assert f'config_path = "{roots[0]}"' in node.warning


# The command


def test_the_command_says_what_it_did(run, certs):
    put(certs / "quay.io/hosts.toml", MINE)
    where = ("--certs-dir", certs)
    code, out, _ = run("mirror", "write", "--all", "--address", ADDRESS, "--dry-run", *where)
    assert code == 0
    assert f"would write: {certs}/_default/hosts.toml (_default)" in out
    assert f'  +[host."{URL}"]' in out
    assert not (certs / "_default").exists()
    code, out, _ = run("mirror", "write", "--all", "--address", ADDRESS, *where)
    assert (code, out.splitlines()) == (
        0,
        [
            f"written: {certs}/_default/hosts.toml (_default)",
            f"changed: {certs}/quay.io/hosts.toml (quay.io)",
        ],
    )
    code, out, _ = run("mirror", "remove", *where, "--json", "--dry-run")
    report = json.loads(out)
    assert [item["state"] for item in report["items"]] == ["restored", "removed"]
    text = re.search(r"^## mirror write\n(.*?)(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL)[1]
    for key in {*report, *report["items"][0], "error"} - {"schema", "items"}:
        assert f"`{key}`" in text
    assert run("mirror", "remove", *where)[0] == 0
    assert run("mirror", "remove", *where)[1] == "nothing to remove\n"


def test_k3s_must_be_restarted(run, tmp_path):
    where = ("--registries-file", put(tmp_path / "registries.yaml", K3S + "    rewrite: {a: b}\n"))
    code, out, _ = run("mirror", "write", "--all", "--address", ADDRESS, *where)
    assert code == 0
    assert "note: docker.io has rewrites" in out
    assert "note: restart k3s" in out
    _, out, _ = run("mirror", "write", "--all", "--address", ADDRESS, *where)
    assert "note: restart" not in out


def test_a_refusal_fails_and_says_what_to_do(run, certs):
    put(certs / "docker.io/hosts.toml", "server = ")
    args = ("mirror", "write", "--registry", "docker.io", "--address", ADDRESS)
    code, out, err = run(*args, "--certs-dir", certs)
    assert (code, out) == (1, "")
    assert err.startswith(f"airside: {certs}/docker.io/hosts.toml: it is not valid TOML")
    assert "  hint: correct or delete it" in err
    code, out, _ = run(*args, "--certs-dir", certs, "--json")
    [item] = json.loads(out)["items"]
    assert (code, item["state"], item["error"]["code"]) == (1, "refused", "conflict")


def test_the_address_is_that_of_the_settings_where_no_agent_runs(run, tmp_path, certs, monkeypatch):
    args = ("mirror", "write", "--all", "--json", "--certs-dir", certs, "--data", tmp_path / "data")
    monkeypatch.setenv("AIRSIDE_LISTEN", "0.0.0.0:5051")
    assert json.loads(run(*args)[1])["address"] == "http://127.0.0.1:5051"
    for listen in ("", "127.0.0.1:0"):
        monkeypatch.setenv("AIRSIDE_LISTEN", listen)
        code, out, _ = run(*args)
        assert (code, json.loads(out)["error"]["code"]) == (2, "config")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--all", "--registry", "docker.io"],
        ["--registry", "../x"],
        ["--registry", "docker.io/library"],
        ["--all", "--address", "nowhere"],
    ],
)
def test_wrong_usage(run, certs, args):
    code, _, err = run("mirror", "write", *args, "--certs-dir", certs)
    assert code == 2
    assert err
    assert not certs.exists()


def test_the_other_name_of_docker_hub_is_the_one_that_containerd_uses(run, certs):
    args = ("--registry", "index.docker.io", "--address", ADDRESS)
    run("mirror", "write", *args, "--certs-dir", certs)
    assert [path.name for path in certs.iterdir()] == ["docker.io"]
