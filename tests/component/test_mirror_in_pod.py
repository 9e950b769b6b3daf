"""The init container of the mirror: notes for `kubectl describe pod`, and a strict exit."""

import pytest

from airside.cli.main import main


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The host below a mount of the pod; its containerd has no config_path."""
    root = tmp_path / "host"
    (root / "etc/containerd").mkdir(parents=True)
    (root / "etc/containerd/config.toml").write_text("version = 2\n")
    monkeypatch.setenv("AIRSIDE_HOST_ROOT", str(root))
    return root


def write(*more):
    return main(["mirror", "write", "--all", "--address", "127.0.0.1:5050", *map(str, more)])


def test_a_missing_config_path_is_written_to_the_notes_with_what_to_do(host, tmp_path):
    notes = tmp_path / "termination-log"
    assert write("--notes-file", notes) == 0
    [line] = notes.read_text().splitlines()
    assert "/etc/containerd/config.toml sets no config_path" in line
    assert 'config_path = "/etc/containerd/certs.d"' in line
    assert (host / "etc/containerd/certs.d/_default/hosts.toml").exists()


@pytest.mark.usefixtures("host")
def test_strict_fails_where_containerd_does_not_read_the_settings():
    assert write("--strict") == 1


def test_with_a_config_path_strict_ends_well_and_the_notes_are_empty(host, tmp_path):
    (host / "etc/containerd/config.toml").write_text(
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
        'config_path = "/etc/containerd/certs.d"\n'
    )
    notes = tmp_path / "termination-log"
    assert write("--strict", "--notes-file", notes) == 0
    assert notes.read_text() == ""


def test_a_removal_writes_its_notes_too_and_leaves_no_setting(host, tmp_path):
    notes = tmp_path / "termination-log"
    write()
    assert main(["mirror", "remove", "--notes-file", str(notes)]) == 0
    assert notes.read_text() == ""
    assert not (host / "etc/containerd/certs.d").exists()


@pytest.mark.usefixtures("host")
def test_a_notes_file_that_cannot_be_written_is_an_error(tmp_path, capsys):
    assert write("--notes-file", tmp_path / "absent/file") != 0
    assert "cannot write" in capsys.readouterr().err
