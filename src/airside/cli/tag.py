"""`airside tag rollback`: runs in the agent, or on the locked data directory if none runs."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.completion import references
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import clean, write, write_json
from airside.cli.waiting import shown_waiting
from airside.core.settings import Settings
from airside.diagnostics.reports import move_report
from airside.oci.digest import parse_digest
from airside.oci.reference import Reference, parse_reference


@click.group()
def tag() -> None:
    """Move tags."""


@tag.command(epilog=example("airside tag rollback registry.example/app:stable"))
@click.argument("reference", metavar="REF", shell_complete=references)
@click.option(
    "--to", "digest", metavar="DIGEST", help="The version to restore [default: the one before]."
)
@data_option
@config_option
@json_option
def rollback(
    reference: str, digest: str | None, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Move a tag to an earlier stored version.

    The tag stays there until a new or changed archive with this tag is imported. Archives that were
    imported before do not move the tag. `airside images --history` lists the versions. The setting
    `retention` is the number of earlier versions that are stored.
    """
    name = parse_reference(reference)
    if digest is not None:
        parse_digest(digest)
    settings = effective_settings(config, data=data).settings
    with shown_waiting("moving the tag", quiet=as_json):
        report = _roll_back(settings, name, digest)
    if as_json:
        write_json(report)
    else:
        write(f"{clean(report['reference'])} is {report['digest']}, was {report['before']}")


def _roll_back(settings: Settings, name: Reference, digest: str | None) -> dict[str, Any]:
    body = {"reference": str(name), "digest": digest}
    try:
        return ControlClient(settings.data).post("/v1/rollback", body)
    except NoAgentError:
        from airside.cli.exclusive import open_alone  # noqa: PLC0415 - only without an agent

        wanted = parse_digest(digest) if digest is not None else None
        with ExitStack() as stack:
            node = open_alone(settings, stack)
            return move_report(node.roll_back(name.repository, name.tag, wanted))
