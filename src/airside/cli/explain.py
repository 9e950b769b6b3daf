"""`airside explain`: an image or archive, or why it is absent."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.completion import references_or_files
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import clean, count_text, size_text, time_text, write, write_json
from airside.cli.table import rows_text
from airside.cli.waiting import shown_waiting
from airside.core.settings import Settings

_SHOWN = 8


@click.command(epilog=example("airside explain registry.example/app:1", "airside explain app.tar"))
@click.argument("what", metavar="REF|DIGEST|FILE", shell_complete=references_or_files)
@data_option
@config_option
@json_option
def explain(what: str, data: Path | None, config: Path | None, *, as_json: bool) -> int:
    """Explain an image: its origin, contents and pull commands; or why it is absent.

    Also explains a digest or its first digits, a repository, and an archive by path or file name.
    Exit code 1 if it is absent.
    """
    settings = effective_settings(config, data=data).settings
    if what.startswith((".", "/", "~")) or os.path.lexists(what):
        what = str(Path(what).expanduser().absolute())
    with shown_waiting("looking", quiet=as_json):
        report = _asked(settings, what)
    if as_json:
        write_json(report)
    else:
        write("\n".join(_TEXTS[report["kind"]](report)))
    return EXIT_FAILED if report["kind"] in {"absent", "ambiguous"} else EXIT_DONE


def _asked(settings: Settings, what: str) -> dict[str, Any]:
    try:
        return ControlClient(settings.data).get("/v1/explain", {"what": what})
    except NoAgentError:
        from airside.cli import offline  # noqa: PLC0415 - SQLite and the rest only without agent

        return offline.explain_from_catalog(settings, what)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return rows_text([row for row in rows if row[1]])


def _list(title: str, lines: list[str]) -> list[str]:
    """Returns a section: title and the first lines."""
    if not lines:
        return []
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ["", title, *(f"  {clean(line)}" for line in lines[:_SHOWN]), *more]


def _image(report: dict[str, Any]) -> list[str]:
    state = [
        "rolled back by hand" if report["rolled_back"] else "",
        f"without an archive since {time_text(report['unbacked_since'])}"
        if report["unbacked_since"]
        else "",
        "of mixed versions" if report["mixed"] else "",
    ]
    lines = [
        clean(report["reference"]),
        _rows(
            [
                ("  digest", report["digest"]),
                ("  is", _what_it_is(report)),
                ("  size", size_text(report["size_bytes"])),
                ("  since", time_text(report["moved_at"])),
                ("  state", ", ".join(filter(None, state))),
                ("  this node", _node_text(report)),
                ("  written as", ", ".join(report["aliases"])),
                ("  also", ", ".join(report["same_digest"][:_SHOWN])),
            ]
        ),
    ]
    lines += _list("container runtimes", [_runtime_text(item) for item in report["runtimes"]])
    held = [f"{item['kind']} {item['name']}" for item in report["held_by"]]
    lines += _list("the digest is held by", held)
    lines += _list("lists", [_list_text(item) for item in report["lists"]])
    lines += _list("platforms", [_platform_text(item) for item in report["platforms"]])
    lines += _list("archives and pushes", [_claim_text(item) for item in report["archives"]])
    lines += _list(
        "stored versions (airside tag rollback REF --to DIGEST)",
        [
            f"{v['digest']}  {time_text(v['at'])}  {v['source']}{'  (now)' if v['current'] else ''}"
            for v in report["history"]
        ],
    )
    lines += _list(
        "referrers", [f"{r['digest']}  {r['artifact_type']}" for r in report["referrers"]]
    )
    lines += _list("problems", [f"{p['archive']}: {p['reason']}" for p in report["problems"]])
    lines += _list(
        "damaged or lost blobs (airside verify --repair)",
        [f"{b['digest']} is {b['state']}" for b in report["lost_blobs"]],
    )
    mirrors = report["mirrors"] if report["pull"] and report["kind"] == "image" else []
    lines += _list("mirror settings", [_mirror_text(item) for item in mirrors])
    lines += _list("kubelet", _kubelet_texts(report.get("kubelet")))
    if report["pull"]:
        lines += ["", "pull"]
        lines.append(_rows((f"  {p['client']}", p["command"]) for p in report["pull"]))
    return lines


def _runtime_text(item: dict[str, Any]) -> str:
    """The state of the image in a runtime: transfer methods and pin, or the reason it is absent."""
    if item["state"] != "published":
        return f"{item['socket']}: {item['state']}: {item['reason']}"
    ways = ", ".join(f"{count} {way}" for way, count in sorted(item["adopted"].items()))
    unpacked = "unpacked" if item["unpacked"] else f"not unpacked {item['not_unpacked']}".strip()
    pinned = "pinned" if item["pinned"] else "not pinned"
    blobs = f"blobs: {ways}" if ways else ""
    details = filter(None, (pinned, unpacked, blobs, item["note"], item["reason"]))
    return f"{item['socket']}: published {time_text(item['at'])}, {', '.join(details)}"


def _list_text(item: dict[str, Any]) -> str:
    """The result of pulling the name of a list."""
    if item["pulled"]:
        return f"{item['path']}: pulled by {item['runtime']}"
    return f"{item['path']}: {item['state']}: {item['reason']}"


def _kubelet_texts(item: dict[str, Any] | None) -> list[str]:
    """What kubelet does with the image once it is present, and what to do about it."""
    if item is None:
        return []
    if item["asks"] is None:
        return [f"unknown: {item['reason']}"]
    if not item["asks"]:
        return [f"runs it without asking a registry ({item['policy']})"]
    advice = [item["advice"]] if item["advice"] else []
    return [f"asks a registry although the image is present: {item['reason']}", *advice]


def _mirror_text(item: dict[str, Any]) -> str:
    """The mirror setting of one containerd of this machine."""
    if item["set"] is None:
        return f"{item['runtime']}: unknown: {item['reason']}".removeprefix(": ")
    if item["set"]:
        then = ", then ".join(item["then"][:_SHOWN]) or "nothing else"
        return f"{item['runtime']}: asks Airside first, then {then} ({item['path']})"
    if item["reason"]:
        return f"{item['runtime']}: does not ask Airside: {item['reason']}"
    return f"{item['runtime']}: does not ask Airside; run the `airside mirror write` below"


def _runtime_only(report: dict[str, Any]) -> list[str]:
    """A name that only a container runtime has."""
    digests = dict.fromkeys(item["digest"] for item in report["runtimes"])
    lines = [
        clean(report["reference"]),
        _rows(
            [
                ("  digest", ", ".join(digests)),
                ("  is", "only in containerd, not in Airside's store"),
            ]
        ),
    ]
    lines += _list("container runtimes", [_read_through_text(item) for item in report["runtimes"]])
    return lines + _list("lists", [_list_text(item) for item in report["lists"]])


def _read_through_text(item: dict[str, Any]) -> str:
    served = "served by read-through" if item["served"] else "not served"
    why = f": {item['reason']}" if item["reason"] else ""
    return f"{item['socket']}: only containerd has it; {served}{why}"


def _what_it_is(report: dict[str, Any]) -> str:
    if report["kind"] == "artifact":
        return f"an artifact: {report['artifact_type']}"
    platforms = count_text(len(report["platforms"]), "platform")
    if report["form"] == "manifest":
        return f"an image ({report['media_type']})"
    return f"an {report['form']} of {platforms} ({report['media_type']})"


def _node_text(report: dict[str, Any]) -> str:
    node = report["node"]
    if report["kind"] == "artifact":
        return ""
    if node["digest"] is None:
        has = ", ".join(i["platform"] for i in report["platforms"] if i["present"]) or "nothing"
        return f"not for {node['platform']} (has: {has})"
    note = f" ({node['note']})" if node["note"] else ""
    return f"{node['platform']} uses {node['takes']}, {node['digest']}{note}"


def _platform_text(item: dict[str, Any]) -> str:
    if not item["present"]:
        return f"{item['platform']}  absent from all archives  {item['digest']}"
    marks = [
        f"from {item['archive']}" if item["archive"] else "",
        "its archive was removed" if item["backed"] is False else "",
        "older than the others" if item["behind"] else "",
    ]
    notes = ", ".join(filter(None, marks))
    return (
        f"{item['platform']}  {item['digest']}  {size_text(item['size_bytes'])}  {notes}".rstrip()
    )


def _claim_text(item: dict[str, Any]) -> str:
    role = item["role"]
    if role == "followed":
        role = f"followed for {', '.join(item['followed_for'])}"
    if item["state"] == "removed" and item["role"] != "removed":
        role += ", file removed"
    kinds = {"push": "pushed by", "peer": "pulled through from"}
    path = f"{kinds[item['kind']]} {item['origin']}" if item["kind"] in kinds else item["path"]
    return f"{path}  {role}  since {time_text(item['settled_at'])}"


def _repository(report: dict[str, Any]) -> list[str]:
    tags = [f"{item['tag']}  {item['digest']}" for item in report["tags"]]
    return [f"{clean(report['reference'])}: a repository", *_list("tags", tags)]


def _blob(report: dict[str, Any]) -> list[str]:
    return [
        clean(report["digest"]),
        _rows(
            [
                ("  is", report["media_type"] or "a blob"),
                ("  size", size_text(report["size_bytes"])),
                ("  state", report["state"]),
                ("  verified", time_text(report["verified_at"])),
            ]
        ),
        *_list("needed by", report["images"]),
        *_list("in archives", report["archives"]),
    ]


def _archive(report: dict[str, Any]) -> list[str]:
    packed = report["compression"] not in ("", "none")
    lines = [
        clean(report["path"]),
        _rows(
            [
                ("  state", report["state"]),
                ("  reason", report["reason"]),
                ("  format", report["format"] + (f" ({report['compression']})" if packed else "")),
                ("  size", size_text(report["size_bytes"])),
                ("  seen", time_text(report["settled_at"])),
                ("  imported", time_text(report["imported_at"])),
            ]
        ),
    ]
    lines += _list("images", [_archive_image_text(item) for item in report["images"]])
    lines += _list(
        "problems",
        [f"{p['image']}: {p['reason']}".removeprefix(": ") for p in report["problems"]],
    )
    lines += _list("notes", report["notes"])
    return lines + _list("what to do", report["advice"])


def _archive_image_text(item: dict[str, Any]) -> str:
    role = item["role"]
    if role == "followed":
        role = f"the tag follows it for {', '.join(item['followed_for'])}"
    return "  ".join(filter(None, (item["reference"], item["digest"], role)))


def _absent(report: dict[str, Any]) -> list[str]:
    lines = [f"{clean(report.get('reference', report['what']))} is absent"]
    if report.get("hint"):
        lines.append(f"  {clean(report['hint'])}")
    last = report.get("last_seen")
    if last:
        who = f"by {last['by']}" if last.get("by") else last["path"] or ""
        lines.append(f"  last event: {last['event']} at {time_text(last['at'])} {clean(who)}")
    lines += _list("similar names", report["nearest"])
    lines += _list("removed archives that had it", report.get("removed", []))
    lines += _list("lists", [_list_text(item) for item in report.get("lists", [])])
    lines += _list(
        "archives that may contain it",
        [
            f"{t['archive']}: {t['state']}{': ' * bool(t['reason'])}{t['reason']}"
            for t in report["troubles"]
        ],
    )
    return lines + _list("what to do", report["advice"])


def _ambiguous(report: dict[str, Any]) -> list[str]:
    return [
        f"{clean(report['what'])} is the prefix of several digests",
        *_list("", report["digests"]),
    ]


_TEXTS = {
    "image": _image,
    "artifact": _image,
    "repository": _repository,
    "runtime": _runtime_only,
    "blob": _blob,
    "archive": _archive,
    "absent": _absent,
    "ambiguous": _ambiguous,
}
