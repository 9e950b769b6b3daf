"""One sentence about the agent: all is well, or what to do first. Pure.

Judges the report of `airside status`, so that the command, the page and whoever reads the JSON
say the same. Each concern has a code, which other languages translate with the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from airside.diagnostics.quantities import size_text

Severity: TypeAlias = Literal["ok", "busy", "warning", "problem"]
"""`busy`: all is well, and work is under way."""

BAD_STATES = ("rejected", "failed", "unreadable", "incomplete", "partial")
"""The states of archives of which not everything is imported."""
_NOT_PRESENT = {"ignored", "removed"}
_LACKING = frozenset({"failed", "waiting", "incomplete", "conflict"})

SENTENCES: Mapping[str, tuple[str, str]] = {
    "stopped": (
        "The agent does not run: nothing is imported or served",
        "start it: systemctl start airside, or airside run",
    ),
    "silent": (
        "The agent, process {pid}, does not answer",
        "read its log; if it hangs, restart it: no data is lost",
    ),
    "lost-records": (
        "Records were lost: {reason}; {names} names were restored",
        "read airside status, then run airside status --acknowledge",
    ),
    "bad-blobs": (
        "{count} stored blobs are damaged or lost",
        "run airside verify --repair",
    ),
    "no-disk": (
        "The disk of {data} does not answer",
        "see the kernel's log (dmesg); restart the host if the disk does not come back",
    ),
    "full": (
        "The disk is full ({free} free): imports wait",
        "free space, or run airside gc",
    ),
    "other-agent": (
        "Nothing is published to {socket}: {reason}",
        "stop one of the two agents",
    ),
    "runtime-away": (
        "The container runtime {socket} is not connected: {reason}",
        "check that containerd runs; the agent retries by itself",
    ),
    "missing": (
        "{count} images that pods here want are missing, such as {reference}",
        "drop an archive of each into a watched directory",
    ),
    "archives": (
        "{count} archives of {total} are not imported completely ({states})",
        "run airside archives for the reason of each, then replace the file",
    ),
    "unpublished": (
        "{count} images are not in the container runtime, such as {reference}: {reason}",
        "run airside explain {reference}",
    ),
    "unreadable": (
        "The watched directory {path} cannot be read: {reason}",
        "let the user of the agent read it",
    ),
    "no-fallback": (
        "Pulls hang if the agent hangs; its fallback server fails: {reason}",
        "read the agent's log, and install the program again",
    ),
    "low-space": (
        "Space is low ({free} free): old versions are deleted early",
        "free space, or run airside gc",
    ),
    "streams": (
        "Blobs are copied to {socket} slowly: {reason}",
        "run airside doctor",
    ),
    "absent": (
        "The watched directory {path} is absent: {reason}",
        "create or mount it",
    ),
    "busy": ("All is well; working on it: {work}", ""),
    "empty": ("All is well, and no image is here yet", "drop an archive into {path}"),
    "well": ("All is well: {images} images can be pulled", ""),
}
"""By code: what was found, and what to do. A value is between braces."""

SINGULAR: Mapping[str, str] = {
    "lost-records": "Records were lost: {reason}; {names} name was restored",
    "bad-blobs": "{count} stored blob is damaged or lost",
    "missing": "{count} image that pods here want is missing: {reference}",
    "archives": "{count} archive of {total} is not imported completely ({states})",
    "unpublished": "{count} image is not in the container runtime: {reference}: {reason}",
    "well": "All is well: {images} image can be pulled",
}
"""What was found, where it is one."""
_COUNTS = ("count", "names", "images")


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing to say. `values` are texts of the report: names in them are strangers' data."""

    code: str
    severity: Severity
    values: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of `states` or `work`, by name, for languages that have other names."""

    @property
    def found(self) -> str:
        text = SINGULAR[self.code] if self.is_one else SENTENCES[self.code][0]
        return text.format(**self.values)

    @property
    def is_one(self) -> bool:
        """True if the sentence is in the singular."""
        return self.code in SINGULAR and "1" in [self.values.get(key) for key in _COUNTS]

    @property
    def advice(self) -> str:
        """What to do; empty if there is nothing to do."""
        return SENTENCES[self.code][1].format(**self.values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most important concern first; `others` follow by importance."""

    first: Concern
    others: tuple[Concern, ...] = ()

    @property
    def concerns(self) -> tuple[Concern, ...]:
        return (self.first, *self.others)

    @property
    def is_well(self) -> bool:
        return self.first.severity in {"ok", "busy"}

    @property
    def sentence(self) -> str:
        """Returns one line of English: what was found, and what to do."""
        more = f" (and {len(self.others)} more)" if self.others else ""
        advice = f"; {self.first.advice}" if self.first.advice else ""
        return f"{self.first.found}{advice}{more}"

    def report(self) -> dict[str, Any]:
        """Returns the verdict as JSON."""
        return {
            "well": self.is_well,
            "sentence": self.sentence,
            "items": [
                {
                    "code": each.code,
                    "severity": each.severity,
                    "found": each.found,
                    "advice": each.advice,
                }
                for each in self.concerns
            ],
        }


def verdict_of(status: Mapping[str, Any]) -> Verdict:
    """Judges a report of `status`."""
    found = [*_concerns(status)]
    found.sort(key=lambda each: each.severity != "problem")  # stable: else by importance
    return Verdict(found[0], tuple(found[1:])) if found else Verdict(_well(status))


def _concerns(status: Mapping[str, Any]) -> Iterator[Concern]:
    if status.get("silent"):
        yield Concern("silent", "problem", {"pid": str(status.get("pid"))})
    elif not status["running"]:
        yield Concern("stopped", "problem")
    lost = status.get("lost_records")
    if lost:
        values = {"reason": str(lost["reason"]), "names": str(lost["names"])}
        yield Concern("lost-records", "problem", values)
    bad = sum(status.get(f"blobs_{state}") or 0 for state in ("quarantined", "lost"))
    if bad:
        yield Concern("bad-blobs", "problem", {"count": str(bad)})
    if status["running"] and not status.get("silent") and status.get("space", {}) is None:
        yield Concern("no-disk", "problem", {"data": str(status.get("data"))})
    yield from _of_space(status.get("space"))
    yield from _of_runtimes(status.get("runtimes") or ())
    missing = status.get("missing") or {"count": 0}
    if missing["count"]:
        first = str(missing["items"][0]["reference"])
        is_pulled = any(each["because"] == "pull" for each in missing["items"])
        values = {"count": str(missing["count"]), "reference": first}
        yield Concern("missing", "problem" if is_pulled else "warning", values)
    yield from _of_archives(status["archives"])
    yield from _of_unpublished(status.get("unpublished") or {})
    yield from _of_directories(status.get("directories") or ())
    fallback = status.get("fallback") or {}
    if fallback.get("state") == "failed":
        yield Concern("no-fallback", "problem", {"reason": str(fallback["reason"])})


def _of_space(space: Mapping[str, Any] | None) -> Iterator[Concern]:
    if not space:
        return
    values = {"free": size_text(space["free_bytes"])}
    if space["free_bytes"] < space["min_free_bytes"]:
        yield Concern("full", "problem", values)
    elif space["low"]:
        yield Concern("low-space", "warning", values)


def _of_runtimes(runtimes: Iterable[Mapping[str, Any]]) -> Iterator[Concern]:
    for each in runtimes:
        values = {"socket": str(each["socket"]), "reason": str(each.get("reason") or "not yet")}
        if not each["connected"]:
            yield Concern("runtime-away", "problem", values)
        elif each.get("other_agent"):
            yield Concern("other-agent", "problem", values)
        elif each.get("streams_because"):
            why = str(each["streams_because"])
            yield Concern("streams", "warning", values | {"reason": why})


def _of_archives(archives: Mapping[str, int]) -> Iterator[Concern]:
    bad = {state: archives[state] for state in BAD_STATES if archives.get(state)}
    if not bad:
        return
    total = sum(count for state, count in archives.items() if state not in _NOT_PRESENT)
    values = {
        "count": str(sum(bad.values())),
        "total": str(total),
        "states": ", ".join(f"{count} {state}" for state, count in bad.items()),
    }
    only = set(bad) <= {"incomplete"}  # it may still be copied
    yield Concern("archives", "warning" if only else "problem", values, bad)


def _of_unpublished(unpublished: Mapping[str, Any]) -> Iterator[Concern]:
    lacking = [each for each in unpublished.get("items", ()) if each["state"] in _LACKING]
    if not lacking:
        return
    first = lacking[0]
    values = {
        "count": str(max(unpublished["count"], len(lacking))),
        "reference": str(first["reference"]),
        "reason": str(first["reason"]),
    }
    failed = any(each["state"] == "failed" for each in lacking)
    yield Concern("unpublished", "problem" if failed else "warning", values)


def _of_directories(directories: Iterable[Mapping[str, Any]]) -> Iterator[Concern]:
    for each in directories:
        values = {"path": str(each["path"]), "reason": str(each.get("reason") or each["mode"])}
        if each["mode"] == "unreadable":
            yield Concern("unreadable", "problem", values)
        elif each["mode"] == "absent":
            yield Concern("absent", "warning", values)


def _well(status: Mapping[str, Any]) -> Concern:
    activity = status.get("activity") or {"idle": True}
    if not activity["idle"]:
        keys = ("settling", "queued", "importing", "indexing", "publishing")
        counts = {key: activity[key] for key in keys if activity[key]}
        work = ", ".join(f"{count} {key}" for key, count in counts.items())
        return Concern("busy", "busy", {"work": work}, counts)
    if not status["images"]:
        paths = [str(each["path"]) for each in status.get("directories") or ()]
        return Concern("empty", "ok", {"path": paths[0] if paths else "a watched directory"})
    return Concern("well", "ok", {"images": str(status["images"])})
