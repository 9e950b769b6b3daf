"""Compiles `src/airside/containerd/proto/*.proto` to Python modules beside them when building.

The modules are no part of the repository: they belong to the installed release of protobuf, which
the lock file pins together with the compiler.
"""

from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = Path("src/airside/containerd/proto")


class CompileProto(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and have the results packed though git ignores them."""
        source = Path(self.root, "src")
        google = Path(protoc.__file__).parent / "_proto"
        files = sorted(Path(self.root, PROTO).glob("*.proto"))
        flags = [f"-I{source}", f"-I{google}", f"--python_out={source}", f"--pyi_out={source}"]
        if protoc.main(["protoc", *flags, *map(str, files)]):
            raise RuntimeError(f"{PROTO}: protoc failed, see above")
        build_data["artifacts"] += [f"/{PROTO}/*_pb2.py", f"/{PROTO}/*_pb2.pyi"]
