"""The file that installs itself: with busybox and nothing else, as root and not, over a running one."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import airside
from support.agent import Agent
from support.shipped import OTHER, run_file
from support.users import directory_for_all
from support.waiting import LIMIT_SECONDS

FILE = run_file()
USER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place():
    """A directory that every user may enter, on a disk whose programs may run."""
    with directory_for_all() as found:
        yield found


@pytest.fixture
def tools(place):
    """A PATH with busybox's programs only: no Python, no GNU tar."""
    directory = place / "busybox"
    directory.mkdir()
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    subprocess.run([directory / "busybox", "--install", "-s", directory], check=True)
    return str(directory)


@pytest.fixture
def sh(place, tools):
    """Runs the file with busybox's shell; the host is a directory."""

    def sh(*words, file=FILE, before=(), code=0, **environ):
        environ = {
            "PATH": tools,
            "HOME": str(place / "home"),
            "AIRSIDE_HOST_ROOT": str(place / "host"),
            **environ,
        }
        done = subprocess.run(
            [*before, f"{tools}/busybox", "sh", *map(str, (file, *words))],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            env=environ,
            cwd=place,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return sh


@pytest.fixture
def installed(sh, place):
    sh("--prefix", place / "opt")
    return place / "opt"


def version_of(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def other_version(tmp_path, byte):
    """The same program as another build would be: with another ID and checksum."""
    data = FILE.read_bytes()
    line = next(line for line in data.splitlines() if line.startswith(b"ID="))
    data = data.replace(line, b"ID=" + byte * 12, 1)
    total = next(line for line in data.splitlines() if line.startswith(b"SUM="))
    summed = hashlib.sha256(data.replace(total + b"\n", b"", 1)).hexdigest()
    file = tmp_path / f"other-{byte.decode()}.run"
    file.write_bytes(data.replace(total, b"SUM=" + summed.encode(), 1))
    return file


def test_it_installs_starts_and_removes_itself(sh, place):
    prefix = place / "opt"
    out = sh("--prefix", prefix)
    assert f"installed: airside {airside.__version__} in {prefix}" in out
    assert version_of(prefix / "bin/airside") == f"airside {airside.__version__}\n"
    assert version_of(prefix / "bin/airside") == f"airside {airside.__version__}\n"
    assert sh(file=prefix / "uninstall") == f"removed: {prefix}\n"
    assert not prefix.exists()


def test_it_says_what_it_is_and_checks_and_extracts(sh, place):
    assert airside.__version__ in sh("--version")
    assert "--prefix DIR" in sh("--help")
    assert "whole" in sh("--check")
    sh("--extract", place / "unpacked")
    assert version_of(place / "unpacked/bin/airside")
    assert "exists" in sh("--extract", place / "unpacked", code=1)
    assert "Usage" in sh("--unknown", code=2)


def test_a_file_that_was_cut_or_damaged_changes_nothing(sh, place, tmp_path):
    data = FILE.read_bytes()
    cut = tmp_path / "cut.run"
    cut.write_bytes(data[:-100])
    assert "not copied whole" in sh("--prefix", place / "opt", file=cut, code=1)
    for at in (data.index(b"check_machine() {"), len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        cut.write_bytes(damaged)
        assert "is damaged" in sh("--prefix", place / "opt", file=cut, code=1)
    assert not (place / "opt").exists()


def test_a_file_for_another_machine_is_refused(sh, place):
    out = sh("--prefix", place / "opt", file=run_file(OTHER), code=1)
    assert "take the other file" in out
    assert not list((place / "opt").rglob("airside"))


def test_a_running_agent_outlives_its_replacement(sh, installed, place, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    program = str(installed / "bin/airside")
    monkeypatch.setattr("support.agent.PROGRAM", program)
    monkeypatch.setattr("support.program.PROGRAM", program)
    with Agent(tmp_path / "images", tmp_path / "data", before=["env"]) as agent:
        out = sh("--prefix", installed, file=other_version(tmp_path, b"b"))
        told = re.search(r"as process (\d+) runs it", out)
        assert told, out
        assert Path(f"/proc/{told[1]}/exe").resolve() == Path(f"/proc/{agent.pid}/exe").resolve()
        assert os.readlink(installed / "bin/airside").endswith("-bbbbbbbbbbbb/bin/airside")
        subprocess.run([program, "sample", agent.watched / "hello.tar"], check=True)
        agent.wait_imported(agent.watched / "hello.tar")  # imports modules that it had not yet
        assert agent.get("/ui/")[0] == 200
    sh("--prefix", installed, file=other_version(tmp_path, b"c"))
    assert [path.name[-12:] for path in (installed / "versions").iterdir()] == ["c" * 12]


def test_the_same_version_again_repairs_it(sh, installed):
    package = next(installed.glob("versions/*/bin/airside.pkg"))
    package.write_bytes(b"")
    sh("--prefix", installed)
    assert version_of(installed / "bin/airside")
    assert len(list((installed / "versions").iterdir())) == 1


@needs_root
def test_it_installs_the_service_and_removes_it_again(sh, place):
    host = place / "host"
    (host / "etc/containerd").mkdir(parents=True)
    before = sorted(host.rglob("*"))
    sh("--prefix", place / "opt", "--systemd")
    unit = (host / "etc/systemd/system/airside.service").read_text()
    assert f"ExecStart={place}/opt/bin/airside " in unit
    sh("--prefix", place / "opt", "--systemd")  # once more
    sh("--purge", file=place / "opt/uninstall")
    assert not (place / "opt").exists()
    left = [path for path in sorted(host.rglob("*")) if path not in before and not path.is_dir()]
    assert left == []


def test_a_program_of_a_package_is_left(sh, place):
    (place / "opt/bin").mkdir(parents=True)
    (place / "opt/bin/airside").write_text("of a package")
    assert "remove the package" in sh("--prefix", place / "opt", code=1)
    assert (place / "opt/bin/airside").read_text() == "of a package"


@needs_root
def test_another_user_gets_it_at_home(sh, place):
    home = place / "home"
    home.mkdir()
    os.chown(home, USER, USER)
    file = shutil.copy(FILE, place / "airside.run")
    user = [shutil.which("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    out = sh(file=file, before=user)
    assert "in the foreground" in out
    assert version_of(home / ".local/bin/airside")
    page = home / ".local/share/man/man1/airside.1.gz"
    assert b"airside" in gzip.decompress(page.read_bytes())
    again = [*user, "env", f"HOME={home}"]
    sh(file=home / ".local/lib/airside/uninstall", before=again)
    assert [p for p in home.rglob("*") if not p.is_dir()] == []
    out = sh("--prefix", "/opt/airside-test-absent", file=file, before=user, code=1)
    assert "cannot be written" in out


@needs_root
def test_a_tmp_without_exec_is_no_matter_and_a_prefix_without_exec_is_named(sh, place):
    namespace = [shutil.which("unshare"), "--mount", "--", "sh", "-c"]
    mount = f"mkdir -p {place}/noexec; mount -t tmpfs -o noexec none"
    good = [*namespace, f'{mount} /tmp && exec "$@"', "sh"]
    assert "installed" in sh("--prefix", place / "opt", before=good, TMPDIR="/tmp")
    bad = [*namespace, f'{mount} {place}/noexec && exec "$@"', "sh"]
    assert "noexec" in sh("--prefix", place / "noexec/opt", before=bad, code=1)


@needs_root
def test_a_full_disk_is_named(sh, place):
    (place / "small").mkdir()
    words = f'mount -t tmpfs -o size=1m none {place}/small && exec "$@"'
    before = [shutil.which("unshare"), "--mount", "--", "sh", "-c", words, "sh"]
    assert "KiB free" in sh("--prefix", place / "small/opt", before=before, code=1)
    assert Path(place / "small").is_dir()
