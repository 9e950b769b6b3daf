"""The processors that packages are built for, in the names of Debian, ELF and Python."""

import platform
from dataclasses import dataclass

_MANYLINUX = ("2_34", "2_28", "2_27", "2_26", "2_24", "2_17")
"""glibc releases of wheels that run where the frozen program runs."""


@dataclass(frozen=True)
class Architecture:
    """`name`: Debian's and OCI's. `machine`: of `uname -m`. `elf`: e_machine of its programs."""

    name: str
    machine: str
    elf: int
    legacy_tag: str

    @property
    def triplet(self) -> str:
        return f"{self.machine}-linux-gnu"

    @property
    def wheel_platforms(self) -> list[str]:
        """Returns the platform tags of wheels, the newest glibc first."""
        tags = [f"manylinux_{release}_{self.machine}" for release in _MANYLINUX]
        return [*tags, f"{self.legacy_tag}_{self.machine}"]


ARCHITECTURES = {
    "amd64": Architecture("amd64", "x86_64", 62, "manylinux2014"),
    "arm64": Architecture("arm64", "aarch64", 183, "manylinux2014"),
}


def native() -> Architecture:
    """Returns the architecture of this machine, on which PyInstaller runs. Raises SystemExit."""
    for each in ARCHITECTURES.values():
        if each.machine == platform.machine():
            return each
    raise SystemExit(f"frozen: no build on {platform.machine()}: build on x86_64 or aarch64")
