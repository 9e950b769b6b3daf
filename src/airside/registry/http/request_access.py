"""What a request may do, and what of it a client may see: kept in the request itself.

The middleware sets `ACCESS` and `WHO`; those who answer read them.
"""

from dataclasses import dataclass

from aiohttp import web

from airside.oci.reference import Repository
from airside.ports.content import RegistryView
from airside.registry.auth.login import Identity
from airside.registry.rules.access import Rights
from airside.registry.rules.credentials import Scope, reads_from
from airside.registry.rules.read_through import ReadThrough
from airside.registry.rules.visibility import visible, visible_read_through


@dataclass(frozen=True, slots=True)
class Access:
    """What the client of a request may do, by the rules; of a session within its scopes."""

    rights: Rights
    scopes: tuple[Scope, ...] | None = None

    def may_pull(self, repository: Repository) -> bool:
        """Whether a blob may be taken from there for another repository."""
        return self.rights.may("pull", repository) and (
            self.scopes is None or reads_from(self.scopes, repository)
        )

    def view(self, view: RegistryView) -> RegistryView:
        return visible(view, self.rights)

    def through(self, read_through: ReadThrough) -> ReadThrough:
        return visible_read_through(read_through, self.rights)


ACCESS = web.RequestKey("access", Access)
"""Absent where nothing is hidden."""


WHO = web.RequestKey("who", Identity)
"""There for every request that writes."""


def cache_key(request: web.BaseRequest, target: str) -> str:
    """By what an answer may be kept: others may see other repositories."""
    access = request.get(ACCESS)
    return target if access is None else access.rights.view_key + target
