"""Findings about the host's clock, limits and kernel. Pure."""

from collections.abc import Iterator

from airside.core.rfc3339 import time_text
from airside.diagnostics.doctor.facts import Facts, Host, Inotify
from airside.diagnostics.doctor.finding import Finding

_SANE_SINCE, _SANE_UNTIL = 1_735_689_600, 4_102_444_800
"""The years 2025 to 2099."""
_LAST = 253_402_300_799
"""The last second of year 9999."""
_SKEW_SECONDS = 60.0
_NEARLY = 0.8
_LEAST_FILES = 1024


def judge_host(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if host is None:
        return
    if host.uid != 0:
        yield Finding(
            "doctor.user",
            "note",
            "",
            f"the doctor runs as user {host.uid}: checks that need root were skipped",
            "run the doctor as root",
        )
    newest = facts.store.newest_at if facts.store is not None else None
    yield from _clock(host, newest)
    if host.inotify is not None:
        yield from _inotify(host.inotify)
    if host.open_files is not None:
        yield _open_files(host.open_files, host.open_files_of)
    if facts.runtimes:
        yield _selinux(host)
        if any(r.snapshotter in {"overlayfs", ""} for r in facts.runtimes):
            yield from _overlay(host)


def _clock(host: Host, newest: float | None) -> Iterator[Finding]:
    now = _day(host.now)
    advice = "set the clock (timedatectl set-time), and use NTP or a real-time clock"
    if not _SANE_SINCE <= host.now < _SANE_UNTIL:
        yield Finding(
            "host.clock",
            "problem",
            "",
            f"the clock says {now}: certificates are not valid then, and leases of containerd "
            "expire at wrong times",
            advice,
        )
    elif newest is not None and host.now < newest - _SKEW_SECONDS:
        yield Finding(
            "host.clock",
            "warning",
            "",
            f"the clock says {now}, but the data directory changed at {_day(newest)}: the clock "
            "was set back or was wrong",
            advice,
        )
    elif host.synchronized is False:
        yield Finding(
            "host.clock",
            "note",
            "",
            f"the clock says {now}; the kernel reports that nothing synchronises it",
            "without a network, use a local NTP server or a real-time clock",
        )
    else:
        yield Finding("host.clock", "ok", "", f"the clock says {now}")


def _day(seconds: float) -> str:
    return time_text(min(max(seconds, 0.0), _LAST)) or ""


def _inotify(inotify: Inotify) -> Iterator[Finding]:
    for what, used, limit in (
        ("watches", inotify.watches, inotify.max_watches),
        ("instances", inotify.instances, inotify.max_instances),
    ):
        identity, setting = f"host.inotify-{what}", f"fs.inotify.max_user_{what}"
        usage = f"the processes of user {inotify.uid} use {used} of {limit} inotify {what}"
        if used < _NEARLY * limit:
            yield Finding(identity, "ok", "", usage)
            continue
        yield Finding(
            identity,
            "warning",
            "",
            f"{usage}: at the limit, new archives are noticed by polling",
            f"sysctl -w {setting}={max(limit * 4, 1024)}, and add it to /etc/sysctl.d/",
        )


def _open_files(limit: int, whose: str) -> Finding:
    if limit >= _LEAST_FILES:
        return Finding("host.open-files", "ok", "", f"{whose} may open {limit} files")
    return Finding(
        "host.open-files",
        "warning",
        "",
        f"{whose} may open only {limit} files: many clients at once are refused",
        "set LimitNOFILE=65536 in the systemd unit, or ulimit -n",
    )


def _selinux(host: Host) -> Finding:
    return Finding("host.selinux", "ok", "", f"SELinux is {host.selinux}")


def _overlay(host: Host) -> Iterator[Finding]:
    if host.has_overlay is False:
        yield Finding(
            "host.overlayfs",
            "warning",
            "",
            "this kernel has no overlay file system: the snapshotter overlayfs cannot be used",
            "run modprobe overlay, or set containerd's snapshotter to native",
        )
    elif host.has_overlay:
        yield Finding("host.overlayfs", "ok", "", "the kernel has the overlay file system")
