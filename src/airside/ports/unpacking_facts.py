"""Who unpacks the layers of a runtime: Airside itself, or the runtime."""

from collections.abc import Mapping
from dataclasses import dataclass, field

AGENT, UNIT = "agent", "unit"


@dataclass(frozen=True, slots=True)
class UnpackingFacts:
    """Who writes layers into a runtime's snapshots."""

    layers: Mapping[str, int] = field(default_factory=dict)
    """The number of layers unpacked since the connection, by who did: airside, containerd."""
    why_applied: str = ""
    """Why the runtime unpacks all layers; empty if we do."""
    why_unusual: str = ""
    """Why the last single layer was left to the runtime; empty if none was."""
    writes_by: str = ""
    """Whose processes write layers: those of the agent, or of airside-layers@.service (unit); empty
    if the runtime unpacks all layers."""
