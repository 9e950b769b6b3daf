"""Values that a shell offers for an argument, asked of the running agent; none without one."""

from typing import Any

import click
from click.shell_completion import CompletionItem

from airside.cli.client import ControlClient
from airside.cli.options import effective_settings
from airside.core.errors import AirsideError

_SECONDS = 1.0
"""The time limit of the answer: somebody waits for it after a key."""
_MOST = 200


def references(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns the references of images that begin as the word does."""
    try:
        settings = effective_settings(
            ctx.params.get("config"), data=ctx.params.get("data")
        ).settings
        report = ControlClient(settings.data).get("/v1/images", timeout_seconds=_SECONDS)
    except AirsideError:
        return []
    return [CompletionItem(name) for name in _names(report) if name.startswith(incomplete)][:_MOST]


def references_or_files(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns references as `references` does; where none fits, files."""
    return references(ctx, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


def _names(report: dict[str, Any]) -> list[str]:
    items = report.get("items")
    found = [item.get("reference") for item in items] if isinstance(items, list) else []
    return sorted(name for name in found if isinstance(name, str) and name.isprintable())
