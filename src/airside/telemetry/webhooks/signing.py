"""Signatures of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time and body. Pure.

A key is text: `whsec_` and base64, or any other text, whose bytes are the key. Several keys give
several signatures, so that receivers can change theirs one after the other.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
LEAST_KEY_BYTES = 16


def parse_keys(text: str) -> list[bytes]:
    """Returns the keys, one of each line. Raises ValueError with a reason that shows no key."""
    keys = [_key(line.strip()) for line in text.splitlines() if line.strip()]
    if not keys:
        raise ValueError("it has no key")
    if min(map(len, keys)) < LEAST_KEY_BYTES:
        raise ValueError(f"a key is shorter than {LEAST_KEY_BYTES} bytes")
    return keys


def _key(line: str) -> bytes:
    if not line.startswith(PREFIX):
        return line.encode()
    try:
        return base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {PREFIX} is not base64") from None


def signed_headers(
    keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes
) -> Mapping[str, str]:
    """Returns the headers that prove who sent a message, and when."""
    text = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        for key in keys
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
