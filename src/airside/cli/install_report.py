"""Shows the steps of `airside install` and `airside uninstall`."""

import shlex
from collections.abc import Sequence
from typing import Any

from airside.cli.failure import error_object, report_error
from airside.cli.output import clean, write
from airside.install.steps import Step

_TEXTS = {
    "made": ("made", "would make"),
    "written": ("written", "would write"),
    "changed": ("changed", "would change"),
    "unchanged": ("unchanged", "unchanged"),
    "kept": ("kept", "would keep"),
    "saved": ("saved", "would save"),
    "removed": ("removed", "would remove"),
    "run": ("done", "would run"),
}
_MODES = {"made", "written", "changed"}


def step_item(step: Step, *, dry_run: bool) -> dict[str, Any]:
    """Returns a step as an object of JSON."""
    item: dict[str, Any] = {"action": step.action, "state": step.state}
    if step.command:
        item["command"] = list(step.command)
    else:
        item["path"] = str(step.path)
    if step.action in {"directory", "file"} and step.state in _MODES:
        item["mode"] = f"{step.mode:04o}"
    if step.action == "link" and step.text:
        item["target"] = step.text
    if dry_run and step.action == "file":
        item["diff"] = step.diff()
    if step.note:
        item["note"] = step.note
    if step.error is not None:
        item["error"] = error_object(step.error)
    return item


def show_steps(steps: Sequence[Step], *, dry_run: bool) -> None:
    """Prints one line for each step, and the text of each file that would be changed."""
    for step in steps:
        if step.error is not None:
            report_error(step.error, as_json=False)
            continue
        what = shlex.join(step.command) if step.command else f"{step.path}{_suffix(step)}"
        note = f": {step.note}" if step.note else ""
        write(f"{_TEXTS[step.state][dry_run]}: {clean(what + note)}")
        if dry_run and step.state in {"written", "changed"}:
            for line in step.diff().splitlines():
                write(f"  {clean(line)}")


def _suffix(step: Step) -> str:
    if step.action == "link" and step.text:
        return f" -> {step.text}"
    if step.action in {"directory", "file"} and step.state in _MODES:
        return f" (mode {step.mode:04o})"
    return "/" if step.action == "tree" else ""
