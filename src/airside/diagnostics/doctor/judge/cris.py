"""CRI of a containerd: kubelet sees and preserves images, and can start pods. Pure."""

from collections.abc import Iterator
from contextlib import suppress

from airside.core.errors import AirsideError
from airside.diagnostics.doctor.facts import Cri, Facts, Runtime
from airside.diagnostics.doctor.finding import Finding
from airside.oci.reference import parse_reference

_KUBERNETES = "k8s.io"


def judge_cri(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    """Yields nothing if CRI exists and could not be asked: the caller reports that."""
    if not runtime.has_cri:
        yield _no_cri(runtime, facts)
    elif runtime.cri is not None:
        yield from _cri(runtime, runtime.cri, facts)


def _no_cri(runtime: Runtime, facts: Facts) -> Finding:
    kubernetes = facts.kubelet is not None and facts.kubelet.present
    return Finding(
        "containerd.cri",
        "warning" if kubernetes and runtime.name == "containerd" else "note",
        runtime.socket,
        "its CRI plugin is disabled or not loaded: kubelet and crictl cannot use this containerd; "
        f"ctr and nerdctl see images with --namespace {facts.settings.namespace}",
        'for Kubernetes, remove "cri" from disabled_plugins in its configuration',
    )


def _cri(runtime: Runtime, cri: Cri, facts: Facts) -> Iterator[Finding]:
    subject, namespace = runtime.socket, facts.settings.namespace
    if cri.not_ready:
        yield Finding(
            "containerd.cri",
            "warning",
            subject,
            f"CRI is not ready: {cri.not_ready}",
            "check its log",
        )
    elif namespace != _KUBERNETES:
        yield Finding(
            "containerd.cri",
            "warning",
            subject,
            f"images are published to the namespace {namespace}, but kubelet and crictl see only "
            f"{_KUBERNETES}",
            f"set namespace to {_KUBERNETES}",
        )
    else:
        yield Finding(
            "containerd.cri", "ok", subject, "CRI is ready; kubelet and crictl see images"
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
            "containerd.discard",
            "ok",
            subject,
            "containerd stores layers after unpacking; they can be shared",
        )
    lost = "; the registry cannot serve such images from containerd" * (
        facts.settings.read_through != "false"
    )
    return Finding(
        "containerd.discard",
        "warning",
        subject,
        "discard_unpacked_layers is on: containerd deletes the layers of pulled images after "
        f"unpacking, so that they cannot be exported or shared with other nodes{lost}",
        "set discard_unpacked_layers = false in its configuration and restart containerd",
    )


def _unknown(cri: Cri) -> str:
    if cri.unread:
        return f"unknown: this user may not read {cri.unread}"
    return "unknown: neither containerd nor a configuration file has it"


def _sandbox(runtime: Runtime, cri: Cri, facts: Facts) -> Finding:
    identity, subject = "containerd.sandbox", runtime.socket
    if not cri.sandbox or cri.sandbox_present is None:
        return Finding(
            identity,
            "note",
            subject,
            f"the name of the sandbox (pause) image is {_unknown(cri)}"
            if not cri.sandbox
            else f"could not check for the sandbox image {cri.sandbox}",
            "make sure one of your archives has it: no pod starts without it",
        )
    if not cri.sandbox_present:
        return _no_sandbox(runtime, cri, facts)
    if not cri.sandbox_pinned and runtime.is_since(22, 3):
        found = (
            f"the sandbox image {cri.sandbox} exists but is not pinned: kubelet's garbage "
            "collection may delete it"
        )
        advice = "drop an archive that has it: Airside pins the images it publishes"
        if _is_held(cri.sandbox, facts):
            found, advice = _held_sandbox(runtime, cri, found, facts)
        return Finding(identity, "warning", subject, found, advice)
    return Finding(identity, "ok", subject, f"the sandbox image {cri.sandbox} exists")


def _is_held(name: str, facts: Facts) -> bool:
    with suppress(AirsideError):
        return str(parse_reference(name)) in (facts.names or ())
    return False


def _held_sandbox(runtime: Runtime, cri: Cri, found: str, facts: Facts) -> tuple[str, str]:
    """Returns what is found, and the advice, where Airside has the sandbox image."""
    agent = facts.agent
    if agent is None or agent.state != "running":
        advice = "start the agent, which publishes it to containerd"
        return f"{found}, but Airside has it", advice
    for image in agent.unpublished:
        if image.socket == runtime.socket and image.reference == cri.sandbox:
            retry = f", next try at {image.next_try_at}" if image.next_try_at else ""
            found = f"{found}; in Airside it is {image.state}: {image.reason}{retry}"
            return found, "see the finding agent.unpublished of this socket"
    if not any(each.socket == runtime.socket for each in agent.published):
        advice = f"restart the agent with --runtime {runtime.socket}"
        return f"{found}; Airside has it, but does not publish to this containerd", advice
    return (
        f"{found}; Airside has it, and the running agent publishes it in its next pass",
        "run the doctor again; if it stays absent, run airside explain with its name",
    )


def _no_sandbox(runtime: Runtime, cri: Cri, facts: Facts) -> Finding:
    identity, subject = "containerd.sandbox", runtime.socket
    found = f"the sandbox image {cri.sandbox} is not in containerd: no pod can start"
    if cri.sandbox_held:
        return Finding(identity, "warning", subject, *_held_sandbox(runtime, cri, found, facts))
    kubernetes = facts.kubelet is not None and facts.kubelet.present
    return Finding(
        identity,
        "problem" if kubernetes else "note",
        subject,
        found if kubernetes else f"{found}; no kubelet was found on this host",
        f"drop an archive that has {cri.sandbox} for this node's platform",
    )
