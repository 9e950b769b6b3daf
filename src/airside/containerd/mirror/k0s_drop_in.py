"""The drop-in by which k0s's containerd reads `hosts.toml` files: its `config_path`. Pure.

k0s writes containerd's configuration at each start, without a `config_path`, and merges into it
what `/etc/k0s/containerd.d/*.toml` says of the CRI plugin. It watches that directory, and restarts
containerd when a file changes; containers run on. A `containerd.toml` without k0s's mark is its
owner's: k0s merges nothing then.
"""

from pathlib import Path

from airside.containerd.mirror.managed_block import Foreign, with_lines
from airside.core.errors import ConflictError

MARK = "k0s_managed=true"
_PLUGIN = "io.containerd.grpc.v1.cri"


def drop_in_file(drop_ins: Path) -> Path:
    """Returns our file."""
    return drop_ins / "airside.toml"


def is_merged(config: str | None, *, has_drop_ins: bool) -> bool:
    """Returns True if k0s merges drop-ins, by the text of its `containerd.toml`; None: no file.

    A directory of drop-ins without that file is what a pod sees, whose end would restart containerd
    again.
    """
    return not has_drop_ins if config is None else MARK in config


def with_directory(foreign: Foreign, directory: str, *, made: int | None) -> str:
    """Returns the text of our file. Raises ConflictError if somebody else wrote into it."""
    if foreign.text:
        raise ConflictError(
            "somebody else wrote into it", hint="move these lines into a file of another name"
        )
    lines = [
        "version = 2",
        f'[plugins."{_PLUGIN}".registry]',
        f'config_path = "{directory}"',
    ]
    return with_lines("", lines, first=0, made=made)
