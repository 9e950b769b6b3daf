"""A pod network that connects nothing: each pod has a network namespace without an interface.

CRI wants to hear of an address all the same, so it is told one that exists nowhere.
"""

import json
from pathlib import Path

ADDRESS = "192.0.2.1"
"""Of TEST-NET-1 (RFC 5737)."""

_VERSION = "0.4.0"
_ADDED = {
    "cniVersion": _VERSION,
    "interfaces": [{"name": "eth0", "sandbox": "none"}],
    "ips": [{"version": "4", "address": f"{ADDRESS}/32", "interface": 0}],
}
_SUPPORTED = {"cniVersion": _VERSION, "supportedVersions": [_VERSION]}
_PLUGIN = f"""#!/bin/sh
case $CNI_COMMAND in
ADD) echo '{json.dumps(_ADDED)}' ;;
VERSION) echo '{json.dumps(_SUPPORTED)}' ;;
esac
"""


def write_network(directory: Path) -> None:
    """The plug-ins and the configuration that CRI looks for in this directory."""
    for name in ("airside-nothing", "loopback"):  # CRI calls `loopback` for each pod
        plugin = directory / name
        plugin.write_text(_PLUGIN)
        plugin.chmod(0o755)
    network = {"cniVersion": _VERSION, "name": "nothing", "plugins": [{"type": "airside-nothing"}]}
    (directory / "nothing.conflist").write_text(json.dumps(network))
