"""The screen of `airside watch`, as lines of styled texts. Pure: no terminal, no clock.

From top to bottom: whether all is well and what to do, the agent, imports with their progress, what
waits, runtimes, newly published images, other concerns, the last events. Each section gives way to
those above it; columns go where the terminal is narrow.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from airside.cli.output import clean, duration_text, size_text, time_text
from airside.cli.terminal import cell_width, padded, shortened
from airside.cli.watch_feed import Moment
from airside.diagnostics.verdict import Verdict, verdict_of

Line = list[tuple[str, str]]
"""Texts of a line, each with its style."""

_SEVERITIES = {"ok": "green", "busy": "green", "warning": "yellow", "problem": "red"}
_KINDS = {
    "imported": "green",
    "published": "green",
    "rejected": "red",
    "failed": "red",
    "partial": "yellow",
    "incomplete": "yellow",
}
_QUIET = {"settled", "archive-settled"}
_SHOWN_IMPORTS = 6
_SHOWN_PUBLISHED = 4
_SHOWN_CONCERNS = 3
_SHOWN_RUNTIMES = 4
_BAR_CELLS = 20
_WIDE, _MEDIUM = 90, 56


def verdict_now(moment: Moment) -> Verdict | None:
    """Returns the verdict on the agent now; None before its first answer."""
    if moment.status is None:
        return None
    if moment.away:
        silent = moment.away if moment.silent else ""
        gone = {"running": False, "silent": silent, "runtimes": [], "space": None, "activity": None}
        return verdict_of(moment.status | gone | {"directories": [], "fallback": None})
    return verdict_of(moment.status)


def screen(moment: Moment, now: str, width: int, height: int) -> list[Line]:
    """Returns at most `height` lines of at most `width` cells."""
    foot: Line = [(shortened("q quits", width), "dim")]
    lines = [*_head(moment, now, width)]
    for section in _sections(moment, width):
        if len(lines) + 2 >= height:
            break
        title, rows = section
        if rows:
            lines += [[], [(shortened(title, width), "bold")]]
            lines += rows[: max(height - 1 - len(lines), 0)]
    lines = lines[: height - 1]
    return [*lines, *([[]] * (height - 1 - len(lines))), foot]


def _head(moment: Moment, now: str, width: int) -> Iterator[Line]:
    verdict = verdict_now(moment)
    if verdict is None:
        yield [(shortened(clean(moment.away) or "asking the agent …", width), "bold")]
        if moment.away:
            yield [(shortened("  waiting for it", width), "dim")]
        return
    first = verdict.first
    yield [(shortened(clean(first.found), width), f"bold {_SEVERITIES[first.severity]}")]
    if first.advice:
        yield [(shortened(f"  → {clean(first.advice)}", width), "")]
    status = moment.status
    assert status is not None
    yield [(shortened(_agent_text(status, moment.away, now), width), "dim")]


def _agent_text(status: dict[str, Any], away: str, now: str) -> str:
    uptime = duration_text(status.get("uptime_seconds"))
    agent = f"away: {clean(away)}" if away else f"process {status['pid']}, for {uptime}"
    words = [agent, f"{status['images']} images", f"{size_text(status['blob_bytes'])} stored"]
    if status.get("space"):
        words.append(f"{size_text(status['space']['free_bytes'])} free")
    return " · ".join([now, *words])


def _sections(moment: Moment, width: int) -> Iterator[tuple[str, list[Line]]]:
    status = moment.status or {}
    if not moment.away:
        yield "Arriving", _imports(status.get("imports") or (), moment.rates, width)
        yield "Waiting", _waiting(status.get("activity") or {}, width)
        runtimes = [_runtime(each, width) for each in status.get("runtimes") or ()]
        yield "Runtimes", _most(runtimes, _SHOWN_RUNTIMES)
    yield "Newly published", _published(moment.events, width)
    verdict = verdict_now(moment)
    others = verdict.others if verdict is not None else ()
    concerns: list[Line] = [
        [(shortened(f"{clean(each.found)} → {clean(each.advice)}", width), "yellow")]
        for each in others
    ]
    yield "Also", _most(concerns, _SHOWN_CONCERNS)
    events = [each for each in reversed(moment.events) if each["kind"] not in _QUIET]
    yield "Last events", [_event(each, width) for each in events]


def _most(lines: list[Line], count: int) -> list[Line]:
    if len(lines) <= count:
        return lines
    return [*lines[: count - 1], [(f"and {len(lines) - count + 1} more", "dim")]]


def _imports(imports: Sequence[dict[str, Any]], rates: dict[str, float], width: int) -> list[Line]:
    return _most([_import(each, rates, width) for each in imports], _SHOWN_IMPORTS)


def _import(running: dict[str, Any], rates: dict[str, float], width: int) -> Line:
    done, total = running["done_bytes"], running["total_bytes"]
    rate = rates.get(running["path"], 0.0)
    share = f"{100 * done // total:>3} %" if total else ""
    parts = [share]
    if width >= _MEDIUM:
        parts.append(f"{size_text(done)} of {size_text(total)}" if total else size_text(done))
    if width >= _WIDE:
        parts.insert(0, _bar(done, total))
    parts += [f"{size_text(rate)}/s" if rate else "", left_text(done, total, rate)]
    figures = "  ".join(filter(None, parts))
    room = width - cell_width(figures) - 2
    name = clean(running["path"].rpartition("/")[2])
    if room < 8:
        return [(shortened(f"{share} {name}", width), "")]
    return [(padded(shortened(name, room), room), ""), (f"  {figures}", "cyan")]


def left_text(done: int, total: int, rate: float) -> str:
    """Returns `6 s left`; empty if it is not known."""
    if rate <= 0 or total <= done:
        return ""
    return f"{duration_text(float(round((total - done) / rate)) or 1.0)} left"


def _bar(done: int, total: int) -> str:
    full = _BAR_CELLS * min(done, total) // total if total else 0
    return "█" * full + "░" * (_BAR_CELLS - full)


def _waiting(activity: dict[str, Any], width: int) -> list[Line]:
    keys = ("settling", "queued", "indexing", "publishing", "waiting")
    words = [f"{activity[key]} {key}" for key in keys if activity.get(key)]
    return [[(shortened(", ".join(words), width), "")]] if words else []


def _runtime(each: dict[str, Any], width: int) -> Line:
    socket = clean(each["socket"])
    if not each["connected"]:
        return [(shortened(f"{socket}  away: {clean(each['reason'])}", width), "red")]
    counts = [f"{count} {state}" for state, count in sorted(each["images"].items())]
    text = f"{socket}  containerd {clean(each['version'])}  {', '.join(counts)}"
    return [(shortened(text, width), "")]


def _published(events: Sequence[dict[str, Any]], width: int) -> list[Line]:
    found: dict[str, Line] = {}
    for each in reversed(events):
        name = clean(each["reference"])
        if each["kind"] == "published" and name not in found:
            found[name] = [(f"{_clock(each)}  ", "dim"), (shortened(name, width - 10), "")]
    return list(found.values())[:_SHOWN_PUBLISHED]


def _event(each: dict[str, Any], width: int) -> Line:
    name = each["path"].rstrip("/").rpartition("/")[2]
    what = clean(" ".join(filter(None, (each["reference"], name))))
    kind = padded(clean(each["kind"]), 12)
    room = width - cell_width(kind) - 12
    if room < 12:
        return [(shortened(f"{kind.rstrip()} {what}", width), _KINDS.get(each["kind"], ""))]
    return [
        (f"{_clock(each)}  ", "dim"),
        (f"{kind}  ", _KINDS.get(each["kind"], "")),
        (shortened(what, room), ""),
    ]


def _clock(each: dict[str, Any]) -> str:
    return time_text(each["at"]).rpartition(" ")[2][:8].ljust(8)
