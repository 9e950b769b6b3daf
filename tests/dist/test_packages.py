"""The .deb and the .rpm: installed, upgraded, removed and purged in a minimal Debian."""

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

import airside
from frozen.architectures import ARCHITECTURES
from support.shipped import ARCH

pytestmark = pytest.mark.needs("mmdebstrap", "rpm", "chroot")

VERSION, LATER = airside.__version__, "99.0.0"
ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300
CONFIG = "etc/airside/airside.toml"
ENABLED = "etc/systemd/system/multi-user.target.wants/airside.service"
MIRROR = "etc/rancher/k3s/registries.yaml"
DATABASES = (
    *("var/lib/dpkg", "var/lib/rpm", "root/.rpmdb"),
    *("var/log", "var/cache", "var/lib/systemd"),
)
"""What dpkg, rpm and deb-systemd-helper keep of every package that there ever was."""


@pytest.fixture(scope="session")
def built(tmp_path_factory, build_packages):
    """The packages of three builds: this version twice, and a later one."""
    found = {}
    for name, version in (("first", VERSION), ("again", VERSION), ("later", LATER)):
        found[name] = tmp_path_factory.mktemp(name)
        build_packages(found[name], version)
    return found


@pytest.fixture
def root(tmp_path, debian_tar):
    """A minimal Debian, and the directories of a K3s."""
    place = tmp_path / "root"
    place.mkdir()
    ran("tar", "-xf", debian_tar, "-C", place)
    (place / "etc/rancher/k3s").mkdir(parents=True)
    (place / "opt/other").mkdir()  # dpkg removes an /opt that nobody else has anything in
    return place


def ran(*words, code=0):
    done = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "teletype"},
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done


def inside(root, *words, code=0):
    return ran("chroot", root, *words, code=code)


def dpkg(root, *words):
    done = inside(root, "dpkg", *words)
    others = "directory '/opt' not empty"  # said of what is not ours
    assert [li for li in done.stderr.splitlines() if "warning" in li and others not in li] == []
    return done


def install(root, built, name):
    [file] = built[name].glob("*.deb")
    (root / "tmp/airside.deb").write_bytes(file.read_bytes())
    done = dpkg(root, "-i", "--force-confold", "/tmp/airside.deb")
    (root / "tmp/airside.deb").unlink()
    return done


def tree(root):
    """Every path with its mode, and the digest of a file or the target of a link."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            place = str(path.relative_to(root))
            if place.startswith(("proc", "dev", "sys")) or place.startswith(DATABASES):
                continue
            found[place] = described(path)
    return found


def difference(before, after):
    paths = before.keys() | after.keys()
    both = {path: (before.get(path), after.get(path)) for path in paths}
    return {path: found for path, found in both.items() if found[0] != found[1]}


def described(path):
    status = path.lstat()
    content = ""
    if path.is_symlink():
        content = str(path.readlink())
    elif path.is_file():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{stat.S_IMODE(status.st_mode):04o} {content}"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_debian_without_systemd_and_python_installs_it(root, built):
    done = install(root, built, "first")
    assert "airside install --k3s" in done.stdout
    assert VERSION in inside(root, "airside", "--version").stdout
    modes = {
        "var/lib/airside": 0o755,
        "var/lib/airside/data": 0o700,
        "var/lib/airside/images": 0o750,
        CONFIG: 0o640,
        "usr/lib/systemd/system/airside.service": 0o644,
        "usr/lib/systemd/system/airside-layers.socket": 0o644,
        "usr/lib/systemd/system/airside-layers@.service": 0o644,
    }
    assert {path: mode(root / path) for path in modes} == modes
    assert (root / ENABLED).is_symlink()
    shown = inside(root, "airside", "config", "show").stdout
    assert "/var/lib/airside/data" in shown
    assert inside(root, "dpkg", "--verify", "airside").stdout == ""


def test_an_upgrade_keeps_data_settings_and_mirror(root, built):
    install(root, built, "first")
    inside(root, "airside", "install", "--k3s")
    (root / "var/lib/airside/data/kept").write_text("x")
    (root / CONFIG).write_text('listen = "127.0.0.1:5099"\n')
    (root / ENABLED).unlink()  # as `systemctl disable` does
    before = tree(root)
    install(root, built, "later")
    after = tree(root)
    assert inside(root, "dpkg-query", "-W", "-f", "${Version}", "airside").stdout == LATER
    ours = ("opt/airside/", "usr/share/man/", "usr/share/doc/airside/")
    assert [p for p in difference(before, after) if not p.startswith(ours)] == []
    assert "5050" in (root / MIRROR).read_text()
    assert not (root / ENABLED).exists()


def test_neither_goes_over_what_the_self_installing_file_installed(root, built):
    (root / "opt/airside/bin").mkdir(parents=True)
    (root / "opt/airside/bin/airside").symlink_to(f"../versions/{VERSION}-1/bin/airside")
    before = tree(root)
    [deb], [rpm] = (list(built["first"].glob(f"*.{kind}")) for kind in ("deb", "rpm"))
    (root / "tmp/airside.deb").write_bytes(deb.read_bytes())
    done = inside(root, "dpkg", "-i", "/tmp/airside.deb", code=1)
    (root / "tmp/airside.deb").unlink()
    assert "sh /opt/airside/uninstall" in done.stderr
    done = ran("rpm", "--root", root, "--nodeps", "-i", rpm, code=1)
    assert "sh /opt/airside/uninstall" in done.stderr
    assert difference(before, tree(root)) == {}


def test_a_removal_takes_the_mirror_out_and_a_purge_everything(root, built):
    before = tree(root)
    install(root, built, "first")
    inside(root, "airside", "install", "--k3s")
    inside(root, "airside", "install", "--microk8s", "--no-mirror")
    assert (root / "etc/systemd/system/airside.service.d").is_dir()
    (root / "var/lib/airside/images/kept.tar").write_text("x")
    dpkg(root, "-r", "airside")
    assert not (root / MIRROR).exists()
    assert not (root / "etc/systemd/system/airside.service.d").exists()
    assert not (root / "opt/airside").exists()
    assert (root / "var/lib/airside/images/kept.tar").exists()
    assert (root / CONFIG).exists()
    dpkg(root, "-P", "airside")
    assert difference(before, tree(root)) == {}


def test_a_purge_leaves_a_share_that_is_mounted_below_the_state_directory(root, built):
    install(root, built, "first")
    state = root / "var/lib/airside"
    (state / "data/blob").write_text("x")
    script = """set -e
        mount -t tmpfs none "$1/images" && touch "$1/images/theirs.tar"
        chroot "$2" dpkg -P airside
        find "$1" -type f"""
    done = ran("unshare", "--mount", "--", "sh", "-c", script, "sh", state, root)
    assert done.stdout.splitlines()[-1] == f"{state}/images/theirs.tar"
    assert "some of /var/lib/airside stays" in done.stderr
    assert not (state / "data").exists()


def test_a_configuration_that_is_purged_was_never_of_the_package_alone(root, built):
    """A removal with changed settings, and a package that is installed again, find them."""
    install(root, built, "first")
    (root / CONFIG).write_text("# mine\n")
    dpkg(root, "-r", "airside")
    install(root, built, "first")
    assert (root / CONFIG).read_text() == "# mine\n"


def test_the_same_input_gives_the_same_bytes(built):
    for kind in ("deb", "rpm"):
        [first], [again] = (list(built[name].glob(f"*.{kind}")) for name in ("first", "again"))
        assert first.name == again.name
        assert first.read_bytes() == again.read_bytes()


def test_the_packages_are_named_as_each_tool_expects(built):
    names = {path.name for path in built["first"].iterdir()}
    machine = ARCHITECTURES[ARCH].machine
    assert names == {f"airside_{VERSION}_{ARCH}.deb", f"airside-{VERSION}-1.{machine}.rpm"}


def test_the_deb_needs_a_c_library_alone(built):
    [file] = built["first"].glob("*.deb")
    assert ran("dpkg-deb", "-f", file, "Depends").stdout.strip() == "libc6 (>= 2.36)"
    listed = ran("dpkg-deb", "-c", file).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}


def test_an_rpm_is_installed_upgraded_and_erased(root, built):
    before = tree(root)
    [first], [later] = (list(built[name].glob("*.rpm")) for name in ("first", "later"))
    rpm = ("rpm", "--root", root, "--nodeps")  # the root has no packages of rpm
    ran(*rpm, "-i", first)
    assert VERSION in inside(root, "airside", "--version").stdout
    assert (mode(root / CONFIG), mode(root / "var/lib/airside/data")) == (0o640, 0o700)
    inside(root, "airside", "install", "--k3s")
    (root / CONFIG).write_text("# mine\n")
    ran(*rpm, "-U", later)
    assert (root / CONFIG).read_text() == "# mine\n"
    assert (root / MIRROR).exists()
    ran(*rpm, "-e", "airside")
    assert not (root / MIRROR).exists()
    assert (root / f"{CONFIG}.rpmsave").read_text() == "# mine\n"
    (root / f"{CONFIG}.rpmsave").unlink()
    (root / "etc/airside").rmdir()
    assert difference(before, tree(root)) == {}


def test_the_rpm_asks_for_the_c_library_by_its_version(built):
    [file] = built["first"].glob("*.rpm")
    needed = ran("rpm", "-qp", "--requires", file).stdout.splitlines()
    assert [each for each in needed if not each.startswith("rpmlib(")] == [
        "libc.so.6(GLIBC_2.36)(64bit)"
    ]
    assert re.search(r"^config\(airside\)|", ran("rpm", "-qpc", file).stdout)
    assert ran("rpm", "-qpc", file).stdout.split() == [f"/{CONFIG}"]
