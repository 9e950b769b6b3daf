"""Makes the manual pages: one of each command, from the tree of click, and airside.toml(5)."""

from collections.abc import Iterator, Mapping

import click
from docsite import settings as documented

from airside import __version__
from packages import roff

_SEE_ALSO = ("airside(1)", "airside.toml(5)")
_FILES = (
    ("/etc/airside/airside.toml", "Settings, for all commands of root: airside.toml(5)."),
    ("/var/lib/airside/images", "Archives that are dropped here are imported."),
    ("/var/lib/airside/data", "Store and catalog, for the agent's user only."),
)
_EXIT = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Wrong usage: arguments or settings."),
    ("3", "An input was rejected."),
)


def pages(command: click.Command, date: str) -> Mapping[str, str]:
    """Returns each page by its file's name, such as `airside-run.1`."""
    found = {"airside.toml.5": _settings_page(date)}
    for context in _contexts(click.Context(command, info_name=command.name)):
        name = context.command_path.replace(" ", "-")
        title = context.command.get_short_help_str(200).rstrip(".")
        body = list(_command(context))
        found[f"{name}.1"] = roff.page(name, 1, date, __version__, title=title, body=body)
    return found


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    for name, below in _below(context):
        yield from _contexts(click.Context(below, context, info_name=name))


def _below(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            found = context.command.get_command(context, name)
            if found is not None and not found.hidden:
                yield name, found


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (
        ".SH SYNOPSIS",
        f"\\fB{roff.escape(context.command_path)}\\fR {roff.escape(pieces)}",
    )
    yield ".SH DESCRIPTION"
    yield from roff.paragraphs(command.help or "")
    yield from _options(context)
    below = list(_below(context))
    if below:
        yield ".SH COMMANDS"
    for name, each in below:
        page = f"{context.command_path.replace(' ', '-')}-{name}(1)"
        yield from roff.definition(page, each.get_short_help_str(200))
    if command.epilog:
        yield ".SH EXAMPLES"
        yield from roff.paragraphs(command.epilog)
    if context.parent is None:
        yield ".SH FILES"
        for path, text in _FILES:
            yield from roff.definition(path, text)
    yield ".SH EXIT STATUS"
    for code, text in _EXIT:
        yield from roff.definition(code, text)
    yield from _see_also(context)


def _options(context: click.Context) -> Iterator[str]:
    records = [param.get_help_record(context) for param in context.command.get_params(context)]
    shown = [record for record in records if record is not None]
    if shown:
        yield ".SH OPTIONS"
    for term, text in shown:
        yield from roff.definition(term, text)


def _see_also(context: click.Context) -> Iterator[str]:
    above = [c.command_path.replace(" ", "-") + "(1)" for c in _above(context)]
    names = dict.fromkeys([*reversed(above), *_SEE_ALSO])
    if context.parent is None:
        names.pop("airside(1)")
    yield from (".SH SEE ALSO", ", ".join(roff.escape(name) for name in names))


def _above(context: click.Context) -> Iterator[click.Context]:
    while context.parent is not None:
        context = context.parent
        yield context


def _settings_page(date: str) -> str:
    body = [
        ".SH SYNOPSIS",
        "\\fB/etc/airside/airside.toml\\fR",
        ".SH DESCRIPTION",
        *roff.paragraphs(
            "The settings of Airside in TOML, read by `airside run` and the commands of root. "
            "`--config` names another file. Variables AIRSIDE_* of the environment override it, "
            "flags override both. An unknown key is an error. Times are in seconds; sizes in "
            "bytes, or as text with KiB, MiB, GiB, TiB. `airside config show` prints the settings "
            "in force, and where each comes from."
        ),
    ]
    for title, settings in documented.sections():
        body.append(f".SH {roff.escape(title)}")
        for setting in settings:
            value = f" (default {setting.default})" if setting.default else ""
            values = f"Values: {setting.values}." if setting.values else ""
            body += roff.definition(setting.key, f"{setting.effect}{value}. {values}")
    body += [".SH SEE ALSO", roff.escape("airside(1), airside-config-show(1)")]
    title = "settings of Airside"
    return roff.page("airside.toml", 5, date, __version__, title=title, body=body)
