"""`airside config show`: the effective settings and their origins."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import write_json
from airside.cli.table import write_table
from airside.core.config import EffectiveSettings, setting_rows
from airside.core.settings import RetentionRule, WatchedDirectory
from airside.core.upstream_config import Upstream
from airside.core.webhook_config import Webhook


@click.group()
def config() -> None:
    """Show the effective settings."""


@config.command(epilog=example("airside config show", "airside config show --config airside.toml"))
@config_option
@data_option
@json_option
def show(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Show every setting, its value, and its origin."""
    items = setting_items(effective_settings(config, data=data))
    if as_json:
        write_json({"schema": 1, "items": items})
        return
    rows = [(i["key"], _shown(i["value"]), i["unit"], i["origin"]) for i in items]
    write_table(("SETTING", "VALUE", "UNIT", "FROM"), rows, optional=("FROM",))


def setting_items(effective: EffectiveSettings) -> list[dict[str, Any]]:
    """Returns one item for each setting; the tables last."""
    rows = [*setting_rows(), ("images", "", "watched directories")]
    rows.append(("upstream", "", "upstream registries to pull absent images from"))
    rows.append(("webhooks", "", "addresses to which events are sent"))
    rows.append(("retention_rules", "", "retention rules by repository"))
    return [
        {
            "key": key,
            "value": _value(effective, key),
            "unit": unit,
            "origin": effective.origins[key],
            "help": text,
        }
        for key, unit, text in rows
    ]


def _value(effective: EffectiveSettings, key: str) -> Any:
    section, _, name = key.rpartition(".")
    holder: Any = effective.settings.limits if section else effective.settings
    return _plain(getattr(holder, name))


def _plain(value: Any) -> Any:
    """Returns the value as JSON types."""
    if isinstance(value, WatchedDirectory | RetentionRule | Upstream | Webhook):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict) and "registry" in value:
        return f"{value['registry']} from {value['url']}{' (offline)' if value['offline'] else ''}"
    if isinstance(value, dict) and "secret" in value:
        return f"{value['name']} ({', '.join(value['events'])})"
    if isinstance(value, dict) and "repositories" in value:
        fields = (f"{k} {_shown(v)}" for k, v in value.items() if v not in (None, []))
        return f"({'; '.join(fields)})"
    if isinstance(value, dict):
        strict = ", strict" if value["strict"] else ""
        repository = f", repository {value['repository']}" if value["repository"] else ""
        links = f", links: {value['links']}"
        return f"{value['path']} (on removal: {value['on_removal']}{links}{strict}{repository})"
    return str(value)
