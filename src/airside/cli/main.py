"""`airside`: finds the command, runs it, and maps its result to an exit code.

Modules of commands are imported on use, so that `airside status` starts quickly. The table here has
the line of each command in `airside --help`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from airside.cli.failure import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PIPE, exit_code, report_error
from airside.cli.options import Session
from airside.cli.output import OutputClosedError, drop_output, escape_unprintable_output
from airside.core.errors import AirsideError

# name → (module, its attribute, one line of help)
_COMMANDS = {
    "run": ("run", "run", "Run the agent: watch directories, import archives, serve images."),
    "status": ("status", "status", "Show the state of the agent and of its store."),
    "images": ("images", "images", "List the images that can be pulled."),
    "archives": ("archives", "archives", "List the archives and the state of each."),
    "events": ("events", "events", "Show recorded events, or follow new ones."),
    "explain": ("explain", "explain", "Explain an image or archive, or why it is absent."),
    "inspect": (
        "inspect_archive",
        "inspect",
        "Show the contents of an archive, without importing it.",
    ),
    "import": ("import_archive", "import_files", "Import archives now, and wait for the result."),
    "tag": ("tag", "tag", "Move a tag to an earlier version (tag rollback)."),
    "runtime": (
        "runtime",
        "runtime",
        "Delete what another data directory published (runtime release).",
    ),
    "gc": ("gc", "gc", "Delete expired tags, old versions and unused blobs now."),
    "verify": ("verify", "verify", "Verify the digest of every blob; --repair damaged ones."),
    "mirror": ("mirror", "mirror", "Configure containerd to pull through Airside."),
    "doctor": (
        "doctor",
        "doctor",
        "Check containerd, disk, clock and limits, and suggest fixes.",
    ),
    "config": ("config", "config", "Show the effective settings."),
    "token": ("token", "token", "Create a token for clients of the registry (token new)."),
    "password": ("password", "password", "Create the htpasswd line of a user of the registry."),
    "schema": ("schema", "schema", "Print the JSON Schema of a command's --json output."),
    "sample": ("sample", "sample", "Write an archive with a small image, for a first try."),
}

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
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
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
