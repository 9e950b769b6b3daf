"""The log `airside.audit`: a line for each push, deletion, denied request and failed login."""

import logging

from aiohttp import web

from airside.registry.auth.login import Identity
from airside.registry.http.requests import client_of
from airside.registry.rules.access import Need

_LOG = logging.getLogger("airside.audit")


def audit(
    request: web.Request, who: Identity, event: str, needs: tuple[Need, ...], status: int
) -> None:
    fields = {
        "event": event,
        "user": who.name[:128],
        "by": who.how,
        "client": client_of(request),
        "method": request.method,
        "path": request.path[:600],
        "repository": str(needs[0].name) if needs else "",
        "status": status,
    }
    name, where = fields["user"] or "anonymous", f"{request.method} {fields['path']}"
    message = f"{event}: {name} from {fields['client']}: {where}: {status}"
    _LOG.info("%s", message, extra={"fields": fields})


def audit_write(request: web.Request, who: Identity, needs: tuple[Need, ...], status: int) -> None:
    """Records a successful push or deletion; of an upload, only its last step.

    Without needs it is the page's, which records what it does itself.
    """
    if status >= 400 or not needs:
        return
    method, first = request.method, needs[0]
    if method == "PUT" or (method == "POST" and status == 201) or first.action == "delete":
        audit(request, who, first.action, needs, status)
