"""Writes the systemd unit of the agent, and what a host adds to a packaged unit. Pure.

Hard links do not cross mounts, and each path of ReadWritePaths= becomes a mount. So a directory
above both the data directory and containerd's root is writable, as one mount, and what of it is
neither's is read-only again (ADR 0036).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonpath

from airside.core.paths import is_within
from airside.install.targets import TARGETS

PROGRAM = ("/usr/bin/airside",)
STATE = "/var/lib/airside"
_PROTECTED = (
    *("/var/lib/dpkg", "/var/lib/rpm", "/var/lib/apt", "/var/lib/systemd", "/var/lib/kubelet"),
    *("/var/lib/cloud", "/var/lib/snapd", "/var/lib/polkit-1", "/var/lib/cni"),
    *("/var/spool", "/var/log", "/var/cache", "/var/backups", "/var/mail", "/var/tmp"),  # noqa: S108 - protected
)
_READS = "CAP_DAC_READ_SEARCH"
_OF_GROUP = ("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID")


@dataclass(frozen=True, slots=True)
class Place:
    """What differs between hosts. Paths are those of the host.

    `has_links`: data directory and containerd's root are in one mount, so that blobs are linked.
    """

    program: tuple[str, ...] = PROGRAM
    services: tuple[str, ...] = TARGETS["systemd"].services
    data: str = f"{STATE}/data"
    images: tuple[str, ...] = (f"{STATE}/images",)
    containerd_root: str = TARGETS["systemd"].containerd_root
    has_links: bool = True
    data_group: str = ""

    @property
    def writable(self) -> tuple[str, ...]:
        """The directories that the agent may write to; none if that is all but the system."""
        places = list(dict.fromkeys((STATE, self.data)))
        if self.has_links:
            above = commonpath([self.data, self.containerd_root])
            return () if above == "/" else _outermost([*places, above])
        return _outermost([*places, self.containerd_root])

    @property
    def protected(self) -> tuple[str, ...]:
        """Directories below the writable ones that stay read-only."""
        ours = (self.data, self.containerd_root, *self.images, STATE)
        found = [p for p in _PROTECTED if any(is_within(p, w) for w in self.writable)]
        return tuple(p for p in found if not any(is_within(o, p) for o in ours))

    @property
    def capabilities(self) -> tuple[str, ...]:
        return (_READS, *_OF_GROUP) if self.data_group else (_READS,)


def unit_text(place: Place) -> str:
    """Returns the whole unit."""
    return _UNIT.format(
        before=" ".join(place.services),
        mounts=words(dict.fromkeys((place.data, *place.images, place.containerd_root))),
        program=command_line(place.program),
        access=_access(place),
        capabilities=" ".join(place.capabilities),
    )


def drop_in_text(place: Place) -> str:
    """Returns what this host adds to the unit of a package; "" if nothing."""
    usual = Place(program=place.program)
    lines = []
    mounts = [p for p in (place.data, place.containerd_root) if p != usual.data]
    if place.containerd_root != usual.containerd_root or place.data != usual.data:
        lines += ["[Unit]", f"RequiresMountsFor={words(mounts)}", ""]
    service = []
    if (place.writable, place.protected) != (usual.writable, usual.protected):
        service += ["ReadWritePaths=", "ReadOnlyPaths=", *_access(place).splitlines()]
    if place.capabilities != usual.capabilities:
        service.append(f"CapabilityBoundingSet={' '.join(place.capabilities)}")
    if service:
        lines += ["[Service]", *service, ""]
    return "\n".join(lines)


def words(paths: Iterable[str]) -> str:
    """Returns paths as words of a unit's line."""
    return " ".join(map(_word, paths))


def _word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(c.isspace() or c in "\"'\\" for c in text) else escaped


def command_line(program: Sequence[str]) -> str:
    """Returns a program and its arguments as a value of ExecStart=."""
    return " ".join(_word(word).replace("$", "$$") for word in program)


def _access(place: Place) -> str:
    if not place.writable:
        return "ProtectSystem=full"
    lines = ["ProtectSystem=strict", f"ReadWritePaths={optional(place.writable)}"]
    if place.protected:
        lines.append(f"ReadOnlyPaths={optional(place.protected)}")
    return "\n".join(lines)


def optional(paths: Iterable[str]) -> str:
    """Returns paths that may be absent."""
    return words(f"-{path}" for path in paths)


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    found = list(dict.fromkeys(paths))
    return tuple(p for p in found if not any(is_within(p, o) for o in found if o != p))


_UNIT = """\
[Unit]
Description=Airside: container images from local archives
Documentation=man:airside(1) man:airside.toml(5)
# Not after network-online: the agent serves from the disk, with or without a network.
# The socket begins processes that write layers, with powers that the agent has not.
After=local-fs.target airside-layers.socket
Wants=airside-layers.socket
# Those that pull images start when Airside serves, at most 15 s later (see Type=).
Before={before}
# A watched directory on a file system of its own: add its path in a drop-in.
RequiresMountsFor={mounts}

[Service]
# Ready is when the registry listens. A start that first has to repair more than 15 s after a power
# cut counts as ready then, and holds up no node.
Type=notify
ExecStart={program} run
Restart=always
RestartSec=2
# 2: wrong settings, which a restart does not mend.
RestartPreventExitStatus=2
NotifyAccess=main
# Reports come from the event loop. SIGKILL: an agent that is stopped (SIGSTOP) takes nothing else.
WatchdogSec=60
WatchdogSignal=SIGKILL
# The agent stops in stop_seconds (4 by default).
TimeoutStopSec=15

# Imports give way to the workloads of the node. MemoryHigh slows imports down and ends nothing.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=6
MemoryHigh=384M
TasksMax=512
LimitNOFILE=65536
# A kill for memory that the fallback server meets does not stop the agent.
OOMPolicy=continue
UMask=0077

# Hard links into containerd need one mount over both directories; each path of ReadWritePaths= is
# one. Watched directories elsewhere are read, and need no line here.
{access}
ProtectHome=read-only
# No PrivateTmp=: `airside import /tmp/x.tar` asks the agent to read that file.
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
# No ProtectProc=: kubelet's flags say when it deletes images, and whether it has a credential
# provider, without which images of containerd count as public.
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Root without its powers, but for reading archives that others own: containerd's directories and
# socket are root's. With data_group: CAP_CHOWN for the control socket, CAP_SETUID and CAP_SETGID to
# read with a member's rights what the member imports.
CapabilityBoundingSet={capabilities}

[Install]
WantedBy=multi-user.target
"""
