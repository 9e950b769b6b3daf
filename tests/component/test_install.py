"""`airside install` and `airside uninstall` on a host that is a directory."""

import json
import os
import re
import subprocess
import sys

import pytest

from airside.cli.install import require_root
from airside.core.errors import UnavailableError
from airside.core.host_root import HOST_ROOT
from airside.core.settings import Settings
from airside.install.configuration import DEFAULT
from airside.install.host import mount_point, place_of, program
from airside.install.layers_unit import service_text, socket_text
from airside.install.targets import LAYERS_SERVICE, LAYERS_SOCKET, TARGETS
from airside.install.unit import Place, unit_text
from support.command import airside
from support.host import without_settings
from support.schemas import check_output
from support.waiting import LIMIT_SECONDS

UNITS = "etc/systemd/system"
UNIT = f"{UNITS}/airside.service"
DROP_IN = "etc/systemd/system/airside.service.d/50-airside-install.conf"
CONFIG = "etc/airside/airside.toml"
MOST_EXPOSURE = 4.0
MOST_EXPOSURE_OF_LAYERS = 3.5


@pytest.fixture
def root(tmp_path):
    """A host with a directory of each distribution."""
    for path in ("etc/systemd/system", "var/lib", "etc/rancher/k3s", "etc/rancher/rke2", "etc/k0s"):
        (tmp_path / "root" / path).mkdir(parents=True)
    (tmp_path / "root/var/snap/microk8s/current/args").mkdir(parents=True)
    (tmp_path / "root/etc/containerd").mkdir()
    return tmp_path / "root"


def tree(root):
    """Every path below a directory, with what a file has."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None
        for path in root.rglob("*")
    }


def run(command, root, *words):
    done = airside(command, *words, "--root", root, "--json")
    report = json.loads(done.stdout)
    check_output(command, report)
    return done.returncode, report


def installed(root, *words):
    code, report = run("install", root, *words)
    assert code == 0, report
    return report


def states(report):
    return [item["state"] for item in report["items"]]


def mode(path):
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_installed_is_found_again_and_removed_to_the_last_file(root, name):
    before = tree(root)
    planned = installed(root, f"--{name}", "--dry-run")
    assert tree(root) == before
    done = installed(root, f"--{name}")
    assert done["items"] == [
        {k: v for k, v in item.items() if k != "diff"} for item in planned["items"]
    ]
    after = tree(root)
    again = installed(root, f"--{name}")
    assert set(states(again)) <= {"unchanged"}
    assert tree(root) == after
    assert run("uninstall", root, "--dry-run")[0] == 0
    assert tree(root) == after
    code, report = run("uninstall", root)
    assert (code, tree(root)) == (0, before), report
    assert run("uninstall", root)[1]["items"] == []


def test_directories_and_configuration_are_closed(root):
    installed(root, "--systemd")
    modes = {
        "var/lib/airside": 0o755,
        "var/lib/airside/data": 0o700,
        "var/lib/airside/images": 0o750,
        CONFIG: 0o640,
        UNIT: 0o644,
        f"{UNITS}/{LAYERS_SOCKET}": 0o644,
        f"{UNITS}/{LAYERS_SERVICE}": 0o644,
    }
    assert {path: mode(root / path) for path in modes} == modes
    wants = root / "etc/systemd/system/multi-user.target.wants/airside.service"
    assert wants.resolve() == root / UNIT


def test_the_unit_runs_this_program_and_knows_the_distribution(root):
    report = installed(root, "--rke2")
    assert report["target"] == "rke2"
    text = (root / UNIT).read_text()
    assert re.search(r"^ExecStart=/\S.* run$", text, re.MULTILINE)
    assert "Before=rke2-server.service rke2-agent.service\n" in text
    assert "/var/lib/rancher/rke2/agent/containerd\n" in text
    assert str(root) not in text
    layers = (root / UNITS / LAYERS_SERVICE).read_text()
    assert re.search(r"^ExecStart=/\S.* layer-writer 3 accepted$", layers, re.MULTILINE)
    assert "127.0.0.1:5050" in (root / "etc/rancher/rke2/registries.yaml").read_text()
    assert not (root / "etc/rancher/k3s/registries.yaml").exists()


def test_the_unit_names_a_link_that_outlasts_an_upgrade(tmp_path, monkeypatch):
    version = tmp_path / "versions/1-abc/bin/airside"
    version.parent.mkdir(parents=True)
    version.touch()
    monkeypatch.setattr(sys, "argv", [str(version)])
    assert program() == (str(version),)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/airside").symlink_to("../versions/1-abc/bin/airside")
    assert program() == (str(tmp_path / "bin/airside"),)


def test_settings_of_the_host_decide_directories_rights_and_address(root):
    (root / "etc/airside").mkdir()
    (root / CONFIG).write_text(
        f'data = "{root}/var/lib/containerd/airside"\ndata_group = "root"\n'
        'listen = "127.0.0.1:5099"\n'
    )
    report = installed(root, "--k3s")
    assert (root / "var/lib/containerd/airside").is_dir()
    assert report["address"] == "http://127.0.0.1:5099"
    text = (root / UNIT).read_text()
    assert "RequiresMountsFor=/var/lib/containerd/airside " in text
    assert "CAP_SETUID" in text


def test_without_a_mirror_no_settings_of_containerd_are_written(root):
    before = tree(root / "etc/rancher")
    report = installed(root, "--k3s", "--no-mirror")
    assert report["address"] is None
    assert tree(root / "etc/rancher") == before


def test_files_that_somebody_changed_are_neither_overwritten_nor_lost(root):
    installed(root, "--k3s")
    for path in (UNIT, CONFIG):
        (root / path).write_text((root / path).read_text() + "# mine\n")
    mine = {path: (root / path).read_text() for path in (UNIT, CONFIG)}
    report = installed(root, "--rke2", "--no-mirror")
    assert states(report).count("kept") == 2
    assert {path: (root / path).read_text() for path in mine} == mine
    code, report = run("uninstall", root, "--purge")
    assert code == 0
    assert {"saved", "kept"} <= set(states(report))
    assert not (root / UNIT).exists()
    assert (root / f"{UNIT}.saved").read_text() == mine[UNIT]
    assert (root / CONFIG).read_text() == mine[CONFIG]


def test_a_unit_of_an_earlier_installation_is_replaced(root):
    installed(root, "--k3s")
    report = installed(root, "--k0s")
    assert "changed" in states(report)
    assert "k0scontroller.service" in (root / UNIT).read_text()


def test_data_and_archives_stay_until_they_are_purged(root):
    installed(root, "--systemd", "--no-mirror")
    archive = root / "var/lib/airside/images/a.tar"
    blob = root / "var/lib/airside/data/oci/blob"
    blob.parent.mkdir()
    for path in (archive, blob):
        path.write_text("x")
    other = root / "srv/others"
    other.mkdir(parents=True)
    code, report = run("uninstall", root)
    assert code == 0
    assert archive.exists()
    assert blob.exists()
    assert len([note for note in report["notes"] if "--purge deletes it" in note]) == 2
    code, _ = run("uninstall", root, "--purge")
    assert code == 0
    assert not (root / "var/lib/airside").exists()


def test_a_purge_leaves_directories_that_only_the_settings_name(root):
    (root / "srv/archives").mkdir(parents=True)
    (root / "srv/archives/a.tar").write_text("x")
    (root / "etc/airside").mkdir()
    (root / CONFIG).write_text(f'[[images]]\npath = "{root}/srv/archives"\n')
    installed(root, "--systemd", "--no-mirror")
    assert run("uninstall", root, "--purge")[0] == 0
    assert (root / "srv/archives/a.tar").exists()


def test_paths_of_the_settings_are_those_of_the_host_below_the_root(root, tmp_path):
    outside = tmp_path / "outside"
    (outside / "archives").mkdir(parents=True)
    (outside / "data").mkdir()
    (outside / "data/format").write_text("1")
    (root / "etc/airside").mkdir()
    (root / CONFIG).write_text(
        f'data = "{outside}/data"\nruntime = ["{outside}/c.sock"]\n'
        f'[[images]]\npath = "{outside}/archives"\n'
    )
    before = tree(outside)
    installed(root, "--systemd", "--no-mirror")
    inside = root / str(outside).lstrip("/")
    assert mode(inside / "data") == 0o700
    assert f"RequiresMountsFor={outside}/data {outside}/archives " in (root / UNIT).read_text()
    assert run("uninstall", root, "--purge")[0] == 0
    assert not (inside / "data").exists()
    assert tree(outside) == before


def test_a_purge_leaves_what_no_agent_has_used_as_its_data_directory(root):
    (root / "srv").mkdir()
    (root / "srv/others").write_text("x")
    (root / "etc/airside").mkdir()
    (root / CONFIG).write_text('data = "/srv"\n')
    installed(root, "--systemd", "--no-mirror")
    code, report = run("uninstall", root, "--purge")
    assert code == 0
    assert [i["path"] for i in report["items"] if i["state"] == "kept" and i["action"] == "tree"]
    assert (root / "srv/others").exists()


def test_nothing_is_written_through_a_link_out_of_the_root(root, tmp_path):
    outside = tmp_path / "outside"
    (outside / "certs.d").mkdir(parents=True)
    (root / "etc/containerd").rmdir()
    (root / "etc/containerd").symlink_to(outside)
    (root / "etc/airside").symlink_to(outside / "settings")
    (root / "var/lib/airside").symlink_to(outside)
    before = tree(outside)
    code, report = run("install", root, "--systemd")
    assert code == 1
    reasons = [i["error"]["message"] for i in report["items"] if "error" in i]
    assert any("hosts.toml: a link in this path leads out of" in reason for reason in reasons)
    assert run("uninstall", root, "--purge")[0] in {0, 1}
    assert tree(outside) == before


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_done(root):
    (root / "etc/airside").mkdir()
    (root / CONFIG).symlink_to("missing.toml")
    code, report = run("install", root, "--systemd", "--no-mirror")
    assert code == 1
    (error,) = [i["error"] for i in report["items"] if "error" in i]
    assert error["message"].startswith(f"{root}/{CONFIG}: ")
    assert (root / UNIT).exists()


def test_the_directory_that_snapd_makes_for_microk8s_is_not_made_before(root):
    for path in ("args", "."):
        (root / "var/snap/microk8s/current" / path).rmdir()
    report = installed(root, "--microk8s")
    assert (root / UNIT).exists()
    assert not (root / "var/snap/microk8s/current").exists()
    assert any("MicroK8s is not installed here" in note for note in report["notes"])


def put_package(root):
    """Makes the files that a package has there."""
    packaged = root / "usr/lib/systemd/system/airside.service"
    packaged.parent.mkdir(parents=True)
    packaged.write_text(unit_text(Place()))
    (root / "etc/airside").mkdir()
    (root / CONFIG).write_text(DEFAULT)
    (root / "var/lib/airside").mkdir()


def test_beside_a_package_only_what_this_host_adds_is_written_and_removed(root):
    put_package(root)
    before = tree(root)
    installed(root, "--microk8s", "--no-mirror")
    assert not (root / UNIT).exists()
    assert "ReadWritePaths=-/var\n" in (root / DROP_IN).read_text()
    assert (root / CONFIG).read_text() == DEFAULT
    code, report = run("uninstall", root, "--purge")
    assert code == 0
    assert any("package" in note for note in report["notes"])
    assert tree(root) == before


def test_beside_a_package_a_containerd_elsewhere_becomes_writable_for_its_layers(root):
    put_package(root)
    (root / "etc/containerd").mkdir(parents=True, exist_ok=True)
    (root / "etc/containerd/config.toml").write_text('root = "/srv/containerd"\n')
    before = tree(root)
    installed(root, "--systemd", "--no-mirror")
    drop_in = root / UNITS / f"{LAYERS_SERVICE}.d/50-airside-install.conf"
    assert "\nReadWritePaths=-/srv/containerd\n" in drop_in.read_text()
    assert run("uninstall", root, "--purge")[0] == 0
    assert tree(root) == before


@pytest.mark.parametrize("words", [(), ("--k3s", "--rke2")])
def test_exactly_one_kind_of_host_is_named(root, words):
    done = airside("install", *words, "--root", root)
    assert done.returncode == 2
    assert "give one of --systemd, --k3s" in done.stderr


def test_people_see_each_path_with_its_mode_and_what_comes_next(root):
    done = airside("install", "--k3s", "--root", root)
    assert f"made: {root}/var/lib/airside/data (mode 0700)\n" in done.stdout
    assert "note: restart k3s, or k3s-agent" in done.stdout
    done = airside("install", "--k3s", "--dry-run", "--root", root)
    assert f"unchanged: {root}/{UNIT}\n" in done.stdout
    done = airside("uninstall", "--root", root)
    assert f"removed: {root}/{UNIT}\n" in done.stdout


def test_an_unwritable_place_is_reported_and_the_rest_is_done(root):
    (root / "etc/airside").write_text("a file, where a directory should be")
    code, report = run("install", root, "--systemd", "--no-mirror")
    assert code == 1
    assert [i["error"]["code"] for i in report["items"] if "error" in i]
    assert (root / UNIT).exists()


def test_no_restart_is_asked_for_and_no_hint_shown_where_nothing_was_written(root):
    registries = root / "etc/rancher/k3s/registries.yaml"
    registries.parent.rmdir()
    registries.parent.symlink_to(root.parent)
    done = airside("install", "--k3s", "--root", root)
    assert done.returncode == 1
    assert f"{registries}: a link in this path leads out of {root}" in done.stderr
    assert "note: restart" not in done.stdout
    assert all(line.removeprefix("  hint:").strip() for line in done.stderr.splitlines())


def test_only_root_changes_the_host_and_everybody_sees_what_would_be_done(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="only root"):
        require_root(dry_run=False)
    require_root(dry_run=True)


def test_a_mount_point_is_that_of_the_nearest_directory_that_exists(tmp_path):
    assert mount_point(tmp_path / "not/there/yet") == mount_point(tmp_path)
    assert mount_point("/proc/self/not/there") == "/proc"


def test_containerds_root_is_read_from_its_configuration(root, monkeypatch):
    monkeypatch.setenv(HOST_ROOT, str(root))
    (root / "etc/containerd/config.toml").write_text('root = "/var/lib/elsewhere"\n')
    assert place_of(TARGETS["systemd"], Settings()).containerd_root == "/var/lib/elsewhere"


# --- what systemd says of the unit


def places():
    yield "links", Place(program=(sys.executable,))
    for name, target in TARGETS.items():
        yield (
            name,
            Place(
                program=(sys.executable,),
                services=target.services,
                containerd_root=target.containerd_root,
            ),
        )
    yield "copies", Place(program=(sys.executable,), data="/srv/airside", has_links=False)
    yield "no common directory", Place(program=(sys.executable,), data="/srv/airside")
    yield "group", Place(program=(sys.executable,), data_group="ops")


@pytest.mark.needs("systemd-analyze")
def test_the_units_that_write_layers_are_valid_and_little_exposed(tmp_path):
    place = Place(program=(sys.executable,))
    texts = {LAYERS_SOCKET: socket_text(), LAYERS_SERVICE: service_text(place)}
    texts["airside.service"] = unit_text(place)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert complaints_of(tmp_path, LAYERS_SOCKET) == []
    assert complaints_of(tmp_path, LAYERS_SERVICE) == []
    assert exposure_of(tmp_path, LAYERS_SERVICE) < MOST_EXPOSURE_OF_LAYERS


def complaints_of(directory, name):
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", directory / name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
    )
    return [line for line in checked.stderr.splitlines() if "airside" in line]


def exposure_of(directory, name):
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", directory / name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
    )
    found = re.search(r"exposure level for airside\S*: ([\d.]+)", security.stdout)
    assert found is not None, security.stderr
    return float(found[1])


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("name", "place"), list(places()), ids=[name for name, _ in places()])
def test_the_unit_is_valid_and_little_exposed(tmp_path, name, place):
    (tmp_path / "airside.service").write_text(unit_text(place))
    (tmp_path / LAYERS_SOCKET).write_text(socket_text())
    (tmp_path / LAYERS_SERVICE).write_text(service_text(place))
    assert complaints_of(tmp_path, "airside.service") == [], name
    assert exposure_of(tmp_path, "airside.service") < MOST_EXPOSURE


@pytest.mark.needs("unshare", "mount")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_blob_is_linked_in_the_mounts_that_systemd_makes_of_the_unit(tmp_path):
    """The unit's lines as systemd carries them out; across two such mounts a link is refused."""
    for name in ("airside/data", "containerd"):
        (tmp_path / "lib" / name).mkdir(parents=True)
    (tmp_path / "lib/airside/data/blob").write_text("x")
    script = """
        set -e; cd /; mount --make-rprivate /
        {mounts}
        ln {lib}/airside/data/blob {lib}/containerd/blob
    """
    one = "mount --rbind {lib} {lib}"
    two = (
        "mount --rbind {lib}/airside {lib}/airside; mount --rbind {lib}/containerd {lib}/containerd"
    )
    lib = tmp_path / "lib"
    codes = [
        subprocess.run(
            ["unshare", "-m", "sh", "-c", script.format(mounts=m.format(lib=lib), lib=lib)],
            capture_output=True,
            check=False,
        ).returncode
        for m in (two, one)
    ]
    assert codes == [1, 0]


@pytest.mark.needs("unshare", "mount")
def test_a_purge_deletes_nothing_of_a_stick_that_is_mounted_in_the_images(root):
    images = root / "var/lib/airside/images"
    installed(root, "--systemd", "--no-mirror")
    (images / "stick").mkdir()
    script = """
        set -e; cd /; mount --make-rprivate /
        mount -t tmpfs none "$1/stick"; touch "$1/stick/a.tar"
        "$3" -m airside uninstall --purge --root "$2" && exit 9
        test -e "$1/stick/a.tar"
        umount "$1/stick"
        "$3" -m airside uninstall --purge --root "$2"
    """
    words = ["unshare", "-m", "sh", "-c", script, "sh", images, root, sys.executable]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env=without_settings(),
    )
    assert done.returncode == 0, done.stderr
    assert f"another file system at {images}/stick: nothing in it was deleted" in done.stderr
    assert not images.parent.exists()


# --- settings of the host


def test_commands_of_root_use_the_configuration_that_was_installed(root):
    installed(root, "--systemd", "--no-mirror")
    (root / CONFIG).write_text('log_level = "debug"\n')
    done = airside("config", "show", "--json", **{HOST_ROOT: str(root)})
    [item] = [i for i in json.loads(done.stdout)["items"] if i["key"] == "log_level"]
    assert item["value"] == "debug"
    assert str(root / CONFIG) in item["origin"]
