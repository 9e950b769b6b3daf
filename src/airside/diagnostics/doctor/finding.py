"""A finding of the doctor: one for each check. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")
"""The worst first. `problem`: a configured function fails. `warning`: it works badly, or will fail
later. `note`: information, or a check that was not possible. `ok`: no fault."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`id` is stable; `subject` is the socket, directory, file or address, or empty.

    `found` and `advice` are texts for people; `advice` is empty if there is nothing to do.
    """

    id: str
    severity: Severity
    subject: str
    found: str
    advice: str = ""


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings, the worst first, else in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def is_healthy(findings: Iterable[Finding], *, strict: bool) -> bool:
    """Returns True if there is no problem and, if strict, no warning."""
    bad = {"problem", "warning"} if strict else {"problem"}
    return not any(finding.severity in bad for finding in findings)
