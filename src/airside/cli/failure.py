"""Maps errors and archive states to exit codes, and prints errors."""

import json
from typing import Any

import click

from airside.cli.output import clean, write_json
from airside.core.errors import (
    AirsideError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    ConfigError,
    DigestInvalidError,
    InputError,
    ReferenceInvalidError,
    RequestInvalidError,
    UnavailableError,
)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_REJECTED = 0, 1, 2, 3
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141  # 128 and the number of SIGINT, SIGPIPE

_EXIT_CODES: tuple[tuple[type[AirsideError], int], ...] = (
    (ConfigError, EXIT_USAGE),
    (RequestInvalidError, EXIT_USAGE),
    (DigestInvalidError, EXIT_USAGE),
    (ReferenceInvalidError, EXIT_USAGE),  # on the command line; in an archive it is a problem
    (InputError, EXIT_REJECTED),
)
_EXIT_OF_STATE = {
    "imported": EXIT_DONE,
    "ignored": EXIT_DONE,
    "partial": EXIT_REJECTED,
    "rejected": EXIT_REJECTED,
    "incomplete": EXIT_REJECTED,
}


def exit_code(error: AirsideError) -> int:
    """Returns the exit code of an error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_FAILED)


def exit_code_of(items: list[dict[str, Any]]) -> int:
    """Returns the exit code for these archives by state; failed overrides rejected."""
    codes = {_EXIT_OF_STATE.get(item["state"], EXIT_FAILED) for item in items}
    return EXIT_FAILED if EXIT_FAILED in codes else max(codes, default=EXIT_DONE)


def state_of(error: AirsideError) -> str:
    """Returns the state of an archive whose reading raised this error."""
    if isinstance(error, ArchiveTruncatedError):
        return "incomplete"
    if isinstance(error, ArchiveUnreadableError):
        return "unreadable"
    return "rejected" if isinstance(error, InputError) else "failed"


def report_error(error: AirsideError, *, as_json: bool) -> None:
    """Prints an error: as JSON on standard output, else as text on standard error."""
    if as_json:
        write_json({"schema": 1, "error": error_object(error)})
        return
    click.echo(f"airside: {clean(error.message)}", err=True)
    hint = error.context.get("hint", "")
    if hint and hint not in error.message:
        click.echo(f"  hint: {clean(hint)}", err=True)


def error_object(error: AirsideError) -> dict[str, str]:
    """Returns an error as a JSON object; `error_from` reverses it."""
    return {**error.context, "code": error.code, "message": error.message}


def error_from(value: object) -> AirsideError:
    """Returns the error of an `error_object`, perhaps from another process.

    The class is the one with the same code; UnavailableError if there is none.
    """
    fields = dict(value) if isinstance(value, dict) else {}
    code, message = str(fields.pop("code", "")), str(fields.pop("message", ""))
    context = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
    kind = _classes().get(code, UnavailableError)
    return kind(message or f"the agent reported the error {code or 'without a code'}", **context)


def _classes() -> dict[str, type[AirsideError]]:
    """Returns each error class by its code; a class comes before its subclasses."""
    found: dict[str, type[AirsideError]] = {}
    todo = AirsideError.__subclasses__()
    while todo:
        kind = todo.pop(0)
        found.setdefault(kind.code, kind)
        todo += kind.__subclasses__()
    return found
