"""What the doctor says: one finding for each thing that was looked at. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")
"""The worst first. `problem`: something that was asked for does not go. `warning`: it goes badly,
or will not go one day. `note`: worth knowing; also what could not be seen. `ok`: it is well."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`id` is stable; `subject` is the socket, directory or address that it is about, or empty.

    `found` and `advice` are for people; nothing is to be done where `advice` is empty.
    """

    id: str
    severity: Severity
    subject: str
    found: str
    advice: str = ""


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, else as they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def is_healthy(findings: Iterable[Finding], *, strict: bool) -> bool:
    """Whether there is no problem and, if strict, no warning."""
    bad = {"problem", "warning"} if strict else {"problem"}
    return not any(finding.severity in bad for finding in findings)
