"""`airside schema`: the JSON Schemas (2020-12) of what `--json` prints.

`schemas/NAME.json` describes the output of a command, `event.json` one line of
`events --follow`; they share `common.json`. A key that no schema has is a defect: the tests refuse
it.
"""

import json
from importlib.resources import files
from typing import Any

import click

from airside.cli.options import example
from airside.cli.output import write, write_json

_PREFIX = "urn:airside:schema:1:"
_SHARED = "common"


@click.command(epilog=example("airside schema", "airside schema status", "airside schema event"))
@click.argument("command", nargs=-1)
def schema(command: tuple[str, ...]) -> None:
    """Print the JSON Schema of a command's --json output.

    COMMAND is as on the command line, such as `tag rollback`; `event` is a line of
    `events --follow`. Without COMMAND, list the names. The schema is complete in itself.
    """
    if not command:
        write("\n".join(schema_names()))
        return
    name = "-".join(command).removeprefix("--")
    if name not in schema_names():
        raise click.BadParameter(
            f"no schema is named {name}; there are {', '.join(schema_names())}",
            param_hint="COMMAND",
        )
    write_json(bundled(name))


def schema_names() -> list[str]:
    """Returns the names of the outputs that have a schema, sorted."""
    found = (each.name.removesuffix(".json") for each in _directory().iterdir())
    return sorted(name for name in found if name != _SHARED)


def load_schema(name: str) -> dict[str, Any]:
    """Returns a schema as it is stored; it refers to others by `urn:airside:schema:1:NAME`."""
    value: dict[str, Any] = json.loads(_directory().joinpath(f"{name}.json").read_text("utf-8"))
    return value


def bundled(name: str) -> dict[str, Any]:
    """Returns a schema with all that it refers to embedded, as JSON Schema 2020-12, 9.3 has it."""
    found = load_schema(name)
    wanted, embedded = [found], {}
    while wanted:
        for other in sorted(_references(wanted.pop())):
            if other not in embedded and other != name:
                embedded[other] = load_schema(other)
                wanted.append(embedded[other])
    if embedded:
        others = {each["$id"]: each for each in embedded.values()}
        found["$defs"] = {**found.get("$defs", {}), **others}
    return found


def _references(value: Any) -> set[str]:
    """Returns the names of the other schemas that a schema refers to."""
    if isinstance(value, list):
        return {name for each in value for name in _references(each)}
    if not isinstance(value, dict):
        return set()
    target = str(value.get("$ref", ""))
    outside = target.startswith(_PREFIX)
    own = {target.removeprefix(_PREFIX).partition("#")[0]} if outside else set()
    return own | {name for each in value.values() for name in _references(each)}


def _directory() -> Any:
    return files("airside.cli").joinpath("schemas")
