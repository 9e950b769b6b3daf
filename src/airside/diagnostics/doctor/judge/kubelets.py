"""What kubelet does for lack of space, and what makes it ask a registry. Pure."""

from collections.abc import Iterator

from airside.containerd.kubelet_space import KubeletSpace
from airside.diagnostics.doctor.facts import Facts, Kubelet, Volume
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.doctor.judge.mirrors import is_mirrored, why_unanswered
from airside.diagnostics.pull_doubts import MIRROR


def judge_kubelet(facts: Facts) -> Iterator[Finding]:
    kubelet = facts.kubelet
    volume = facts.store.volume if facts.store is not None else None
    if kubelet is not None and kubelet.space is not None and volume is not None:
        yield _space(kubelet.space, volume, facts)
    if kubelet is not None and any(runtime.cri for runtime in facts.runtimes):
        yield _always(kubelet, facts, mirrored=is_mirrored(facts))


def _space(space: KubeletSpace, volume: Volume, facts: Facts) -> Finding:
    """Compares the free space below which kubelet acts with that below which Airside does."""
    identity, path, total = "kubelet.space", volume.point, volume.total_bytes
    setting = facts.settings.low_space_percent
    ours = space.kept_percent(total) if setting == "auto" else float(setting)
    least = facts.settings.min_free_bytes + facts.settings.low_space_bytes
    ours = max(ours, 100 * least / total if total else 0.0)
    free = 100 * volume.free_bytes / total if total else 100.0
    kubelets = f"below {space.acts_below(total):.0f} % kubelet deletes images or evicts pods"
    kubelets += "" if space.is_found else " (its defaults: no setting was found)"
    found = f"{free:.0f} % are free; {kubelets}, below {ours:.0f} % Airside deletes what it may"
    if free < space.acts_below(total):
        advice = "free space; airside gc --dry-run shows what Airside deletes for that"
        return Finding(identity, "warning", path, found, advice)
    if ours <= space.acts_below(total):
        advice = 'set low_space_percent = "auto": Airside then gives space back before kubelet acts'
        return Finding(identity, "warning", path, found, advice)
    return Finding(identity, "ok", path, found)


def _always(kubelet: Kubelet, facts: Facts, *, mirrored: bool) -> Finding:
    identity = "kubelet.always-pull"
    if kubelet.always_pull:
        found = (
            "the admission plugin AlwaysPullImages is on: every pod asks the registry for images"
        )
        file = kubelet.always_pull[0]
        if mirrored:
            gap, found = why_unanswered(facts), f"{found}; containerd asks Airside first"
            return Finding(identity, "warning" if gap else "ok", file, found, gap)
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
