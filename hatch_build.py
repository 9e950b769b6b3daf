"""Compiles `src/airside/containerd/proto/*.proto` to Python modules beside them when building.

A wheel also gets `airside/commit.txt`, the commit that it was built from, if git knows it or
`AIRSIDE_COMMIT` names it.

The modules are no part of the repository: they belong to the installed release of protobuf, which
the lock file pins together with the compiler.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = Path("src/airside/containerd/proto")
LIBRARY = Path("src/airside/page/assets/idiomorph.js")
"""Fetched by `frontend/fetch.sh`; a wheel without it has a page that refreshes more coarsely."""


class CompileProto(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the results packed though git ignores them."""
        source = Path(self.root, "src")
        google = Path(protoc.__file__).parent / "_proto"
        files = sorted(Path(self.root, PROTO).glob("*.proto"))
        flags = [f"-I{source}", f"-I{google}", f"--python_out={source}", f"--pyi_out={source}"]
        if protoc.main(["protoc", *flags, *map(str, files)]):
            raise RuntimeError(f"{PROTO}: protoc failed, see above")
        build_data["artifacts"] += [f"/{PROTO}/*_pb2.py", f"/{PROTO}/*_pb2.pyi", f"/{LIBRARY}"]
        if self.target_name == "wheel" and version == "standard" and (commit := self._commit()):
            made = Path(self.root, "build/commit.txt")
            made.parent.mkdir(exist_ok=True)
            made.write_text(commit + "\n", encoding="ascii")
            build_data["force_include"][str(made)] = "airside/commit.txt"

    def _commit(self) -> str:
        """Returns the commit, with `-dirty` if files differ from it; empty outside a clone."""
        if given := os.environ.get("AIRSIDE_COMMIT"):
            return given
        if not Path(self.root, ".git").exists():
            return ""
        command = ["git", "-C", self.root, "describe", "--always", "--abbrev=40", "--exclude=*"]
        found = subprocess.run([*command, "--dirty"], capture_output=True, text=True, check=False)
        return found.stdout.strip()
