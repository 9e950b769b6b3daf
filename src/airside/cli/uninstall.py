"""`airside uninstall`: removes what `airside install` and the agent left on this host."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.install import host_settings, require_root, root_option
from airside.cli.install_report import show_steps, step_item
from airside.cli.mirror_report import change_item, change_notes, show_changes
from airside.cli.options import example, json_option
from airside.cli.output import clean, count_text, write, write_json
from airside.containerd.mirror.apply import apply, plan_remove
from airside.containerd.mirror.locations import find_nodes
from airside.containerd.sockets import find_sockets
from airside.core.errors import AirsideError, ConflictError
from airside.core.host_root import host_root
from airside.core.settings import Settings
from airside.install.host import packaged_unit
from airside.install.installation import kept, plan_stop, plan_uninstall
from airside.install.steps import make


@click.command(
    epilog=example("airside uninstall --dry-run", "sudo airside uninstall"),
)
@click.option(
    "--purge", is_flag=True, help="Delete the data directory and the archives in images too."
)
@click.option("--keep-names", is_flag=True, help="Leave the names of images in containerd.")
@click.option("--dry-run", "-n", is_flag=True, help="Show the changes; change nothing.")
@click.option("--from-package", is_flag=True, hidden=True)
@root_option
@json_option
def uninstall(
    *, purge: bool, keep_names: bool, dry_run: bool, from_package: bool, as_json: bool
) -> int:
    """Remove the service, mirror settings, and the names of images in containerd.

    Images that containers use stay in containerd. Data directory and archives stay unless --purge
    is given. Files that were changed by hand are kept or renamed. Package and program stay: they
    are removed by what installed them.
    """
    require_root(dry_run=dry_run)
    settings = host_settings()
    planned_stop = [] if from_package else plan_stop()  # the package stops its service
    stops = planned_stop if dry_run else make(planned_stop)
    keeps = keep_names or from_package
    names, notes = ([], []) if keeps else _withdraw(settings, dry_run=dry_run)
    nodes = find_nodes(host_root())
    changes = plan_remove(nodes)
    changes = changes if dry_run else apply(changes)
    notes += change_notes(nodes, changes, writing=False)
    if any(step.error for step in stops):  # an agent that runs would lose its directories
        steps = stops
    else:
        planned = plan_uninstall(settings, purges=purge)
        steps = [*stops, *(planned if dry_run else make(planned))]
        notes += [] if purge or from_package else _kept_notes(settings)
    if packaged_unit() is not None and not from_package:
        notes.append("a package installed Airside: remove it with apt or dnf")
    failed = any(step.error for step in steps) or any(change.error for change in changes)
    if as_json:
        items = [step_item(step, dry_run=dry_run) for step in steps]
        items += [{"action": "mirror", **change_item(c, dry_run=dry_run)} for c in changes]
        head = {"schema": 1, "dry_run": dry_run, "notes": notes}
        write_json({**head, "items": [*items, *names]})
    else:
        show_steps(steps, dry_run=dry_run)
        if changes:
            show_changes(changes, [], dry_run=dry_run)
        _show_names(names, dry_run=dry_run)
        if not (steps or changes or names):
            write("nothing to remove")
        for note in notes:
            write(f"note: {clean(note)}")
    return EXIT_FAILED if failed else EXIT_DONE


def _withdraw(settings: Settings, *, dry_run: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Withdraws our names from containerd. Returns what became of each, and notes."""
    if not settings.data.is_dir():
        return [], []
    sockets = find_sockets(settings.runtime)
    if not sockets:
        return [], ["no containerd answers here: names of images in it, if any, stay"]
    if _has_agent(settings):
        if dry_run:
            return [], ["names of images that the agent published to containerd are withdrawn"]
        raise ConflictError(
            f"an agent runs on {settings.data}: its names in containerd would come back",
            hint="stop it, and run the command again",
        )
    try:
        return _withdrawn(settings, sockets, dry_run=dry_run)
    except AirsideError as exc:
        return [], [f"names of images in containerd stay: {exc.message}"]


def _has_agent(settings: Settings) -> bool:
    try:
        ControlClient(settings.data).get("/v1/status")
    except NoAgentError:
        return False
    except AirsideError:
        return True
    return True


def _withdrawn(
    settings: Settings, sockets: list[str], *, dry_run: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    from airside.agent.runtime_connections import (  # noqa: PLC0415 - gRPC only where it is needed
        claimed_by,
        connected_runtimes,
    )
    from airside.cli.exclusive import open_alone  # noqa: PLC0415
    from airside.containerd.complete_withdrawal import CompleteWithdrawal  # noqa: PLC0415

    items: list[dict[str, Any]] = []
    notes: list[str] = []
    with ExitStack() as stack:
        node = open_alone(replace(settings, runtime=tuple(sockets)), stack)
        for connection in stack.enter_context(connected_runtimes(node)):
            socket, runtime = connection.socket, connection.runtime
            if runtime is None:
                notes.append(f"{socket}: names of images stay: {connection.reason}")
            elif other := runtime.claim():
                notes.append(f"{socket}: names of images stay: {claimed_by(other)}")
            else:
                found = CompleteWithdrawal(socket, node.catalog).run(runtime, dry_run=dry_run)
                items += [
                    {
                        "action": "name",
                        "state": each.state,
                        "socket": socket,
                        "name": each.name,
                        "digest": each.digest,
                    }
                    for each in found
                ]
    return items, notes


def _show_names(items: list[dict[str, Any]], *, dry_run: bool) -> None:
    gone = sum(item["state"] == "withdrawn" for item in items)
    if gone:
        did = "would withdraw" if dry_run else "withdrawn"
        write(f"{did} from containerd: {count_text(gone, 'name')}")
    for item in items:
        if item["state"] == "used":
            write(f"kept in containerd, a container uses it: {clean(item['name'])}")


def _kept_notes(settings: Settings) -> list[str]:
    return [f"{each.path} stays ({each.what}): --purge deletes it" for each in kept(settings)]
