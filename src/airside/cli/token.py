"""`airside token new`: creates a token and adds its lines to the access file."""

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from airside.cli.credential_file import rewrite_file
from airside.cli.options import ANY_PATH, config_option, effective_settings, example, json_option
from airside.cli.output import clean, write, write_json
from airside.core.errors import ConfigError
from airside.oci.patterns import is_pattern
from airside.registry.rules.access import Action
from airside.registry.rules.accounts import parse_rules
from airside.registry.rules.credentials import TOKEN_PREFIX, fingerprint


@click.group()
def token() -> None:
    """Create tokens for clients of the registry."""


def _patterns(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    for value in values:
        if not is_pattern(value):
            raise click.BadParameter(
                f"{value!r} is not a pattern of full names such as host/team/**"
            )
    return values


@token.command(
    epilog=example(
        "airside token new ci --repositories 'registry.example/team/**' --actions pull,push",
        "airside token new node-7 --repositories '**' --actions pull --days 90 --json",
    )
)
@click.argument("name", metavar="NAME")
@click.option(
    "--repositories",
    multiple=True,
    required=True,
    metavar="PATTERN",
    callback=_patterns,
    help="Repositories, such as 'registry.example/team/**'; may be given several times.",
)
@click.option(
    "--actions", default="pull", show_default=True, help="Comma-separated: pull, push, delete."
)
@click.option("--days", type=click.IntRange(1, 36500), help="Days until the token expires.")
@click.option(
    "--file",
    "path",
    type=ANY_PATH,
    metavar="FILE",
    help="The access file to change [default: the setting access].",
)
@config_option
@json_option
def new(
    name: str,
    repositories: tuple[str, ...],
    actions: str,
    days: int | None,
    path: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Create a token, add it to the access file, and print it.

    The access file stores only a hash: the token is shown this once. A running agent accepts it
    within seconds. If no access file is set, the lines to add to one are printed.
    """
    wanted = [text.strip() for text in actions.split(",")]
    if not set(wanted) <= set(get_args(Action)):
        raise click.BadParameter(
            f"{actions!r} must be a list of pull, push, delete", param_hint="--actions"
        )
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    block = _block(name, fingerprint(secret), list(repositories), wanted, days)
    parse_rules(block)
    where = path or _set(effective_settings(config).settings.access)
    if where is not None:
        rewrite_file(where, lambda text: _appended(text, name, block))
    if as_json:
        file = None if where is None else str(where)
        write_json({"schema": 1, "name": name, "token": secret, "file": file, "lines": block})
        return
    write(secret)
    if where is None:
        write(f"\nadd these lines to the access file (the setting access):\n\n{block}")
    else:
        click.echo(f"its hash is in {clean(where)}; the token is not shown again", err=True)


def _block(
    name: str, sha256: str, patterns: list[str], actions: list[str], days: int | None
) -> str:
    lines = [f"[tokens.{_quoted(name)}]", f'sha256 = "{sha256}"']
    if days is not None:
        until = datetime.fromtimestamp(int(time.time()) + days * 86400, UTC)
        lines.append(f"expires = {until.isoformat().replace('+00:00', 'Z')}")
    repositories, allowed = (", ".join(map(_quoted, each)) for each in (patterns, actions))
    lines.append(f"rules = [{{ repositories = [{repositories}], actions = [{allowed}] }}]")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Returns a TOML string. Characters that a name must not have are rejected by the parser."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _appended(text: str, name: str, block: str) -> str:
    if any(found.name == name for found in parse_rules(text).tokens.values()):
        raise ConfigError(
            f"the access file has a token {name!r} already; delete its lines to replace it"
        )
    return f"{text.rstrip()}\n\n{block}".lstrip() if text.strip() else block


def _set(text: str) -> Path | None:
    return Path(text).absolute() if text else None
