"""Settings of the API server that make kubelet ask a registry for a present image. Pure."""

from collections.abc import Iterator

from airside.diagnostics.doctor.facts import Facts, Kubelet
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.doctor.judge.mirrors import is_mirrored
from airside.diagnostics.pull_doubts import MIRROR


def judge_kubelet(facts: Facts) -> Iterator[Finding]:
    kubelet = facts.kubelet
    if kubelet is not None and any(runtime.cri for runtime in facts.runtimes):
        yield _always(kubelet, mirrored=is_mirrored(facts))


def _always(kubelet: Kubelet, *, mirrored: bool) -> Finding:
    identity = "kubelet.always-pull"
    if kubelet.always_pull:
        found = (
            "the admission plugin AlwaysPullImages is on: every pod asks the registry for images"
        )
        file = kubelet.always_pull[0]
        if mirrored:
            return Finding(identity, "ok", file, f"{found}; containerd asks Airside first")
        advice = f"disable it, or let containerd ask Airside first ({MIRROR})"
        return Finding(identity, "warning", file, f"{found}, and fails without one", advice)
    if kubelet.has_api_server:
        return Finding(identity, "ok", "", "the admission plugin AlwaysPullImages is off")
    return Finding(
        identity,
        "note",
        "",
        "could not check AlwaysPullImages on this host: it is a setting of the API server",
        "look for it in --enable-admission-plugins there"
        + f"; pods with imagePullPolicy Always ask the registry in any case: {MIRROR}"
        * (not mirrored),
    )
