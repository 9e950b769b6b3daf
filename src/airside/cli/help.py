"""`airside help`: the help of a command, as `airside COMMAND --help` prints it."""

import click

from airside.cli.options import example
from airside.cli.output import write


@click.command("help", epilog=example("airside help", "airside help mirror write"))
@click.argument("command", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of a command, or of all."""
    assert ctx.parent is not None
    context = ctx.parent
    for word in command:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{context.command_path} has no commands of its own.", context)
        name, found, _ = group.resolve_command(context, [word])
        assert found is not None
        context = click.Context(found, parent=context, info_name=name)
    write(context.get_help())
