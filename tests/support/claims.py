"""The claim of an agent on a containerd, beside what its work leaves there."""

from airside.containerd.agent_claim import PREFIX
from airside.containerd.client import Client


def work_leases(client: Client) -> list[str]:
    """The leases of the namespace, except that by which an agent claims it."""
    return [lease for lease in client.leases.list() if not lease.startswith(PREFIX)]
