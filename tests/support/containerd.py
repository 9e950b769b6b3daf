"""A containerd of our own, installed or unpacked, on a directory of its own. Needs root."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

START_SECONDS = 20.0

Ctr = Callable[..., "subprocess.CompletedProcess[str]"]


@contextlib.contextmanager
def containerd(root: Path | None = None) -> Iterator[Ctr]:
    """Run containerd, as installed or of a package unpacked in `root`; gives `ctr` on it."""
    programs = [str(root / "usr/bin" / name) if root else name for name in ("containerd", "ctr")]
    with tempfile.TemporaryDirectory(prefix="airside-ctrd-", dir="/tmp") as directory:
        home = Path(directory)
        config = home / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{home}/c.sock"\n'
        )

        def ctr(*args: object) -> "subprocess.CompletedProcess[str]":
            command = [programs[1], "-a", str(home / "c.sock"), *map(str, args)]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs[0], "--config", str(config)], stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while ctr("version").returncode:
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < deadline, (home / "log").read_text()
                time.sleep(0.05)
            yield ctr
        finally:
            process.terminate()
            process.wait(10)
