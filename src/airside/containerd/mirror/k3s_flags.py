"""K3s's and RKE2's setting for an end to the search: `disable-default-registry-endpoint`. Pure.

With it containerd asks only the endpoints of `registries.yaml` for the registries that it mirrors,
but for those that have `configs` of their own there. It is read from `config.yaml` and from
`config.yaml.d/*.yaml`; ours is in a file of its own there. K3s of before January 2024 does not know
it, logs that and goes on.
"""

import re
from pathlib import Path

from airside.containerd.mirror.managed_block import Foreign, with_lines
from airside.core.errors import ConflictError

FLAG = "disable-default-registry-endpoint"
_SET = re.compile(rf"^[ \t]*[\"']?{FLAG}[\"']?[ \t]*:[ \t]*[\"']?(\w+)", re.MULTILINE)


def flag_file(registries: Path) -> Path:
    """Returns our file, by the path of the `registries.yaml`."""
    return registries.parent / "config.yaml.d" / "airside-mirror.yaml"


def config_files(registries: Path) -> list[Path]:
    """Returns the files that may have the setting, in the order in which K3s reads them."""
    directory = registries.parent
    return [directory / "config.yaml", *sorted((directory / "config.yaml.d").glob("*.yaml"))]


def is_set(texts: list[str]) -> bool:
    """Returns True if the last of these files that has the setting turns it on."""
    values = [match[1] for text in texts for match in _SET.finditer(text)]
    return bool(values) and values[-1].lower() in {"true", "1", "t"}


def with_flag(foreign: Foreign, *, made: int | None) -> str:
    """Returns the text of our file. Raises ConflictError if somebody else wrote into it."""
    if foreign.text:
        raise ConflictError(
            "somebody else wrote into it", hint="move these lines into a file of another name"
        )
    return with_lines("", [f"{FLAG}: true"], first=0, made=made)
