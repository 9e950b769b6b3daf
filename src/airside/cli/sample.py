"""`airside sample`: writes a small archive for a first try."""

from pathlib import Path
from typing import Literal

import click

from airside.archive.sample import SAMPLE_NAME, write_sample
from airside.cli.options import ANY_PATH, example, json_option
from airside.cli.output import clean, size_text, write, write_json
from airside.oci.platform import Platform, normalise


def _parse_platform(
    _ctx: click.Context, _parameter: click.Parameter, text: str | None
) -> Platform | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise click.BadParameter(f"{text!r} is not OS/ARCH, such as linux/arm64")
    return normalise(parts[0], parts[1], "".join(parts[2:]))


@click.command(
    epilog=example(
        "airside sample /var/lib/airside/images/hello.tar.zst",
        "airside sample --format docker --platform linux/arm64 hello.tar",
    )
)
@click.argument("out", type=ANY_PATH, metavar="OUT")
@click.option("--name", default=SAMPLE_NAME, show_default=True, help="Name of the image.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("oci", "docker")),
    default="oci",
    show_default=True,
    help="OCI layout with all platforms, or docker-archive with one platform.",
)
@click.option(
    "--platform",
    callback=_parse_platform,
    metavar="OS/ARCH",
    help="Platform of a docker-archive [default: this machine's].",
)
@json_option
def sample(
    out: Path,
    name: str,
    form: Literal["oci", "docker"],
    platform: Platform | None,
    *,
    as_json: bool,
) -> None:
    """Write an archive with a small image that prints a greeting.

    The suffix of OUT selects the compression: .tar, .tar.gz, .tgz or .tar.zst. The archive is
    renamed to OUT when it is complete, so OUT may be in a watched directory.
    """
    if platform is not None and form == "oci":
        raise click.UsageError("--platform needs --format docker: an OCI layout has all platforms")
    path = out.absolute()
    images = write_sample(path, name=name, format=form, platform=platform)
    size_bytes = path.stat().st_size
    if as_json:
        item = {"path": str(path), "format": form, "images": images, "size_bytes": size_bytes}
        write_json({"schema": 1, "items": [item]})
    else:
        write(f"{clean(path)}: {', '.join(images)} ({form}, {size_text(size_bytes)})")
