"""Whether a command line in a document is one that `airside` understands: parsed, never run."""

import re
import shlex
from collections.abc import Iterator

import click

from airside.cli.main import airside

_SEPARATORS = {";", "|", "||", "&", "&&", "(", ")"}
_PLACEHOLDER = re.compile(r"[^a-z]+")


def command_lines(line: str) -> Iterator[list[str]]:
    """Yields the arguments of each `airside` in a line of shell, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            words.append(word)
            continue
        yield from _of_airside(words)
        words = []


def _of_airside(words: list[str]) -> Iterator[list[str]]:
    for number, word in enumerate(words):
        if word.rpartition("/")[2] == "airside":
            rest = words[number + 1 :]
            end = next((i for i, other in enumerate(rest) if other[0] in "<>"), len(rest))
            yield rest[:end]
            return
        if word != "sudo" and "=" not in word:
            return


def synopsis_words(code: str) -> list[str]:
    """The words of a synopsis such as `airside x FILE... [--a B|C] | --d`, without its marks."""
    bare = re.sub(r"\.\.\.|…|[\[\]\\]", "", code)
    return [word for word in bare.split()[1:] if word not in {"|", "·"}]


def complaint(words: list[str], *, whole: bool) -> str:
    """Returns why `airside words...` is no command line, or "" if it is one.

    In a `whole` one no required argument or option may be absent, as it may where a sentence only
    names a command.
    """
    command: click.Command = airside
    context = click.Context(command, info_name="airside")
    while isinstance(command, click.Group):
        rest, problem = _parse(command, context, words, whole=False)
        if problem or not rest:
            return problem or ("no command is named" if whole and not words else "")
        if _PLACEHOLDER.fullmatch(rest[0]):
            return ""
        below = command.get_command(context, rest[0])
        if below is None:
            return f"{context.command_path} has no command {rest[0]}"
        context = click.Context(below, context, info_name=rest[0])
        command, words = below, rest[1:]
    return _parse(command, context, words, whole=whole)[1]


def _parse(
    command: click.Command, context: click.Context, words: list[str], *, whole: bool
) -> tuple[list[str], str]:
    """Returns the words that are left, and what is wrong."""
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as exc:
        return [], exc.format_message()
    if rest and not isinstance(command, click.Group):
        return [], f"{context.command_path} takes no {rest[0]}"
    for param in command.params:
        given = values.get(param.name or "")
        if whole and param.required and not _is_given(given):
            return [], f"{context.command_path} needs {param.human_readable_name}"
        if problem := _bad_choice(param, given):
            return [], problem
    return rest, ""


def _is_given(value: object) -> bool:
    return isinstance(value, str | bool) or (isinstance(value, list | tuple) and bool(value))


def _bad_choice(param: click.Parameter, given: object) -> str:
    if not isinstance(param.type, click.Choice):
        return ""
    values = given if isinstance(given, list | tuple) else [given]
    for value in values:
        for choice in value.split("|") if isinstance(value, str) else []:
            if choice not in param.type.choices and not _PLACEHOLDER.fullmatch(choice):
                return f"{param.human_readable_name} is never {choice}"
    return ""


def commands() -> dict[str, set[str]]:
    """Returns the long options of each command by its full name, `--help` not among them."""
    found = {}

    def visit(command: click.Command, context: click.Context) -> None:
        if not isinstance(command, click.Group):
            options = [param for param in command.params if isinstance(param, click.Option)]
            found[context.command_path] = {
                name
                for option in options
                if not option.hidden
                for name in option.opts
                if name.startswith("--")
            }
            return
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            visit(below, click.Context(below, context, info_name=name))

    visit(airside, click.Context(airside, info_name="airside"))
    return found
