"""What the facts mean for images on this host. Pure: every finding follows from `facts` alone."""

from collections.abc import Iterator

from airside.doctor.facts import Facts
from airside.doctor.finding import Finding, ordered
from airside.doctor.judge.adoption import judge_adoption
from airside.doctor.judge.agents import judge_agent
from airside.doctor.judge.hosts import judge_host
from airside.doctor.judge.kubelets import judge_kubernetes
from airside.doctor.judge.runtimes import judge_runtimes
from airside.doctor.judge.stores import judge_directories, judge_store

_PARTS = (
    judge_agent,
    judge_store,
    judge_directories,
    judge_runtimes,
    judge_adoption,
    judge_kubernetes,
    judge_host,
)


def judge(facts: Facts) -> list[Finding]:
    """All findings, the worst first."""
    return ordered([*_unseen(facts), *(finding for part in _PARTS for finding in part(facts))])


def _unseen(facts: Facts) -> Iterator[Finding]:
    for unseen in facts.unseen:
        yield Finding(
            "doctor.unseen", "warning", "", f"could not look at {unseen.what}: {unseen.reason}"
        )
