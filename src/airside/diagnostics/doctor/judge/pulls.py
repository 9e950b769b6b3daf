"""Findings about present images for which kubelet asks a registry all the same. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from airside.containerd.kubelet_pulls import Doubt, KubeletPulls
from airside.core.errors import AirsideError
from airside.diagnostics.doctor.facts import Facts, Kubelet
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.doctor.judge.mirrors import is_mirrored, why_unanswered
from airside.diagnostics.pull_doubts import advice_for_doubt, reason_of
from airside.oci.digest import parse_digest
from airside.oci.reference import parse_reference

_SHOWN = 3
_ANSWERED = "; containerd asks Airside first"


def judge_pulls(facts: Facts) -> Iterator[Finding]:
    kubelet = facts.kubelet
    if kubelet is None or not any(runtime.cri for runtime in facts.runtimes):
        return
    doubts = _doubts(facts, kubelet.pulls)
    yield _policy(facts, kubelet, [name for name, each in doubts if each.kind == "policy"])
    if kubelet.present and kubelet.pulls.is_kept and kubelet.pulls.unread is None:
        yield from _records(
            facts, kubelet, [(n, each) for n, each in doubts if each.kind != "policy"]
        )


def _doubts(facts: Facts, pulls: KubeletPulls) -> list[tuple[str, Doubt]]:
    """Returns the images that are in containerd and in Airside, for which kubelet asks."""
    found: dict[str, Doubt] = {}
    for image_id, name in _present(facts):
        try:
            doubt = pulls.doubt_of(parse_reference(name), parse_digest(image_id))
        except AirsideError:
            continue
        if doubt is not None:
            found[name] = doubt
    return sorted(found.items())


def _present(facts: Facts) -> Iterator[tuple[str, str]]:
    for runtime in facts.runtimes:
        for image_id, names in runtime.cri.images if runtime.cri is not None else ():
            yield from ((image_id, n) for n in names if facts.names is None or n in facts.names)


def _policy(facts: Facts, kubelet: Kubelet, asked: list[str]) -> Finding:
    identity, policy = "kubelet.credentials", kubelet.pulls.policy
    file = str(policy.file) if policy.file is not None else ""
    all_listed = bool(policy.allowlist) and facts.names is not None and not asked
    if policy.asks_of_unknown and not all_listed:
        which = f", such as {_names(asked)}" if asked else ""
        found = (
            f"imagePullCredentialsVerificationPolicy is {policy.name}: kubelet asks the registry "
            f"for images that the node already has{which}"
        )
        advice = advice_for_doubt(Doubt("policy"), policy)
        return _answered(facts, asked, Finding(identity, "warning", file, found, advice))
    unread = [*kubelet.unread, *map(str, filter(None, [kubelet.pulls.unread]))]
    if unread:
        return Finding(
            identity,
            "note",
            unread[0],
            "this user may not read kubelet's configuration or records: could not check whether "
            "kubelet asks the registry for images that the node already has",
            "run the doctor as root",
        )
    if not kubelet.present:
        text = "no configuration of a kubelet was found on this host"
        return Finding(identity, "note", "", text)
    origin = f"by {policy.name}" if policy.file is not None else "by default"
    return Finding(
        identity,
        "ok",
        file,
        f"kubelet uses images that it did not pull itself without asking a registry, {origin}",
    )


def _records(facts: Facts, kubelet: Kubelet, doubts: list[tuple[str, Doubt]]) -> Iterator[Finding]:
    identity, pulls = "kubelet.pull-records", kubelet.pulls
    if not doubts:
        counted = f"{len(pulls.records)} images, and {len(pulls.intents)} pulls that run"
        text = f"kubelet has pull records of {counted}: none makes it ask for an image of Airside's"
        yield Finding(identity, "ok", "", text)
    for kind in dict.fromkeys(each.kind for _, each in doubts):
        those = [(name, each) for name, each in doubts if each.kind == kind]
        files = tuple(dict.fromkeys(file for _, each in those for file in each.files))
        whole = Doubt(kind, files)
        found = f"kubelet asks a registry for {_names([name for name, _ in those])}"
        found += f", which the node has: {reason_of(whole, pulls.policy)}"
        advice = advice_for_doubt(whole, pulls.policy)
        finding = Finding(identity, "warning", str(files[0].parent), found, advice)
        yield _answered(facts, [name for name, _ in those], finding)


def _answered(facts: Facts, names: list[str], finding: Finding) -> Finding:
    """Changes the finding if containerd asks Airside first for all of these images."""
    hosts = {parse_reference(name).repository.host for name in names} or {""}
    if not all(is_mirrored(facts, host) for host in hosts):
        return finding
    gap = why_unanswered(facts)
    return replace(
        finding,
        severity="warning" if gap else "ok",
        found=finding.found + _ANSWERED + ", which answers" * (not gap),
        advice=gap,
    )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
