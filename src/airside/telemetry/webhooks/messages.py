"""The body of a message: an event of the catalog as a CloudEvent 1.0 in JSON. Pure.

`docs/webhooks.md` describes it. Its ID is the node's identity and the event's number, so that a
receiver knows a message that it has got twice.
"""

import json
from contextlib import suppress
from typing import Any

from airside.catalog.model import EventRow
from airside.core.rfc3339 import time_text

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX = "io.airside."
_MOST_DETAIL = 8_000


def message_id(node: str, event: EventRow) -> str:
    """Returns the ID of an event's message."""
    return f"{node}-{event.id}"


def message_of(node: str, host: str, event: EventRow) -> bytes:
    """Returns the body. `node`: the catalog's identity; `host`: the name of this machine."""
    value = {
        "specversion": "1.0",
        "id": message_id(node, event),
        "source": f"urn:airside:{node}",
        "type": TYPE_PREFIX + event.kind,
        "time": time_text(event.at),
        "subject": event.reference or event.path or host,
        "datacontenttype": "application/json",
        "data": {
            "schema": 1,
            "host": host,
            "event": event.id,
            "kind": event.kind,
            "path": event.path,
            "reference": event.reference,
            "digest": event.digest,
            "detail": _detail(event.detail),
        },
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _detail(text: str) -> Any:
    """An object if the event recorded one, else its text, of which the beginning is enough."""
    if text.startswith("{"):
        with suppress(ValueError):
            return json.loads(text)
    return text if len(text) <= _MOST_DETAIL else text[:_MOST_DETAIL] + "…"
