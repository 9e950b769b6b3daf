"""`airside doctor`: finds problems of images on this host, and suggests fixes."""

from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError, NotPermittedError
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import count_text, is_terminal, write, write_json
from airside.cli.table import write_table
from airside.cli.waiting import shown_waiting
from airside.core.errors import AirsideError
from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Agent, Published, Unpublished
from airside.diagnostics.doctor.finding import SEVERITIES, Finding, is_healthy
from airside.diagnostics.verdict import Concern, verdict_of

_ANSWER_SECONDS = 1.4
"""The time limit of a request to the agent, within the limit of one check."""


@click.command(epilog=example("airside doctor", "airside doctor --strict --json"))
@click.option("--strict", is_flag=True, help="Count warnings as problems.")
@click.option(
    "--runtime",
    multiple=True,
    metavar="auto|none|SOCKET",
    help="The containerd to check [default: of the running agent, else of the settings].",
)
@data_option
@config_option
@json_option
def doctor(
    runtime: tuple[str, ...], data: Path | None, config: Path | None, *, strict: bool, as_json: bool
) -> int:
    """Check this host for problems with images, and suggest fixes.

    Checks containerd, kubelet's settings, disk, clock, limits and permissions, with or without an
    agent; as root it checks more. Leaves no change: a small test file is linked into containerd and
    deleted again. Exit code 1 if there is a problem.
    """
    settings = effective_settings(config, data=data, runtime=runtime).settings
    with shown_waiting("checking", quiet=as_json):
        findings = _examine(settings, chosen=bool(runtime))
    if as_json:
        write_json(findings_report(findings))
    else:
        _show(findings)
    return EXIT_DONE if is_healthy(findings, strict=strict) else EXIT_FAILED


def _examine(settings: Settings, *, chosen: bool) -> list[Finding]:
    from airside.diagnostics.doctor.gather import gather  # noqa: PLC0415 - gRPC and the rest: not for --help
    from airside.diagnostics.doctor.judge import judge  # noqa: PLC0415

    return judge(gather(settings, _AgentOrCatalog(settings), chosen=chosen))


def findings_report(findings: list[Finding]) -> dict[str, Any]:
    """Returns the findings as JSON, with the number of each severity."""
    counts = Counter(finding.severity for finding in findings)
    return {
        "schema": 1,
        "problems": counts["problem"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "items": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "subject": finding.subject,
                "found": finding.found,
                "advice": finding.advice,
            }
            for finding in findings
        ],
    }


def _show(findings: list[Finding]) -> None:
    columns: tuple[str, ...] = ("SEVERITY", "CHECK", "FOUND", "WHAT TO DO")
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        found = f"{finding.subject}: {finding.found}" if finding.subject else finding.found
        if not is_terminal():
            rows.append((finding.severity, finding.id, found, finding.advice))
            continue
        rows.append((finding.severity, finding.id, found))
        if finding.advice:
            rows.append(("", "", f"→ {finding.advice}"))
    write_table(columns[:3] if is_terminal() else columns, rows)
    write(_summary(findings))


def _summary(findings: list[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    counted = [count_text(counts[severity], severity) for severity in SEVERITIES[:-1]]
    return f"\n{', '.join(counted)}; {counts['ok']} ok"


class _AgentOrCatalog:
    """Answers of the agent, or of the catalog if none runs. Never raises AirsideError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = ControlClient(settings.data)

    def agent(self) -> Agent:
        try:
            status = self._get("status")
        except NoAgentError:
            return Agent("absent", concerns=self._recorded())
        except NotPermittedError as exc:
            return Agent("forbidden", exc.message)
        except AirsideError as exc:
            return Agent("silent", exc.message)
        return _agent_of(status)

    def _recorded(self) -> tuple[Concern, ...]:
        """Returns what is wrong by the catalog; nothing if it cannot be read."""
        from airside.cli import offline  # noqa: PLC0415 - SQLite only without an agent

        with suppress(AirsideError):
            return verdict_of(offline.read_catalog(self._settings.data, "status", {})).concerns
        return ()

    def newest_at(self) -> float | None:
        with suppress(AirsideError, LookupError, ValueError, TypeError):
            try:
                report = self._get("events", limit=1)
            except NoAgentError:
                from airside.cli import offline  # noqa: PLC0415 - SQLite only without an agent

                report = offline.read_catalog(self._settings.data, "events", {"limit": 1})
            return datetime.fromisoformat(report["items"][-1]["at"]).timestamp()
        return None

    def bad_blobs(self) -> tuple[int, int]:
        with suppress(AirsideError, LookupError):
            try:
                report = self._get("status")
            except NoAgentError:
                from airside.cli import offline  # noqa: PLC0415 - SQLite only without an agent

                report = offline.read_catalog(self._settings.data, "status", {})
            return report["blobs_quarantined"], report["blobs_lost"]
        return 0, 0

    def names(self) -> frozenset[str] | None:
        with suppress(AirsideError, LookupError):
            try:
                report = self._get("images")
            except NoAgentError:
                from airside.cli import offline  # noqa: PLC0415 - SQLite only without an agent

                report = offline.read_catalog(self._settings.data, "images", {})
            return frozenset(item["reference"] for item in report["items"])
        return None

    def holds(self, reference: str) -> bool | None:
        with suppress(AirsideError, LookupError):
            try:
                report = self._get("explain", what=reference)
            except NoAgentError:
                from airside.cli import offline  # noqa: PLC0415 - SQLite only without an agent

                report = offline.explain_from_catalog(self._settings, reference)
            return bool(report["kind"] == "image")
        return None

    def _get(self, name: str, **query: object) -> dict[str, Any]:
        return self._client.get(f"/v1/{name}", query, timeout_seconds=_ANSWER_SECONDS)


def _agent_of(status: dict[str, Any]) -> Agent:
    from airside.diagnostics.doctor.gather.processes import owner  # noqa: PLC0415 - with the rest of it

    pid, access = status.get("pid"), status.get("access") or {}
    fallback = status.get("fallback") or {}
    return Agent(
        "running",
        pid=pid,
        uid=owner(pid) if pid else None,
        listen=status.get("listen") or "",
        has_tls=bool(access.get("tls")),
        is_open="pull" in access.get("anonymous", ("pull",)),
        fallback=fallback.get("state", ""),
        fallback_reason=fallback.get("reason", ""),
        archives=dict(status.get("archives") or {}),
        modes={
            each["path"]: (each["mode"], each.get("reason") or "")
            for each in status.get("directories") or ()
        },
        published=tuple(
            Published(
                each["socket"],
                each["connected"],
                each.get("reason") or "",
                each.get("streams_because") or "",
                each.get("applies_because") or "",
                bool(each.get("other_agent")),
                each.get("foreign_names") or 0,
                each.get("layers_written_by") or "",
            )
            for each in status.get("runtimes") or ()
        ),
        unpublished=tuple(
            Unpublished(
                each["reference"],
                each["socket"],
                each["state"],
                each["reason"],
                each["next_try_at"] or "",
            )
            for each in (status.get("unpublished") or {}).get("items", ())
        ),
        unpublished_count=(status.get("unpublished") or {}).get("count", 0),
        concerns=verdict_of(status).concerns,
    )
