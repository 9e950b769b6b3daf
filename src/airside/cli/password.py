"""`airside password`: creates a user's line of the htpasswd file."""

import sys
from pathlib import Path

import bcrypt
import click

from airside.cli.credential_file import rewrite_file
from airside.cli.options import ANY_PATH, example, json_option
from airside.cli.output import clean, write, write_json
from airside.core.errors import ConfigError
from airside.registry.rules.accounts import parse_htpasswd
from airside.registry.rules.credentials import TOKEN_PREFIX

_COST = 10


_MAX_PASSWORD_BYTES = 72


@click.command(
    epilog=example(
        "airside password ann --file /etc/airside/htpasswd",
        'printf %s "$SECRET" | airside password ann >> htpasswd',
    )
)
@click.argument("user", metavar="USER")
@click.option(
    "--file",
    "path",
    type=ANY_PATH,
    metavar="FILE",
    help="Add or replace the user's line in this file [default: print the line].",
)
@json_option
def password(user: str, path: Path | None, *, as_json: bool) -> None:
    """Create the htpasswd line of a user (bcrypt). Reads the password from standard input."""
    secret = _read_password()
    line = f"{user}:{bcrypt.hashpw(secret, bcrypt.gensalt(_COST)).decode()}"
    parse_htpasswd(line)
    if path is not None:
        rewrite_file(path, lambda text: _with_user(text, user, line))
    if as_json:
        file = None if path is None else str(path)
        write_json({"schema": 1, "user": user, "line": line, "file": file})
    elif path is None:
        write(line)
    else:
        write(f"{clean(path)}: the password of {clean(user)} is set")


def _read_password() -> bytes:
    if sys.stdin.isatty():
        text = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    secret = text.encode()
    if not secret or len(secret) > _MAX_PASSWORD_BYTES or b"\0" in secret:
        raise ConfigError(
            f"a password must have 1 to {_MAX_PASSWORD_BYTES} bytes, the limit of bcrypt"
        )
    if text.startswith(TOKEN_PREFIX):
        raise ConfigError(f"a password must not begin with {TOKEN_PREFIX}, the prefix of tokens")
    return secret


def _with_user(text: str, user: str, line: str) -> str:
    parse_htpasswd(text)
    kept = [each for each in text.splitlines() if each.strip().partition(":")[0] != user]
    return "\n".join([*kept, line]) + "\n"
