"""What each containerd is, and whether images published to it will run. Pure."""

from collections.abc import Iterator

from airside.clients import reachable
from airside.doctor.facts import Agent, Cri, Facts, Runtime
from airside.doctor.finding import Finding

_OLDEST = (1, 6)
_KUBERNETES = "k8s.io"


def judge_runtimes(facts: Facts) -> Iterator[Finding]:
    asked = set(facts.settings.runtime)
    if asked <= {"none"}:
        yield _none(facts, "the setting runtime is none")
    elif not facts.runtimes:
        yield _none(facts, "no containerd was found on this host")
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
            f"{why}, and listen is empty: images go nowhere",
            "set listen or runtime",
        )
    return Finding(
        "containerd",
        "note",
        "",
        f"{why}: images are served by the registry only",
        f"pull them from {address}, as docker pull {address}/NAME, podman pull --tls-verify=false "
        f"{address}/NAME, skopeo copy --src-tls-verify=false docker://{address}/NAME …; airside "
        "explain NAME has the commands for every client",
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
        "it is not there",
        "start containerd, or give the right socket with --runtime (auto finds the usual ones)",
    ),
    "refused": (
        "nothing listens: containerd does not run",
        "start containerd, and look into its log (journalctl -u containerd, -u k3s, …)",
    ),
    "silent": (
        "it takes connections and does not answer",
        "containerd hangs: look into its log, and restart it (containers run on)",
    ),
    "no-socket": ("it is no socket", "give containerd's socket with --runtime"),
    "not-containerd": (
        "what answers is not a containerd that we understand",
        "give containerd's socket with --runtime: not Docker's (docker.sock), not CRI-O's",
    ),
}


def _forbidden(runtime: Runtime, agent: Agent | None) -> Finding:
    """A fault where the agent runs, or would run, as this user."""
    found = "this user may not connect to it, so that no more was seen of it"
    advice = "run the doctor as root"
    other = agent is not None and agent.state in {"running", "forbidden"}
    if other:
        return Finding("containerd.socket", "note", runtime.socket, found, advice)
    return Finding(
        "containerd.socket",
        "problem" if runtime.named else "warning",
        runtime.socket,
        f"{found}, and an agent of this user could not publish to it",
        "run the agent and the doctor as root; or set runtime to none and let clients pull",
    )


# what it is


def _answering(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    yield _version(runtime)
    if runtime.reason:
        yield Finding(
            "containerd.seen",
            "warning",
            runtime.socket,
            f"not all of it could be looked at: {runtime.reason}",
            "run the doctor again; if it stays so, look into containerd's log",
        )
    if not runtime.has_cri:
        yield _no_cri(runtime, facts)
    elif runtime.cri is not None:
        yield from _cri(runtime, runtime.cri, facts)
    yield _snapshotter(runtime, facts)
    if runtime.gunzip is not None:
        yield _gunzip(runtime)


def _version(runtime: Runtime) -> Finding:
    numbers, version = runtime.numbers, runtime.version
    if numbers < _OLDEST:
        return Finding(
            "containerd.version",
            "warning",
            runtime.socket,
            f"containerd {version} is older than the oldest that is tried, 1.6",
            "upgrade it",
        )
    if not _since(numbers, 22, 3):
        return Finding(
            "containerd.version",
            "warning",
            runtime.socket,
            f"the CRI of containerd {version} does not know pins: kubelet may collect images that "
            "Airside pins; they come back with the next pass",
            "upgrade to 1.6.22, 1.7.3 or later",
        )
    if not _since(numbers, 25, 10):
        return Finding(
            "containerd.version",
            "note",
            runtime.socket,
            f"the CRI of containerd {version} sees a pin that changes later only when it starts",
            "upgrade to 1.6.25, 1.7.10 or later",
        )
    return Finding("containerd.version", "ok", runtime.socket, f"{version} knows pins")


def _since(numbers: tuple[int, ...], of_1_6: int, of_1_7: int) -> bool:
    """Whether a version has what came with these patch releases of 1.6 and 1.7."""
    return numbers >= (1, 7, of_1_7) or (1, 6, of_1_6) <= numbers < (1, 7)


def _no_cri(runtime: Runtime, facts: Facts) -> Finding:
    kubernetes = facts.kubelet is not None and facts.kubelet.present
    return Finding(
        "containerd.cri",
        "warning" if kubernetes and runtime.name == "containerd" else "note",
        runtime.socket,
        "its CRI plugin is off or not loaded: kubelet and crictl can't use this containerd; ctr "
        f"and nerdctl see images with --namespace {facts.settings.namespace}",
        'for Kubernetes, take "cri" out of disabled_plugins in its configuration',
    )


def _cri(runtime: Runtime, cri: Cri, facts: Facts) -> Iterator[Finding]:
    subject, namespace = runtime.socket, facts.settings.namespace
    if cri.not_ready:
        yield Finding(
            "containerd.cri", "warning", subject, f"CRI says: {cri.not_ready}", "look into its log"
        )
    elif namespace != _KUBERNETES:
        yield Finding(
            "containerd.cri",
            "warning",
            subject,
            f"images go to the namespace {namespace}, but kubelet and crictl see only "
            f"{_KUBERNETES}",
            f"set namespace to {_KUBERNETES}",
        )
    else:
        yield Finding(
            "containerd.cri", "ok", subject, "CRI is there, kubelet and crictl see images"
        )
    yield _discard(runtime, cri, facts)
    yield _sandbox(runtime, cri, facts)


def _discard(runtime: Runtime, cri: Cri, facts: Facts) -> Finding:
    subject = runtime.socket
    if cri.discard is None:
        return Finding(
            "containerd.discard", "note", subject, f"discard_unpacked_layers: {_unknown(cri)}"
        )
    if not cri.discard:
        return Finding(
            "containerd.discard", "ok", subject, "layers stay after unpacking: they can be shared"
        )
    lost = "; the registry can't serve such images from containerd" * facts.settings.read_through
    return Finding(
        "containerd.discard",
        "warning",
        subject,
        "discard_unpacked_layers is on: of what kubelet pulls, containerd deletes the layers after "
        f"unpacking, so that they can't be exported or shared with other nodes{lost}",
        "set discard_unpacked_layers = false in its configuration, and restart it",
    )


def _unknown(cri: Cri) -> str:
    if cri.unread:
        return f"not known, this user may not read {cri.unread}"
    return "not known: neither containerd nor a configuration file tells"


def _sandbox(runtime: Runtime, cri: Cri, facts: Facts) -> Finding:
    identity, subject = "containerd.sandbox", runtime.socket
    if not cri.sandbox or cri.sandbox_present is None:
        return Finding(
            identity,
            "note",
            subject,
            f"the name of the sandbox (pause) image is {_unknown(cri)}"
            if not cri.sandbox
            else f"whether the sandbox image {cri.sandbox} is there could not be told",
            "see that it is among your archives: no pod starts without it",
        )
    if not cri.sandbox_present:
        return _no_sandbox(runtime, cri, facts)
    if not cri.sandbox_pinned and _since(runtime.numbers, 22, 3):
        return Finding(
            identity,
            "warning",
            subject,
            f"the sandbox image {cri.sandbox} is there, but not pinned: kubelet's garbage "
            "collection may take it",
            "drop an archive that has it: Airside pins what it publishes",
        )
    return Finding(identity, "ok", subject, f"the sandbox image {cri.sandbox} is there")


def _no_sandbox(runtime: Runtime, cri: Cri, facts: Facts) -> Finding:
    identity, subject = "containerd.sandbox", runtime.socket
    found = f"the sandbox image {cri.sandbox} is not in containerd: no pod can start from it"
    if cri.sandbox_held:
        return Finding(
            identity,
            "warning",
            subject,
            f"{found}, but Airside has it",
            "start the agent, which publishes it",
        )
    kubernetes = facts.kubelet is not None and facts.kubelet.present
    return Finding(
        identity,
        "problem" if kubernetes else "note",
        subject,
        found if kubernetes else f"{found}; no kubelet was seen here",
        f"drop an archive that has {cri.sandbox} for this node's platform",
    )


def _snapshotter(runtime: Runtime, facts: Facts) -> Finding:
    identity, subject, name = "containerd.snapshotter", runtime.socket, runtime.snapshotter
    if runtime.snapshotter_error:
        chosen = facts.settings.snapshotter == name
        return Finding(
            identity,
            "problem",
            subject,
            f"the snapshotter {name} can't be used: {runtime.snapshotter_error}",
            "correct the setting snapshotter, or leave it empty"
            if chosen
            else "look into containerd's log for it",
        )
    if not runtime.unpacks_here:
        return Finding(
            identity,
            "note",
            subject,
            f"the snapshotter {name} fetches layers when they are read: images are not unpacked "
            "at import, whatever the setting unpack says",
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
            f"gzip layers are decompressed by {gunzip.program}, if it was there when containerd "
            "started; unpacking fails if it is removed",
        )
    return Finding(
        "containerd.gunzip",
        "note",
        runtime.socket,
        "gzip layers are decompressed by containerd itself, which is slower",
        f"install {' or '.join(gunzip.wanted)} (Debian: {_PACKAGES[gunzip.wanted[0]]}) on its PATH "
        "and restart containerd, or drop images with zstd layers",
    )


_PACKAGES = {"unpigz": "pigz", "igzip": "isal"}
