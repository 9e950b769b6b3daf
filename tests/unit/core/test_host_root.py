"""No test can touch the host: the watch is tried on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from airside.containerd.sockets import known_sockets
from airside.core.config import default_directories
from airside.core.host_root import HOST_ROOT, host_root
from support import host


def test_every_default_is_below_the_tests_own_root():
    root = host_root()
    assert root != Path("/")
    places = [*default_directories(), *known_sockets().values()]
    assert all(Path(place).is_relative_to(root) for place in places)


@pytest.mark.parametrize("place", host.PLACES)
def test_to_touch_the_host_fails_and_is_noted(place):
    with pytest.raises(host.HostTouchedError):
        Path(place).mkdir()
    with pytest.raises(host.HostTouchedError):
        (Path(place) / "file").read_bytes()
    assert host.touched() == [f"os.mkdir {place}", f"open {place}/file"]


def test_a_process_that_a_test_starts_is_watched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(HOST_ROOT, str(tmp_path))  # one that no other test has used
    code = "from pathlib import Path; Path('/var/lib/airside/data').mkdir(parents=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "HostTouchedError" in done.stderr
    assert host.touched() == ["os.mkdir /var/lib/airside/data"]
    code = "from airside.cli.main import main; main(['status'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert str(tmp_path / "var/lib/airside/data") in done.stderr
    assert host.touched() == []
