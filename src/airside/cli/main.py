"""`airside`: finds the command, runs it, and maps its result to an exit code.

Modules of commands are imported on use, so that `airside status` starts quickly. The table here has
the line of each command in `airside --help`.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from airside.cli.failure import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PIPE, exit_code, report_error
from airside.cli.options import Session, color_option
from airside.cli.output import OutputClosedError, clean, drop_output, escape_unprintable_output
from airside.core.errors import AirsideError

# purpose → name → (module, its attribute, one line of help)
_PURPOSES = {
    "See what happens": {
        "status": ("status", "status", "Show whether all is well, and the state of everything."),
        "watch": ("watch", "watch", "Watch imports, runtimes, problems and events, live."),
        "images": ("images", "images", "List the images that can be pulled."),
        "archives": ("archives", "archives", "List the archives and the state of each."),
        "events": ("events", "events", "Show recorded events, or follow new ones."),
        "explain": ("explain", "explain", "Explain an image or archive, or why it is absent."),
        "doctor": (
            "doctor",
            "doctor",
            "Check containerd, disk, clock, limits; suggest fixes.",
        ),
    },
    "Work with archives and images": {
        "inspect": (
            "inspect_archive",
            "inspect",
            "Show what an archive has, without importing it.",
        ),
        "import": (
            "import_archive",
            "import_files",
            "Import archives now, and wait for the result.",
        ),
        "tag": ("tag", "tag", "Move a tag to an earlier version (tag rollback)."),
        "gc": ("gc", "gc", "Delete expired tags, old versions and unused blobs now."),
        "verify": ("verify", "verify", "Verify the digest of every blob; --repair damaged ones."),
        "runtime": ("runtime", "runtime", "Delete what another data directory published."),
        "sample": ("sample", "sample", "Write an archive with a small image, for a first try."),
    },
    "Run and set up": {
        "run": ("run", "run", "Run the agent: watch directories, import, serve images."),
        "install": ("install", "install", "Install the agent as a service on K3s, RKE2, k0s, …."),
        "uninstall": ("uninstall", "uninstall", "Remove what install and the agent left here."),
        "mirror": ("mirror", "mirror", "Configure containerd to pull through Airside."),
        "config": ("config", "config", "Show the effective settings."),
        "token": ("token", "token", "Create a token for clients of the registry (token new)."),
        "password": ("password", "password", "Create the htpasswd line of a user of the registry."),
    },
    "Help": {
        "help": ("help", "show_help", "Show the help of a command."),
        "schema": ("schema", "schema", "Print the JSON Schema of a command's --json output."),
    },
}
_COMMANDS = {name: each for group in _PURPOSES.values() for name, each in group.items()}

_EPILOG = """\b
A first try:
  airside sample /tmp/hello.tar
  airside inspect /tmp/hello.tar
  airside run --images ./images --data ./data
\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected input.
Flags override AIRSIDE_* variables, which override the file of --config.
"""


class _Commands(click.Group):
    """A group that imports a command on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        found = getattr(import_module(f"airside.cli.{module}"), attribute)
        assert isinstance(found, click.Command)
        _take_color(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or suggests those of similar names. Raises click.UsageError."""
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], _COMMANDS, cutoff=0.6)
            meant = f"Did you mean {' or '.join(near)}?" if near else "See airside --help."
            raise click.UsageError(f"No such command '{clean(args[0])}'. {meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        widest = max(map(len, _COMMANDS))
        for purpose, commands in _PURPOSES.items():
            with formatter.section(purpose):
                formatter.write_dl(
                    [(name.ljust(widest), text) for name, (_, _, text) in commands.items()]
                )


def _take_color(command: click.Command) -> None:
    """Lets --color stand after the command too."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _take_color(each)
    if all(each.name != "color" for each in command.params):
        command.params.append(color_option(hidden=True))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
    params=[color_option()],
    invoke_without_command=True,
    no_args_is_help=True,
)
@click.option("--version", "show", is_flag=True, help="Print the version.")
@click.option("--json", "as_json", is_flag=True, help="With --version: print JSON.")
@click.pass_context
def airside(ctx: click.Context, *, show: bool, as_json: bool) -> None:
    """Container images for hosts with a bad network or none.

    Drop an image archive into a directory; seconds later it can be pulled.
    """
    if show:
        from airside.cli.version import show_version  # noqa: PLC0415 - as commands: on use

        show_version(as_json=as_json)
        ctx.exit()
    if as_json:
        raise click.UsageError("--json belongs after the command: airside COMMAND --json")
    if ctx.invoked_subcommand is None:
        raise click.UsageError("Missing command.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line. Returns the exit code."""
    escape_unprintable_output()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except (OutputClosedError, BrokenPipeError):
        drop_output(sys.stdout, sys.stderr)
        return EXIT_PIPE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code


def _run(argv: Sequence[str] | None) -> int:
    session = Session()
    try:
        result = airside.main(argv, prog_name="airside", obj=session, standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except AirsideError as exc:
        report_error(exc, as_json=session.as_json)
        return exit_code(exc)
    return result if isinstance(result, int) else EXIT_DONE
