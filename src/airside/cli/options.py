"""Options that several commands share, and the settings they select."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from airside.cli.terminal import ColorMode, choose_color
from airside.core.config import EffectiveSettings, default_config, load_settings

ANY_PATH = click.Path(path_type=Path, readable=False)
"""Unchecked: the agent may read files that this user may not, and our errors say more."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """The state that `main` needs to report the failure of a command."""

    as_json: bool = False


def _remember_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
    if isinstance(ctx.obj, Session):
        ctx.obj.as_json = value
    return value


def json_option(command: _Command) -> _Command:
    """Adds --json, as `as_json`, and records it in the Session."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="Print JSON; airside schema has its keys.",
    )(command)


def color_option(*, hidden: bool = False) -> click.Option:
    """Returns --color, which applies at once."""

    def choose(_ctx: click.Context, _parameter: click.Parameter, mode: ColorMode | None) -> None:
        if mode is not None:
            choose_color(mode)

    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        is_eager=True,
        expose_value=False,
        callback=choose,
        hidden=hidden,
        help="Use colours; auto: on a terminal, unless NO_COLOR is set.",
    )


def data_option(command: _Command) -> _Command:
    """Adds --data, as `data`."""
    return click.option(
        "--data",
        type=ANY_PATH,
        metavar="DIR",
        help="Data directory [default: /var/lib/airside/data; without root, "
        "~/.local/share/airside/data].",
    )(command)


def config_option(command: _Command) -> _Command:
    """Adds --config, as `config`."""
    return click.option(
        "--config",
        type=ANY_PATH,
        metavar="FILE",
        envvar="AIRSIDE_CONFIG",
        show_envvar=True,
        help="TOML file with settings [default: /etc/airside/airside.toml; without root, none].",
    )(command)


def example(*lines: str) -> str:
    """Returns an epilog with example command lines."""
    return "\n".join(("\b", "Example:", *(f"  {line}" for line in lines)))


def effective_settings(config: Path | None, **flags: object) -> EffectiveSettings:
    """Loads the settings from file, environment and these flags. Raises ConfigError.

    Without a file, from that of the host, if there is one.
    """
    return load_settings(file=config or default_config(), environ=os.environ, flags=flags)
