"""The rights of a request's client, stored in the request.

The middleware sets `ACCESS` and `WHO`; the routes read them.
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
    """The rights of a client by the rules, and the scopes that limit them for a session."""

    rights: Rights
    scopes: tuple[Scope, ...] | None = None

    def may_pull(self, repository: Repository) -> bool:
        """Returns True if a blob of the repository may be mounted into another one."""
        return self.rights.may("pull", repository) and (
            self.scopes is None or reads_from(self.scopes, repository)
        )

    def view(self, view: RegistryView) -> RegistryView:
        return visible(view, self.rights)

    def through(self, read_through: ReadThrough) -> ReadThrough:
        return visible_read_through(read_through, self.rights)


ACCESS = web.RequestKey("access", Access)
"""Absent if the client may see everything."""


WHO = web.RequestKey("who", Identity)
"""Present in every request that writes."""


def cache_key(request: web.BaseRequest, target: str) -> str:
    """The key of an answer in the cache; clients that see different repositories differ in it."""
    access = request.get(ACCESS)
    return target if access is None else access.rights.view_key + target
