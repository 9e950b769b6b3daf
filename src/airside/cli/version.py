"""`airside --version`: this program, and the formats by which versions can be compared.

The commit is known in what a build made (`airside/commit.txt`), not in a clone.
"""

import os
import platform
from importlib.resources import files
from typing import Any

from airside import __version__
from airside.cli.output import write, write_json


def show_version(*, as_json: bool) -> None:
    """Prints `airside VERSION`, or the JSON object."""
    if as_json:
        write_json(version_report())
    else:
        write(f"airside {__version__}")


def version_report() -> dict[str, Any]:
    """Returns the version, the build, and the formats that it writes."""
    from airside.catalog.schema import VERSION  # noqa: PLC0415 - not for each command
    from airside.containerd import API  # noqa: PLC0415
    from airside.core.settings import FORMAT  # noqa: PLC0415

    machine = os.uname()
    return {
        "schema": 1,
        "version": __version__,
        "commit": build_commit(),
        "python": platform.python_version(),
        "platform": f"{machine.sysname.lower()}/{machine.machine}",
        "data_format": FORMAT,
        "catalog_schema": VERSION,
        "containerd_api": API,
    }


def build_commit() -> str | None:
    """Returns the commit that the program was built from; None if the build did not say."""
    try:
        return files("airside").joinpath("commit.txt").read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
