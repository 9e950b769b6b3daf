"""Writes the units of the processes that write layers, beside the agent's (ADR 0046). Pure.

The agent, which speaks to the network, has none of root's powers. It connects to a socket of
systemd, which starts for each connection a process with those that layers need, without a network,
which may write to the directories of containerd alone.
"""

from airside.containerd.layer_writer import WORKER_COMMAND
from airside.core.paths import is_within
from airside.install.targets import TARGETS, UNIT
from airside.install.unit import Place, command_line, optional

MOST_WORKERS = 64
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP"),
    *("CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT"),
)
"""Those of `confinement.WORKER_CAPABILITIES`."""
_USUAL = tuple(target.containerd_root for target in TARGETS.values())


def socket_text() -> str:
    """Returns the unit of the socket."""
    return _SOCKET.format(agent=UNIT, most=MOST_WORKERS)


def service_text(place: Place) -> str:
    """Returns the unit of one process."""
    return _SERVICE.format(
        program=command_line((*place.program, WORKER_COMMAND, "3", "accepted")),
        writable=optional(_writable(place)),
        capabilities=" ".join(CAPABILITIES),
    )


def service_drop_in_text(place: Place) -> str:
    """Returns what this host adds to the service of a package; "" if nothing."""
    if _writable(place) == _USUAL:
        return ""
    return f"[Service]\nReadWritePaths={optional((place.containerd_root,))}\n"


def _writable(place: Place) -> tuple[str, ...]:
    root = place.containerd_root
    return _USUAL if any(is_within(root, usual) for usual in _USUAL) else (*_USUAL, root)


_SOCKET = """\
[Unit]
Description=Airside: socket of the processes that write layers
Documentation=man:airside(1)
# The agent wants it. With unpack_by = "containerd" it listens, and nobody connects.
PartOf={agent}

[Socket]
ListenSequentialPacket=/run/airside/layers.sock
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes
Accept=yes
MaxConnections={most}
# They are as many as the agent asks for, and end 10 s after their last layer.
TriggerLimitIntervalSec=0
"""

_SERVICE = """\
[Unit]
Description=Airside: writes layers into containerd's snapshots
Documentation=man:airside(1)
CollectMode=inactive-or-failed

[Service]
ExecStart={program}
# It ends when the agent has closed the connection.
TimeoutStopSec=5
LogLevelMax=notice

# As the agent's; import_priority comes with each layer.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=6
MemoryHigh=384M
TasksMax=16
UMask=0077

# Each child confines itself further to the directories of its layer before it reads the layer.
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome=read-only
PrivateTmp=yes
PrivateNetwork=yes
PrivateIPC=yes
PrivateMounts=yes
IPAddressDeny=any
# Layers may have devices: made, never opened. PrivateDevices= and ProtectClock= would forbid it.
DevicePolicy=closed
DeviceAllow=char-* m
DeviceAllow=block-* m
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service chroot open_tree mount_setattr
SystemCallErrorNumber=EPERM
# Files of any owner, mode and kind, overlay's attributes (CAP_SYS_ADMIN), and to confine itself.
CapabilityBoundingSet={capabilities}
"""
