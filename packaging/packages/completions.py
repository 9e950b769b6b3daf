"""Makes the files by which shells complete `airside`: click's own, where each shell looks."""

from collections.abc import Mapping

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_VARIABLE = "_AIRSIDE_COMPLETE"
_SHELLS: Mapping[str, type[ShellComplete]] = {
    "usr/share/bash-completion/completions/airside": BashComplete,
    "usr/share/zsh/vendor-completions/_airside": ZshComplete,
    "usr/share/fish/vendor_completions.d/airside.fish": FishComplete,
}


def files(command: click.Command) -> Mapping[str, str]:
    """Returns the text of each file by its path below the root."""
    found = {}
    for path, kind in _SHELLS.items():
        shell = kind(command, {}, "airside", _VARIABLE)
        # not source(): that of bash starts a bash to look at its version
        found[path] = shell.source_template % shell.source_vars() + "\n"
    return found
