"""`airside run`: the agent."""

from pathlib import Path

import click

from airside.cli.options import ANY_PATH, config_option, data_option, effective_settings, example
from airside.core.config import CHOICES


@click.command(
    epilog=example(
        "airside run",
        "airside run --images ./images --data ./data --listen 127.0.0.1:5051",
        "airside run --config /etc/airside.toml --log-format json",
    )
)
@config_option
@click.option(
    "--images",
    multiple=True,
    type=ANY_PATH,
    metavar="DIR",
    help="Watch this directory for archives; may be given several times "
    "[default: /var/lib/airside/images; without root, ~/.local/share/airside/images].",
)
@data_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address of the registry; '' serves none [default: 127.0.0.1:5050].",
)
@click.option(
    "--runtime",
    multiple=True,
    metavar="auto|none|SOCKET",
    help="The containerd to publish to; auto finds the usual sockets [default: auto].",
)
@click.option("--namespace", metavar="NAME", help="containerd namespace [default: k8s.io].")
@click.option(
    "--log-format",
    type=click.Choice(CHOICES["log_format"]),
    help="auto: text on a terminal, else JSON lines [default: auto].",
)
@click.option(
    "--log-level",
    type=click.Choice(CHOICES["log_level"]),
    help="The least severe level to log [default: info].",
)
def run(
    config: Path | None,
    data: Path | None,
    images: tuple[Path, ...],
    listen: str | None,
    runtime: tuple[str, ...],
    namespace: str | None,
    log_format: str | None,
    log_level: str | None,
) -> int:
    """Run the agent in the foreground, until Ctrl-C or SIGTERM.

    The agent watches directories, imports the archives in them, and serves their images as an OCI
    registry. Flags override environment variables (AIRSIDE_*), which override the configuration
    file.
    """
    effective = effective_settings(
        config,
        data=data,
        images=images,
        listen=listen,
        runtime=runtime,
        namespace=namespace,
        log_format=log_format,
        log_level=log_level,
    )
    from airside.agent.daemon import run_agent  # noqa: PLC0415 - only here aiohttp is imported

    return run_agent(effective)
