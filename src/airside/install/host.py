"""What an installation needs to know of the host: its mounts, its units, its own program. Blocking.

All of the host is looked for below `host_root()`, so that a directory can be installed into.
"""

import os
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

from airside.core.config import CONFIG
from airside.core.host_root import host_root, in_host, on_host
from airside.core.settings import Settings
from airside.importer.watch.mount_table import MountTable
from airside.install.targets import PACKAGED_UNITS, UNIT, Target
from airside.install.unit import PROGRAM, Place

_MOUNTS = Path("/proc/self/mountinfo")
_RUNNING = Path("/run/systemd/system")


def place_of(target: Target, settings: Settings) -> Place:
    """Returns what is to be known of this host for its unit."""
    data = str(in_host(settings.data.absolute()))
    root = containerd_root(target)
    return Place(
        program=program(),
        services=target.services,
        data=data,
        images=tuple(str(in_host(each.path.absolute())) for each in settings.images),
        containerd_root=root,
        has_links=mount_point(on_host(data)) == mount_point(on_host(root)),
        data_group=settings.data_group,
    )


def containerd_root(target: Target) -> str:
    """Returns the directory of containerd, links in it followed."""
    root = target.containerd_root
    if target.containerd_config:
        with suppress(OSError, ValueError):
            text = on_host(target.containerd_config).read_text(encoding="utf-8")
            found = tomllib.loads(text).get("root")
            root = found if isinstance(found, str) and found.startswith("/") else root
    with suppress(OSError, RuntimeError):
        real = on_host(root).resolve()
        if real.is_relative_to(host_root().resolve()):
            root = "/" + str(real.relative_to(host_root().resolve()))
    return root


def mount_point(path: Path) -> str:
    """Returns the mount that a path is on, or will be once it exists."""
    return _mounts().covering(os.path.realpath(path)).point or "/"


def mounts_below(path: Path) -> list[str]:
    """Returns the mounts in a directory, but not one on itself."""
    return sorted(mount.point for mount in _mounts().below(os.path.realpath(path)))


def _mounts() -> MountTable:
    with suppress(OSError):
        return MountTable.parse(_MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    return MountTable()


def program() -> tuple[str, ...]:
    """Returns the command of this program, as systemd is to run it.

    A link to it that outlasts an upgrade is preferred: that of a package in /usr/bin, or that of
    the file that installs itself, which has a directory for each version.
    """
    started = Path(sys.executable if getattr(sys, "frozen", False) else sys.argv[0])
    path = started.absolute()
    if started.suffix == ".py" or not path.is_file():
        return (sys.executable, "-m", "airside")
    usual = Path(PROGRAM[0])
    if usual.is_file() and usual.samefile(path):
        return PROGRAM
    return (str(_unversioned(path)),)


def _unversioned(path: Path) -> Path:
    """Returns PREFIX/bin/airside for PREFIX/versions/VERSION/bin/airside if it is a link to it."""
    if len(path.parents) > 3 and path.parents[2].name == "versions":
        link = path.parents[3] / "bin" / path.name
        if link.is_file() and link.samefile(path):
            return link
    return path


def packaged_unit() -> Path | None:
    """Returns the unit that a package installed, if one did."""
    found = (on_host(directory) / UNIT for directory in PACKAGED_UNITS)
    return next((path for path in found if path.is_file()), None)


def is_running_systemd() -> bool:
    """Returns True if the host of the installation is this one, and systemd runs it."""
    return host_root() == Path("/") and _RUNNING.is_dir()


def config_path() -> Path:
    return on_host(CONFIG)
