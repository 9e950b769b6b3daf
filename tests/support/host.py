"""The host belongs to somebody: tests get one of their own, and are watched that they keep to it.

`own_host` gives every default of Airside (directories, sockets, mirror settings, kubelet) a place
below a temporary root, and starts a watch in this process and in each Python process that a test
starts: to open, list or make anything in the host's own places fails there, and is noted, so that
the test fails also where the error was caught.
"""

import os
import signal
import sys
import time
from pathlib import Path

HOST_ROOT, NOTES = "AIRSIDE_HOST_ROOT", "TESTS_TOUCHED_HOST"
COVERAGE = "TESTS_COVERAGE"
"""Set by `make coverage`."""
_GUARD = Path(__file__).parent / "guard"
PLACES = (
    "/var/lib/airside",
    "/etc/containerd",
    "/etc/docker",
    "/etc/rancher",
    "/var/lib/rancher",
    "/etc/k0s",
    "/var/lib/k0s",
    "/run/k0s",
    "/run/k3s",
    "/var/snap",
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/run/containerd/containerd.sock",
)
"""What of the host no test may touch."""
_EVENTS = frozenset(
    {
        *("open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove"),
        *("os.rename", "os.rmdir", "os.scandir", "os.symlink", "os.truncate", "os.utime"),
        *("sqlite3.connect", "socket.bind", "socket.connect"),
    }
)
"""Those of Python's audit events that name a path."""


_watching: list[object] = []
"""An audit hook stays as long as its process: it is added once."""


class HostTouchedError(AssertionError):
    """A test has left its own host."""


def own_host(root: Path) -> None:
    """Make this process, and those that it starts, take `root` for `/`; watch that they do."""
    notes = root.with_name("touched")
    notes.touch()
    os.environ[HOST_ROOT], os.environ[NOTES] = str(root), str(notes)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(_GUARD), os.environ.get("PYTHONPATH")])
    )
    watch_this_process()


def reset_process() -> None:
    """Undo what this process has inherited: umask, signals, time zone and language."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update({"TZ": "UTC", "LC_ALL": "C.UTF-8"})
    time.tzset()


def watch_this_process() -> None:
    """Refuse and note each touch of the host's places; nothing where tests do not run.

    Nothing under `make coverage` either: to trace a thread is an audit event, and Python 3.11
    ends threads whose tracing is set up while the hook of another runs.
    """
    if NOTES in os.environ and _watch not in _watching and COVERAGE not in os.environ:
        _watching.append(_watch)
        sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS:
        for touched in filter(_is_hosts, map(_path, arguments)):
            with os.fdopen(os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND), "w") as file:
                file.write(f"{event} {touched}\n")
            raise HostTouchedError(f"{event} {touched}: a test must not touch the host's own")


def _path(argument: object) -> str:
    if isinstance(argument, str | bytes | os.PathLike):
        return os.fsdecode(argument)
    return ""


def _is_hosts(path: str) -> bool:
    return path.startswith("/") and any(
        path == place or path.startswith(f"{place}/") for place in PLACES
    )


def touched() -> list[str]:
    """What was touched since the last call, by this process or by one that it started."""
    notes = Path(os.environ[NOTES])
    if not notes.stat().st_size:
        return []
    found = notes.read_text().splitlines()
    os.truncate(notes, 0)
    return found


def without_settings() -> dict[str, str]:
    """The environment for a process with settings of its own."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AIRSIDE_") or k == HOST_ROOT}
