"""Turns the facts about a host into findings. Pure: findings depend on `facts` only."""

from collections.abc import Iterator

from airside.diagnostics.doctor.facts import Facts
from airside.diagnostics.doctor.finding import Finding, ordered
from airside.diagnostics.doctor.judge.adoption import judge_adoption
from airside.diagnostics.doctor.judge.agents import judge_agent
from airside.diagnostics.doctor.judge.hosts import judge_host
from airside.diagnostics.doctor.judge.kubelets import judge_kubelet
from airside.diagnostics.doctor.judge.mirrors import judge_mirrors
from airside.diagnostics.doctor.judge.openness import judge_openness
from airside.diagnostics.doctor.judge.pulls import judge_pulls
from airside.diagnostics.doctor.judge.runtimes import judge_runtimes
from airside.diagnostics.doctor.judge.stores import judge_directories, judge_store

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
    return ordered([*_unseen(facts), *(finding for part in _PARTS for finding in part(facts))])


def _unseen(facts: Facts) -> Iterator[Finding]:
    for unseen in facts.unseen:
        yield Finding(
            "doctor.unseen", "warning", "", f"could not check {unseen.what}: {unseen.reason}"
        )
