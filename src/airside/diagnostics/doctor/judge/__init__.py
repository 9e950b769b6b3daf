"""Turns the facts about a host into findings. Pure: findings depend on `facts` only."""

from collections.abc import Iterator
from dataclasses import replace

from airside.diagnostics.doctor.facts import Facts
from airside.diagnostics.doctor.finding import Finding, ordered
from airside.diagnostics.doctor.judge.adoption import judge_adoption
from airside.diagnostics.doctor.judge.agents import judge_agent
from airside.diagnostics.doctor.judge.concerns import judge_concerns
from airside.diagnostics.doctor.judge.hosts import judge_host
from airside.diagnostics.doctor.judge.kubelets import judge_kubelet
from airside.diagnostics.doctor.judge.mirrors import judge_mirrors
from airside.diagnostics.doctor.judge.openness import judge_openness
from airside.diagnostics.doctor.judge.pulls import judge_pulls
from airside.diagnostics.doctor.judge.runtimes import judge_runtimes
from airside.diagnostics.doctor.judge.stores import judge_directories, judge_store

_AS_ROOT = "run the doctor as root"
_ROOT_MAY_NOT = (
    "root may not either: check the file system (NFS with root_squash), SELinux and AppArmor, and "
    "the capabilities of this process"
)
_PARTS = (
    judge_agent,
    judge_openness,
    judge_store,
    judge_directories,
    judge_runtimes,
    judge_adoption,
    judge_pulls,
    judge_kubelet,
    judge_mirrors,
    judge_host,
)


def judge(facts: Facts) -> list[Finding]:
    """Returns all findings, the worst first."""
    found = [*_unseen(facts), *(finding for part in _PARTS for finding in part(facts))]
    if facts.agent is not None:
        found += judge_concerns(facts.agent.concerns, tuple(found))
    is_root = facts.host is not None and facts.host.uid == 0
    return ordered(map(_of_root, found) if is_root else found)


def _of_root(finding: Finding) -> Finding:
    """Returns the finding without the advice to be root, which root has followed."""
    if not finding.advice.startswith(_AS_ROOT):
        return finding
    return replace(finding, advice=_ROOT_MAY_NOT)


def _unseen(facts: Facts) -> Iterator[Finding]:
    for unseen in facts.unseen:
        yield Finding(
            "doctor.unseen", "warning", "", f"could not check {unseen.what}: {unseen.reason}"
        )
