"""Shows what becomes of the mirror settings: one line a file, further steps, JSON."""

from typing import Any

from airside.cli.failure import error_object, report_error
from airside.cli.output import clean, write
from airside.containerd.mirror.apply import Change
from airside.containerd.mirror.locations import HostsNode, Node

_TEXTS = {
    "written": ("written", "would write"),
    "changed": ("changed", "would change"),
    "unchanged": ("unchanged", "unchanged"),
    "kept": ("unchanged, written by another tool", "unchanged, written by another tool"),
    "removed": ("removed", "would remove"),
    "restored": ("restored", "would restore"),
}
_RESTART = {"k3s": "k3s, or k3s-agent", "rke2": "rke2-server, or rke2-agent"}


def change_notes(nodes: list[Node], changes: list[Change], *, writing: bool) -> list[str]:
    """Notes of the changes, and further steps such as a restart."""
    notes = [note for change in changes for note in change.notes]
    notes += unread_notes(nodes, changes) if writing else []
    moved = {c.runtime for c in changes if c.before != c.after and c.error is None}
    written = {c.path for c in changes if c.before != c.after and c.error is None}
    if any(isinstance(n, HostsNode) and n.drop_in in written for n in nodes):
        notes.append("k0s sees the new drop-in and restarts its containerd; containers run on")
    services = [_RESTART[name] for name in sorted(moved & set(_RESTART))]
    return notes + [
        f"restart {each}: it reads registries.yaml only at its start" for each in services
    ]


def unread_notes(nodes: list[Node], changes: list[Change]) -> list[str]:
    """Why a containerd does not read its files, even when these changes are made."""
    planned = {change.path for change in changes if change.error is None}
    return [
        node.warning
        for node in nodes
        if isinstance(node, HostsNode) and node.warning and node.drop_in not in planned
    ]


def change_item(change: Change, *, dry_run: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "runtime": change.runtime,
        "path": str(change.path),
        "registries": list(change.registries),
        "state": change.state,
    }
    if dry_run:
        item["diff"] = change.diff()
    if change.error is not None:
        item["error"] = error_object(change.error)
    return item


def show_changes(changes: list[Change], notes: list[str], *, dry_run: bool) -> None:
    for change in changes:
        if change.error is not None:
            report_error(change.error, as_json=False)
            continue
        registries = ", ".join(change.registries)
        whose = f" ({clean(registries)})" if registries else ""
        write(f"{_TEXTS[change.state][dry_run]}: {clean(change.path)}{whose}")
        if dry_run:
            for line in change.diff().splitlines():
                write(f"  {clean(line)}")
    if not changes:
        write("nothing to remove")
    for note in notes:
        write(f"note: {clean(note)}")
