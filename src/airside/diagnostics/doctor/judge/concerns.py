"""What `airside status` says is wrong, where no other finding says it. Pure.

So the two always agree: each concern of `airside.diagnostics.verdict` is a finding. It is as
severe, but for those in `MILDER`: the exit code of `doctor` is not for single archives.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from airside.diagnostics.doctor.finding import SEVERITIES, Finding, Severity
from airside.diagnostics.verdict import Concern

SAID_BY: Mapping[str, str] = {
    "stopped": "agent",
    "silent": "agent",
    "bad-blobs": "data.blobs",
    "full": "data.space",
    "low-space": "data.space",
    "other-agent": "agent.runtime",
    "runtime-away": "agent.runtime",
    "streams": "agent.runtime",
    "archives": "archives",
    "unpublished": "agent.unpublished",
    "no-fallback": "agent.fallback",
    "unreadable": "images.directory",
    "absent": "images.directory",
    "lost-records": "agent.lost-records",
    "missing": "agent.missing",
    "no-disk": "agent.no-disk",
}
"""By the code of a concern: the finding that says it."""
MILDER: Mapping[str, Severity] = {
    "stopped": "note",
    "archives": "warning",
}
_SUBJECTS = ("socket", "path")


def judge_concerns(concerns: Iterable[Concern], found: Sequence[Finding]) -> Iterator[Finding]:
    """Yields the concerns that are not among the findings yet."""
    for concern in concerns:
        severity = _severity(concern)
        if severity is None or any(_says(each, concern, severity) for each in found):
            continue
        identity = SAID_BY[concern.code]
        yield Finding(identity, severity, _subject(concern), concern.found, concern.advice)


def _severity(concern: Concern) -> Severity | None:
    """Returns the severity of a finding; None if nothing is wrong."""
    if concern.severity == "problem" or concern.severity == "warning":  # noqa: PLR1714 - for mypy
        return MILDER.get(concern.code, concern.severity)
    return None


def _says(finding: Finding, concern: Concern, severity: Severity) -> bool:
    subject = _subject(concern)
    return (
        finding.id == SAID_BY[concern.code]
        and SEVERITIES.index(finding.severity) <= SEVERITIES.index(severity)
        and (not subject or finding.subject == subject)
    )


def _subject(concern: Concern) -> str:
    return next((concern.values[key] for key in _SUBJECTS if key in concern.values), "")
