"""Findings about each containerd: socket, version, CRI, snapshotter. Pure."""

from collections.abc import Iterator

from airside.diagnostics.doctor.facts import Agent, Facts, Runtime
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.doctor.judge.cris import judge_cri
from airside.diagnostics.doctor.judge.erofs import judge_erofs
from airside.diagnostics.pull_commands import reachable

_OLDEST = (1, 6)


def judge_runtimes(facts: Facts) -> Iterator[Finding]:
    if not facts.runtimes:
        off = set(facts.settings.runtime) <= {"none"}
        why = "the setting runtime is none" if off else "no containerd was found on this host"
        yield _none(facts, why)
    for runtime in facts.runtimes:
        yield _socket(runtime, facts)
        if runtime.state == "answers":
            yield from _answering(runtime, facts)


def _none(facts: Facts, why: str) -> Finding:
    """Not a fault: the registry serves every OCI client."""
    listen = facts.agent.listen if facts.agent is not None else ""
    address = reachable(listen or facts.settings.listen)
    if not address:
        return Finding(
            "containerd",
            "warning",
            "",
            f"{why}, and listen is empty: nothing serves the images",
            "set listen or runtime",
        )
    return Finding(
        "containerd",
        "note",
        "",
        f"{why}: only the registry serves images",
        f"pull from {address}: docker pull {address}/NAME, podman pull --tls-verify=false "
        f"{address}/NAME, skopeo copy --src-tls-verify=false docker://{address}/NAME …; airside "
        "explain NAME prints the commands of every client",
    )


# the socket


def _socket(runtime: Runtime, facts: Facts) -> Finding:
    subject = runtime.socket
    if runtime.state == "answers":
        found = f"containerd {runtime.version} answers ({runtime.name})"
        return Finding("containerd.socket", "ok", subject, found)
    if runtime.state == "forbidden":
        return _forbidden(runtime, facts.agent)
    found, advice = _SILENT[runtime.state]
    reason = f": {runtime.reason}" if runtime.reason else ""
    return Finding("containerd.socket", "problem", subject, f"{found}{reason}", advice)


_SILENT = {
    "absent": (
        "the socket does not exist",
        "start containerd, or pass the right socket with --runtime (auto finds the usual ones)",
    ),
    "refused": (
        "nothing listens: containerd does not run",
        "start containerd, and check its log (journalctl -u containerd, -u k3s, …)",
    ),
    "silent": (
        "it accepts connections but does not answer",
        "containerd hangs: check its log, and restart it (containers continue to run)",
    ),
    "no-socket": ("it is not a socket", "pass containerd's socket with --runtime"),
    "not-containerd": (
        "the server is not a supported containerd",
        "pass containerd's socket with --runtime, not that of Docker (docker.sock) or CRI-O",
    ),
}


def _forbidden(runtime: Runtime, agent: Agent | None) -> Finding:
    """A fault if the agent runs, or would run, as this user."""
    found = "this user may not connect to it, so nothing else was checked"
    advice = "run the doctor as root"
    other = agent is not None and agent.state in {"running", "forbidden"}
    if other:
        return Finding("containerd.socket", "note", runtime.socket, found, advice)
    return Finding(
        "containerd.socket",
        "problem" if runtime.named else "warning",
        runtime.socket,
        f"{found}; an agent of this user cannot publish to it",
        "run the agent and the doctor as root, or set runtime to none and let clients pull",
    )


# version, CRI, snapshotter, gzip


def _answering(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    yield _version(runtime)
    if runtime.reason:
        yield Finding(
            "containerd.seen",
            "warning",
            runtime.socket,
            f"some checks failed: {runtime.reason}",
            "run the doctor again; if they fail again, check containerd's log",
        )
    yield from judge_cri(runtime, facts)
    yield _snapshotter(runtime, facts)
    if (erofs := judge_erofs(runtime)) is not None:
        yield erofs
    if runtime.gunzip is not None:
        yield _gunzip(runtime)


def _version(runtime: Runtime) -> Finding:
    numbers, version = runtime.numbers, runtime.version
    if numbers < _OLDEST:
        return Finding(
            "containerd.version",
            "warning",
            runtime.socket,
            f"containerd {version} is older than 1.6, the oldest tested version",
            "upgrade containerd",
        )
    if not runtime.is_since(22, 3):
        return Finding(
            "containerd.version",
            "warning",
            runtime.socket,
            f"the CRI of containerd {version} ignores pins: kubelet may delete images that Airside "
            "pins; Airside publishes them again: at once if a pod wants them, else ever later",
            "upgrade to 1.6.22, 1.7.3 or later",
        )
    if not runtime.is_since(25, 10):
        return Finding(
            "containerd.version",
            "note",
            runtime.socket,
            f"the CRI of containerd {version} reads changed pins only when it starts",
            "upgrade to 1.6.25, 1.7.10 or later",
        )
    return Finding("containerd.version", "ok", runtime.socket, f"{version} supports pins")


def _snapshotter(runtime: Runtime, facts: Facts) -> Finding:
    identity, subject, name = "containerd.snapshotter", runtime.socket, runtime.snapshotter
    if runtime.snapshotter_error:
        chosen = facts.settings.snapshotter == name
        return Finding(
            identity,
            "problem",
            subject,
            f"the snapshotter {name} cannot be used: {runtime.snapshotter_error}",
            "correct the setting snapshotter, or leave it empty"
            if chosen
            else "search containerd's log for it",
        )
    if not runtime.unpacks_here:
        return Finding(
            identity,
            "note",
            subject,
            f"the snapshotter {name} fetches layers on demand: images are not unpacked at import, "
            "whatever the setting unpack is",
        )
    when = "at import" if facts.settings.unpack != "never" else "by the first container"
    return Finding(identity, "ok", subject, f"{name}: images are unpacked {when}")


def _gunzip(runtime: Runtime) -> Finding:
    gunzip = runtime.gunzip
    assert gunzip is not None
    if gunzip.program:
        return Finding(
            "containerd.gunzip",
            "ok",
            runtime.socket,
            f"{gunzip.program} decompresses gzip layers, if it existed when containerd started; "
            "unpacking fails if it is removed",
        )
    return Finding(
        "containerd.gunzip",
        "note",
        runtime.socket,
        "containerd itself decompresses gzip layers, which is slower",
        f"install {' or '.join(gunzip.wanted)} (Debian: {_PACKAGES[gunzip.wanted[0]]}) on its PATH "
        "and restart containerd, or drop images with zstd layers",
    )


_PACKAGES = {"unpigz": "pigz", "igzip": "isal"}
