"""Settings that make kubelet ask a registry for a present image, and mirror settings. Pure."""

from collections.abc import Iterator

from airside.diagnostics.doctor.facts import Facts, Kubelet, Mirror
from airside.diagnostics.doctor.finding import Finding

_NEVER_ASKS = {"NeverVerify", "NeverVerifyPreloadedImages"}
_MIRROR = "airside mirror write --all"


def judge_kubernetes(facts: Facts) -> Iterator[Finding]:
    kubelet = facts.kubelet
    if kubelet is not None and any(runtime.cri for runtime in facts.runtimes):
        yield from _policies(kubelet)
        yield _always(kubelet)
    if facts.runtimes:
        for mirror in facts.mirrors:
            yield _mirror(mirror)


def _policies(kubelet: Kubelet) -> Iterator[Finding]:
    identity = "kubelet.credentials"
    asking = {f: p for f, p in kubelet.policies.items() if p not in _NEVER_ASKS}
    for file, policy in asking.items():
        yield Finding(
            identity,
            "warning",
            file,
            f"imagePullCredentialsVerificationPolicy is {policy}: kubelet asks the registry for "
            "images that the node already has",
            "set it to NeverVerifyPreloadedImages, its default, or let containerd ask Airside "
            f"first ({_MIRROR})",
        )
    if asking:
        return
    if kubelet.unread:
        yield Finding(
            identity,
            "note",
            kubelet.unread[0],
            "this user may not read kubelet's configuration: could not check whether kubelet asks "
            "the registry for images that the node already has",
            "run the doctor as root",
        )
    elif kubelet.present:
        origin = "by its configuration" if kubelet.policies else "by default"
        yield Finding(
            identity,
            "ok",
            "",
            f"kubelet uses images of the node without asking a registry, {origin}",
        )
    else:
        yield Finding(identity, "note", "", "no configuration of a kubelet was found on this host")


def _always(kubelet: Kubelet) -> Finding:
    identity = "kubelet.always-pull"
    if kubelet.always_pull:
        return Finding(
            identity,
            "warning",
            kubelet.always_pull[0],
            "the admission plugin AlwaysPullImages is on: every pod asks the registry for its "
            "images, and fails without one",
            f"disable it, or let containerd ask Airside first ({_MIRROR})",
        )
    if kubelet.has_api_server:
        return Finding(identity, "ok", "", "the admission plugin AlwaysPullImages is off")
    return Finding(
        identity,
        "note",
        "",
        "could not check AlwaysPullImages on this host: it is a setting of the API server",
        "look for it in --enable-admission-plugins there. Pods with imagePullPolicy Always ask the "
        f"registry in any case: {_MIRROR}",
    )


def _mirror(mirror: Mirror) -> Finding:
    identity, subject = "containerd.mirror", mirror.subject
    if mirror.reason:
        return Finding(
            identity,
            "note",
            subject,
            f"its mirror settings could not be read: {mirror.reason}",
            "run the doctor as root",
        )
    if mirror.warning and mirror.asked:
        return Finding(
            identity,
            "warning",
            subject,
            "mirror settings name Airside, but containerd does not read them",
            mirror.warning,
        )
    if mirror.ignored:
        return Finding(
            identity,
            "warning",
            subject,
            f"it ignores mirror settings, those of others too: {mirror.ignored}",
            f"correct or delete the file, then: {mirror.command}",
        )
    if mirror.lacking or not mirror.asked:
        return Finding(
            identity,
            "note" if mirror.asked else "warning",
            subject,
            f"it does not ask {mirror.url} first for {_names(mirror.lacking)}: a pull (pull policy "
            "Always) asks the original registry and fails without a network",
            "; ".join(filter(None, (mirror.command, mirror.warning))),
        )
    return Finding(
        identity, "ok", subject, f"it asks {mirror.url} first for {_names(mirror.asked)}"
    )


def _names(registries: tuple[str, ...]) -> str:
    others = "all others" if len(registries) > 1 else "any registry"
    return ", ".join(others if name in {"_default", "*"} else name for name in registries)
